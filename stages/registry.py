"""The model registry: who is called what, and the lock under which that changes.

A registered model is a family: versions that can stand in for one another, since they have one
encoder and answer in one unit. Who serves is told by the aliases alone.
"""

import os
import re
import signal
import socket
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from stages.tracking import store_lock, tracking_uri

CHAMPION = "champion"
CHALLENGER = "challenger"
PREVIOUS = "previous"

LOCK_SUFFIX = ".lock"
_POLL_S = 0.3


def connect() -> Any:
    """Returns a client of the store that `stages.tracking` names, and points MLflow there."""
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("DO_NOT_TRACK", "true")
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    # Artifacts go through the server: who reaches it need not reach its store.
    os.environ.setdefault("MLFLOW_ENABLE_PROXY_MULTIPART_DOWNLOAD", "false")
    os.environ.setdefault("MLFLOW_ENABLE_PROXY_MULTIPART_UPLOAD", "false")
    import mlflow

    uri = tracking_uri()
    mlflow.set_tracking_uri(uri)
    mlflow.set_registry_uri(uri)
    with store_lock(uri):  # who comes first creates the tables
        client = mlflow.MlflowClient(tracking_uri=uri, registry_uri=uri)
        client.search_registered_models(max_results=1)
    return client


def registered_name(weights: Path) -> str:
    """Returns the family of a checkpoint: `depth-relative-vits`, `depth-metric-indoor-vits`.

    Raises:
        ValueError: If it is no checkpoint, or a metric one of no domain.
    """
    from dav2.models.checkpoints import load

    network, metadata = load(weights)
    if network.config.max_depth_m is None:
        return f"depth-relative-{network.config.encoder}"
    if not metadata.get("domain"):
        raise ValueError(f"{weights}: expected a metric model with a domain, got none")
    return f"depth-metric-{metadata['domain']}-{network.config.encoder}"


def aliases(client: Any, name: str) -> dict[str, str]:
    """Returns the version of each alias of a registered model, read at once.

    Raises:
        ValueError: If no model of that name is registered.
    """
    from mlflow.exceptions import MlflowException

    try:
        found = client.get_registered_model(name).aliases
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        known = [model.name for model in client.search_registered_models()]
        shown = ", ".join(sorted(known)) or "none (python -m stages.register <model>)"
        raise ValueError(f"{name}: expected a registered model, got {shown}") from None
    return {alias: str(version) for alias, version in found.items()}


def model_uri(version: str) -> str:
    """Returns MLflow's address of `<registered model>@<alias>` or `<registered model>/<version>`.

    Raises:
        ValueError: If it is neither.
    """
    if not re.fullmatch(r"[^@/:]+(@[\w-]+|/\d+)", version):
        raise ValueError(
            f"{version}: expected <registered model>@<alias> or <registered model>/<version>"
        )
    return f"models:/{version}"


def fetch_weights(uri: str, folder: Path) -> Path:
    """Downloads a registered model and returns its safetensors file; `connect` comes first.

    Args:
        uri: As `models:/depth-relative-vits@champion` or `models:/depth-relative-vits/3`.
        folder: To download to; created.

    Raises:
        ValueError: If there is no such version, or it holds no weights of ours.
    """
    import mlflow

    folder.mkdir(parents=True, exist_ok=True)
    try:
        place = mlflow.artifacts.download_artifacts(artifact_uri=uri, dst_path=str(folder))
    except mlflow.exceptions.MlflowException as error:
        raise ValueError(f"{uri}: expected a registered model, got {_first_line(error)}") from None
    found = sorted(Path(place).glob("artifacts/*.safetensors"))
    if len(found) != 1:
        raise ValueError(f"{uri}: expected one file of weights, got {len(found)}")
    return found[0]


@contextmanager
def exclusive(client: Any, name: str, *, patience_s: float = 60.0) -> Iterator[None]:
    """Holds the lock of a registered model, on whatever machine the others run.

    The lock is a registered model called `<name>.lock`: names are unique in MLflow's database, so
    that of several processes one creates it, be the store a file or a server. MLflow offers no
    other conditional write.

    Args:
        client: From `connect`.
        name: Registered model that is to change.
        patience_s: How long to wait for another holder.

    Raises:
        TimeoutError: If another holds it still; with one line about who does.
    """
    until_s = time.monotonic() + patience_s
    while not _try_lock(client, name):
        if time.monotonic() > until_s:
            raise TimeoutError(
                f"{name}: expected its lock to be free within {patience_s:g} s, got it held by "
                f"{_holder(client, name)} (if that is gone: python -m stages.promote "
                f"{name} --unlock)"
            )
        time.sleep(_POLL_S)
    try:
        with _ended_by_sigterm():
            yield
    finally:
        unlock(client, name)


def unlock(client: Any, name: str) -> None:
    """Removes the lock of a registered model, whoever holds it; nothing if nobody does."""
    from mlflow.exceptions import MlflowException

    try:
        client.delete_registered_model(name + LOCK_SUFFIX)
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise


@contextmanager
def _ended_by_sigterm() -> Iterator[None]:
    """Makes SIGTERM, by which Prefect cancels, an exit that frees the lock."""
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread may handle signals
        return
    before = signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _try_lock(client: Any, name: str) -> bool:
    from mlflow.exceptions import MlflowException

    holder = f"process {os.getpid()} on {socket.gethostname()}"
    since = datetime.now(UTC).isoformat(timespec="seconds")
    holder += f" since {since} ({uuid.uuid4().hex[:8]})"
    try:
        client.create_registered_model(name + LOCK_SUFFIX, description=f"Held by {holder}")
    except MlflowException as error:
        if error.error_code == "RESOURCE_ALREADY_EXISTS":
            return _holder(client, name) == holder  # the server took it, its answer was lost
        if error.error_code == "RESOURCE_DOES_NOT_EXIST":
            return False  # it was freed while MLflow looked up whose it is
        raise
    return True


def _holder(client: Any, name: str) -> str:
    found = client.search_registered_models(filter_string=f"name = '{name}{LOCK_SUFFIX}'")
    return str(found[0].description).removeprefix("Held by ") if found else "nobody any more"


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0]
