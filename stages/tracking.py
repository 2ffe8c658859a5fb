"""Records a stage's run in MLflow, and its time and memory in `.work/runs.jsonl`."""

import fcntl
import json
import logging
import os
import resource
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8
from pydantic import BaseModel

from stages.digests import LOCK, dvc_digest
from stages.ranks import is_first_rank

EXPERIMENT = "depth"
RUNS = Path(".work/runs.jsonl")
FACTS = Path(".work/run_facts.js")

_FLUSH_AT = 500
_FLUSH_AFTER_S = 15.0
_ATTEMPT = "dav2.attempt"
_LOCK_NUMBER = 0xDA72  # among PostgreSQL's advisory locks, which are all numbers
_REST = 10
"""How many times as long as a failed attempt took a store that does not answer is left alone."""

logger = logging.getLogger(__name__)


class Run:
    """The MLflow run of one stage; on the other ranks of a distributed run it records nothing.

    Metrics are gathered and sent in batches. A tracking server or an artifact store that fails
    later than the start of the run costs the record, never the work: numbers wait until it answers
    again, and what could not be sent until the end is logged as an error. MLflow tries each request
    for four minutes (MLFLOW_HTTP_REQUEST_MAX_RETRIES); so that a lost server costs a tenth of the
    time at most, it is then left alone for ten times as long.
    """

    def __init__(self, client: Any | None = None, run_id: str = "") -> None:
        self.run_id = run_id
        """MLflow's id; empty where nothing is recorded."""
        self.facts: dict[str, Any] = {}
        """What `add_facts` was given."""
        self._client = client
        self._waiting: list[tuple[str, float, int, int]] = []
        self._sent_s = time.monotonic()
        self._away_until_s = 0.0

    def log_metrics(self, metrics: Mapping[str, float], *, step: int = 0) -> None:
        """Records numbers at a step; names may hold slashes, as in `val/delta1`."""
        now_ms = int(time.time() * 1000)
        self._waiting += [(name, float(value), now_ms, step) for name, value in metrics.items()]
        if len(self._waiting) >= _FLUSH_AT or time.monotonic() - self._sent_s > _FLUSH_AFTER_S:
            self._flush()

    def add_facts(self, facts: Mapping[str, Any]) -> None:
        """Adds to the stage's line in `.work/runs.jsonl`; the values are JSON-able."""
        self.facts |= facts

    def log_picture(self, name: str, picture: UInt8[np.ndarray, "H W 3"]) -> None:
        """Keeps a picture as `name` (`validation.png`) among the run's files."""
        if self._client is not None:
            send = partial(self._client.log_image, self.run_id, picture, artifact_file=name)
            self._send(f"keep the picture {name}", send)

    def finish(self, status: str, outputs: Mapping[Path, str]) -> None:
        """Sends what waits and the outputs' hashes; closes the run as `FINISHED` or `FAILED`."""
        self._away_until_s = 0.0  # the last chance
        self._flush()
        if self._client is not None:
            for path, digest in outputs.items():
                name = f"dvc.out.{path.as_posix()}"
                send = partial(self._client.set_tag, self.run_id, name, digest)
                self._send(f"record the hash of {path}", send)
            self._send("close the run", partial(self._client.set_terminated, self.run_id, status))

    def _flush(self) -> None:
        self._sent_s = time.monotonic()
        if self._client is None:
            self._waiting.clear()
            return
        while self._waiting and self._sent_s >= self._away_until_s:
            from mlflow.entities import Metric

            batch = [Metric(*entry) for entry in self._waiting[:1000]]
            send = partial(self._client.log_batch, self.run_id, metrics=batch)
            if not self._send(f"record {len(self._waiting)} numbers", send):
                return  # they wait for the next attempt
            del self._waiting[:1000]

    def _send(self, what: str, send: Callable[[], Any]) -> bool:
        begin_s = time.monotonic()
        if begin_s < self._away_until_s:
            logger.error("MLflow could not %s: it did not answer before", what)
            return False
        is_sent = _attempted(what, send)
        end_s = time.monotonic()
        self._away_until_s = 0.0 if is_sent else end_s + _REST * (end_s - begin_s)
        return is_sent


@contextmanager
def tracked(
    stage: str,
    params: BaseModel,
    *,
    inputs: Mapping[str, Path],
    outputs: Sequence[Path] = (),
) -> Iterator[Run]:
    """Records what happens in the block as one MLflow run and one line of `.work/runs.jsonl`.

    The store is `MLFLOW_TRACKING_URI`, or `mlflow.db` in the project's root. Where `dvc` runs the
    stage, the run carries the stage's full name (`train_student@vit128x6-pseudo`). A block that
    raises leaves a run marked FAILED. On ranks other than zero nothing is recorded.

    Args:
        stage: Name of the stage's module.
        params: Its parameters; nested ones get dotted names.
        inputs: Files and folders it reads, by a word for what they are; recorded with DVC's hash.
        outputs: Files and folders it writes; their hashes are recorded when the block succeeds.

    Raises:
        FileNotFoundError: If an input does not exist.
        ConnectionError: With one line, if the store does not answer.
    """
    if not is_first_rank():
        yield Run()
        return
    with recorded(stage) as facts:
        run = _start(_address(stage), params, inputs)
        facts["run_id"] = run.run_id
        status, digests = "FAILED", {}
        try:
            yield run
            digests = {path: dvc_digest(path) for path in outputs}
            status = "FINISHED"
        finally:
            facts.update(run.facts)
            run.finish(status, digests)


@contextmanager
def recorded(stage: str) -> Iterator[dict[str, Any]]:
    """Appends a line to `.work/runs.jsonl` about the block: status, seconds, memory, device.

    For stages without an MLflow run. Also rewrites `.work/run_facts.js`, which the report shows.
    Where neither can be written, an error is logged and the block's own outcome stands.

    Args:
        stage: Name of the stage's module.

    Yields:
        Further facts of the line; the block may add some.
    """
    facts: dict[str, Any] = {"run_id": None}
    started = datetime.now(UTC)
    begin_s = time.monotonic()
    status = "FAILED"
    try:
        yield facts
        status = "FINISHED"
    finally:
        entry = {
            "stage": _address(stage),
            "status": status,
            "started": started.isoformat(timespec="seconds"),
            "seconds": round(time.monotonic() - begin_s, 2),
            "peak_rss_mb": round(_peak_rss_mb()),
            **_device(),
            **facts,
        }
        try:
            _append_facts(entry)
        except OSError as error:
            logger.error("%s: expected to record a line about the stage, got %s", RUNS, error)


def tracking_uri() -> str:
    """Returns the address of the MLflow store: `MLFLOW_TRACKING_URI` or the project's database."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{_root() / 'mlflow.db'}"


@contextmanager
def store_lock(uri: str) -> Iterator[None]:
    """Holds the lock under which MLflow's tables are created, which fails if two do it at once.

    A file of the project; for PostgreSQL also a lock of its own, since others use that database
    from other folders and machines. Either ends with the process, also by SIGKILL.

    Args:
        uri: Address of the store.
    """
    with _locked(_root() / ".work" / "mlflow.lock"):
        if not uri.startswith("postgresql"):
            yield
            return
        from mlflow.store.db.utils import create_sqlalchemy_engine_with_retry
        from sqlalchemy import text

        engine = create_sqlalchemy_engine_with_retry(uri)  # type: ignore[no-untyped-call]
        with engine.connect() as connection:
            connection.execute(text(f"SELECT pg_advisory_lock({_LOCK_NUMBER})"))
            yield
        engine.dispose()


def _start(address: str, params: BaseModel, inputs: Mapping[str, Path]) -> Run:
    digests = {name: (path, dvc_digest(path)) for name, path in sorted(inputs.items())}
    # Before the import: MLflow reads them once.
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("DO_NOT_TRACK", "true")
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    try:
        return _opened(address, params, digests)
    except (MlflowException, SQLAlchemyError) as error:  # the second: of a database without server
        got = str(error).partition("\n")[0]
        raise ConnectionError(
            f"MLFLOW_TRACKING_URI: expected a tracking store that answers, got {got}"
        ) from None


def _opened(address: str, params: BaseModel, digests: Mapping[str, tuple[Path, str]]) -> Run:
    client, experiment_id = _connect()
    from mlflow.entities import Param

    run = _created(client, experiment_id, address)
    values = [Param(name, str(value)) for name, value in _flat(params.model_dump(mode="json"))]
    for first in range(0, len(values), 100):
        client.log_batch(run.info.run_id, params=values[first : first + 100])
    client.log_inputs(
        run.info.run_id,
        [_dataset(name, path, digest) for name, (path, digest) in digests.items()],
    )
    return Run(client, run.info.run_id)


def _created(client: Any, experiment_id: str, address: str) -> Any:
    """Returns a new run, one even if MLflow asked twice because the first answer was lost."""
    attempt = uuid.uuid4().hex
    run = client.create_run(experiment_id, run_name=address, tags=_tags(address, attempt))
    wanted = f"tags.`{_ATTEMPT}` = '{attempt}'"
    for other in client.search_runs([experiment_id], wanted):
        if other.info.run_id != run.info.run_id:
            client.delete_run(other.info.run_id)
    return run


def _connect() -> tuple[Any, str]:
    """Returns a client and the experiment; the first process of a project creates the database."""
    for noisy in ("alembic", "mlflow.store.db.utils"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    uri = tracking_uri()
    with store_lock(uri):
        from mlflow import MlflowClient

        client = MlflowClient(tracking_uri=uri)
        experiment = client.get_experiment_by_name(EXPERIMENT)
        if experiment is not None:
            return client, experiment.experiment_id
        place = (_root() / "mlruns").as_uri() if uri.startswith("sqlite:") else None
        return client, _new_experiment(client, place)


def _new_experiment(client: Any, place: str | None) -> str:
    from mlflow.exceptions import MlflowException

    try:
        return str(client.create_experiment(EXPERIMENT, artifact_location=place))
    except MlflowException as error:  # another machine was quicker, or the first answer was lost
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
        return str(client.get_experiment_by_name(EXPERIMENT).experiment_id)


def _dataset(name: str, path: Path, digest: str) -> Any:
    from mlflow.entities import Dataset, DatasetInput, InputTag

    source = json.dumps({"uri": path.as_posix()})
    dataset = Dataset(path.as_posix(), digest, source_type="local", source=source)
    return DatasetInput(dataset, [InputTag("mlflow.data.context", name)])


def _tags(address: str, attempt: str) -> dict[str, str]:
    tags = {"dvc.stage": address, _ATTEMPT: attempt}
    commit = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True)
    if commit.returncode == 0:
        tags |= {
            "git.commit": commit.stdout.strip(),
            "mlflow.source.git.commit": commit.stdout[:40],
        }
    if LOCK.is_file():
        tags["dvc.lock.md5"] = dvc_digest(LOCK)
    return tags


def _attempted(what: str, send: Callable[[], Any]) -> bool:
    from mlflow.exceptions import MlflowException

    try:
        send()
    except (MlflowException, OSError) as error:  # OSError: of an artifact store
        logger.error("MLflow could not %s: %s", what, str(error).partition("\n")[0])
        return False
    return True


def _append_facts(facts: dict[str, Any]) -> None:
    with _locked(RUNS.with_suffix(".lock")):
        before = RUNS.read_bytes() if RUNS.exists() else b""
        torn = before and not before.endswith(b"\n")
        with RUNS.open("a", encoding="utf-8") as stream:
            stream.write(("\n" if torn else "") + json.dumps(facts, sort_keys=True) + "\n")
        entries = [_read_facts(line) for line in before.splitlines()]
        if None in entries:
            logger.warning("%s: expected JSON, got %d torn lines", RUNS, entries.count(None))
        last = {entry["stage"]: entry for entry in [*entries, facts] if entry is not None}
        text = json.dumps(list(last.values()), sort_keys=True, indent=1).replace("<", "\\u003c")
        part = FACTS.with_suffix(".part")
        part.write_text(f"window.runFacts = {text};\n", encoding="utf-8")
        part.replace(FACTS)


def _read_facts(line: bytes) -> dict[str, Any] | None:
    """Returns a line's facts; None of a line that a full disk or a loss of power tore."""
    try:
        entry = json.loads(line)
    except ValueError:
        return None
    return entry if isinstance(entry, dict) and "stage" in entry else None


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)  # freed when the file closes, also by SIGKILL
        yield


def _root() -> Path:
    """Returns the project's root; `dvc exp run --temp` works in a copy below its `.dvc/tmp`."""
    here = Path.cwd()
    return here if ".dvc" not in here.parts else Path(*here.parts[: here.parts.index(".dvc")])


def _address(stage: str) -> str:
    address = os.environ.get("DVC_STAGE", stage)
    return address if address.split("@")[0] == stage else stage


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _peak_rss_mb() -> float:
    """Returns the largest resident size of this process or of one finished child, megabytes."""
    peak = max(
        resource.getrusage(who).ru_maxrss
        for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    )
    return peak / 1e6 if sys.platform == "darwin" else peak / 1e3  # bytes there, kibibytes here


def _device() -> dict[str, Any]:
    torch: Any = sys.modules.get("torch")  # who did not import it used no accelerator
    if torch is None or not torch.cuda.is_initialized():
        return {"device": "cpu"}
    peak_mb = torch.cuda.max_memory_allocated() / 1e6
    return {"device": torch.cuda.get_device_name(), "peak_gpu_mb": round(peak_mb)}
