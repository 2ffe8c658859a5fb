"""The Ray that labelling runs on: a cluster that others have started, or of this machine alone."""

import logging
import os
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import torch

from dav2.labeling.job import LabelingJob
from dav2.labeling.ray_session import ENVIRONMENT, local_ray

_ANSWER_S = 30.0
_MOST_ATTEMPTS = 3
_OUTSIDE = "ray://"

logger = logging.getLogger(__name__)


@contextmanager
def connected(job: LabelingJob) -> Iterator[Any]:
    """Connects to the cluster, or to a Ray of this machine that ends with the block.

    Args:
        job: Says where its workers run.

    Yields:
        The module `ray`, connected.

    Raises:
        ValueError: If the address is none of a cluster's.
        ConnectionError: If no cluster answers there, or not any more.
    """
    address = job.ray.address
    if address is not None and address != "auto":
        _check_address(address)
    with ExitStack() as stack:
        if address is None:
            on_gpu = job.device.type == "cuda"
            num_gpus = torch.cuda.device_count() if on_gpu else 0
            num_cores = os.cpu_count() or 1
            if job.ray.num_workers is not None:  # as many as asked for, on few cores too
                num_cores = max(num_cores, job.ray.num_workers * cores_a_worker(job))
            address = stack.enter_context(local_ray(num_cpus=num_cores, num_gpus=num_gpus))
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", ENVIRONMENT["RAY_USAGE_STATS_ENABLED"])
        import ray

        options: dict[str, Any] = {"configure_logging": False, "log_to_driver": False}
        if is_outside(address):  # else Ray tells its workers where the driver's code lies
            options["runtime_env"] = {"env_vars": {"PYTHONPATH": str(Path.cwd())}}
        try:
            _connect(ray, address, options)
        except (ConnectionError, RuntimeError, ImportError) as error:
            raise ConnectionError(
                f"ray: expected a cluster at {address}, got {one_line(error)}"
            ) from None
        stack.callback(ray.shutdown)
        try:
            yield ray
        except ray.exceptions.RayError as error:
            raise ConnectionError(
                f"ray: expected the cluster to answer, got {reason_of(error)}"
            ) from None


def _connect(ray: Any, address: str, options: dict[str, Any]) -> None:
    """Connects; again where the head failed to start a server for a driver outside the cluster.

    Which it does now and then (Ray 2.60): a fork of the head's that gRPC's threads do not survive.
    """
    for attempts_left in reversed(range(_MOST_ATTEMPTS)):
        try:
            ray.init(address=address, **options)
            return
        except ConnectionAbortedError as error:
            if not attempts_left:
                raise
            logger.warning("%s: %s; trying again", address, one_line(error))


def is_outside(address: str | None) -> bool:
    """Returns whether the driver is none of the cluster's processes: Ray Client streams nothing."""
    return address is not None and address.startswith(_OUTSIDE)


def _check_address(address: str) -> None:
    """Raises an error, in one line, if no cluster can be at an address: Ray waits for minutes."""
    host, _, port = address.removeprefix(_OUTSIDE).rpartition(":")
    if not host or "/" in host or not port.isdigit():
        raise ValueError(
            "ray: expected the host:port of a cluster's head, from outside it with "
            f"{_OUTSIDE} before it, or `auto`, got {address}"
        )
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=_ANSWER_S).close()
    except OSError as error:
        raise ConnectionError(
            f"ray: expected a cluster at {address}, got {error.strerror or error}"
        ) from None


def cores_a_worker(job: LabelingJob) -> int:
    """Returns how many cores a worker takes of its machine."""
    return job.num_threads if job.device.type == "cpu" else 1


def reason_of(error: BaseException) -> str:
    """Returns why a worker failed, in one line; of an error in it rather than of Ray's."""
    return one_line(getattr(error, "cause", None) or error)


def one_line(error: BaseException) -> str:
    """Returns the first line of an error's message, or its kind if it has none."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
