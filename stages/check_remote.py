"""Compares the team's DVC remote with dvc.lock: names what is missing or damaged in it.

`python -m stages.check_remote` reads all of it, `--quick` asks only what is there; `--repair` puts
back what is missing or damaged from this machine's cache. docs/operations.md tells when.
"""

import argparse
import hashlib
import json
import logging
import sys
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from typing import Any

from stages.program import run as run_program

NUM_READERS = 16
CHUNK_BYTES = 1 << 20

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Problem:
    """An object of the remote that is not what dvc.lock says."""

    object_id: str
    path: str
    """What it is the content of; of a folder's list, the folder."""
    got: str

    def __str__(self) -> str:
        """Returns the line about it."""
        return f"{self.path}: expected object {self.object_id} in the remote, got {self.got}"


def main(*, quick: bool, repair: bool) -> None:
    """Logs one line for each object that is missing or damaged, and how many there are.

    Args:
        quick: Ask only whether they are there.
        repair: Put them back from this machine's cache.

    Raises:
        SystemExit: With status 1, if some are left.
        ValueError: If no remote is configured.
        OSError: If it does not answer.
    """
    from botocore.exceptions import BotoCoreError  # type: ignore[import-untyped]
    from dvc.exceptions import DvcException
    from dvc.repo import Repo

    try:
        with closing(Repo()) as repo:
            remote = repo.cloud.get_remote_odb(None, "check_remote")
            wanted, problems = check(locked_objects(repo), remote, repo.cache.local, quick=quick)
            for problem in problems:
                logger.error("%s", problem)
            num_left = len(problems)
            if repair:
                num_left -= _repaired(problems, remote, repo.cache.local)
    except DvcException as error:
        raise ValueError(str(error).replace("\n", " ")) from None
    except BotoCoreError as error:
        raise ConnectionError(f"expected a remote that answers, got {error}") from None
    logger.info("%d of %d objects are %s", wanted - num_left, wanted, "there" if quick else "whole")
    if num_left:
        raise SystemExit(1)


def locked_objects(repo: Any) -> dict[str, str]:
    """Returns the output of each object that dvc.lock names and a remote keeps."""
    return {
        str(out.hash_info.value): str(out.def_path)
        for out in repo.index.outs
        if out.use_cache and out.can_push and out.hash_info
    }


def check(
    locked: Mapping[str, str], remote: Any, cache: Any, *, quick: bool
) -> tuple[int, list[Problem]]:
    """Returns how many objects there should be and those that are not as they should.

    The members of a folder whose list is neither in the remote nor in the cache are not known, and
    not counted.

    Args:
        locked: Path by object, from `locked_objects`.
        remote: DVC's object database of the remote.
        cache: That of this machine.
        quick: Do not read what is there.
    """
    present = set(remote.all())
    lists = {name: path for name, path in locked.items() if name.endswith(".dir")}
    wanted = {name: path for name, path in locked.items() if name not in lists}
    problems = []
    for name, path in lists.items():
        problem, content = _read(name, path, remote, present)
        if problem:
            problems.append(problem)
            _, content = _read(name, path, cache, {name})
        for entry in json.loads(content) if content else []:
            wanted[entry["md5"]] = f"{path}/{entry['relpath']}"
    if quick:
        found = [Problem(*entry, "none") for entry in wanted.items() if entry[0] not in present]
    else:
        with ThreadPoolExecutor(NUM_READERS) as pool:
            jobs = [pool.submit(_problem, *entry, remote, present) for entry in wanted.items()]
            found = [problem for job in jobs if (problem := job.result())]
    return len(lists) + len(wanted), problems + sorted(found, key=str)


def _read(name: str, path: str, store: Any, present: set[str]) -> tuple[Problem | None, bytes]:
    """Returns a small object that is whole, or what is wrong with it."""
    problem = _problem(name, path, store, present)
    if problem:
        return problem, b""
    return None, b"".join(_chunks(name, store))


def _problem(name: str, path: str, store: Any, present: set[str]) -> Problem | None:
    if name not in present:
        return Problem(name, path, "none")
    found = hashlib.md5(usedforsecurity=False)
    try:
        for chunk in _chunks(name, store):
            found.update(chunk)
    except FileNotFoundError:
        return Problem(name, path, "none")
    if found.hexdigest() != name.removesuffix(".dir"):
        return Problem(name, path, f"bytes with hash {found.hexdigest()}")
    return None


def _chunks(name: str, store: Any) -> Iterator[bytes]:
    with store.fs.open(store.oid_to_path(name), "rb") as stream:
        while chunk := stream.read(CHUNK_BYTES):
            yield chunk


def _repaired(problems: list[Problem], remote: Any, cache: Any) -> int:
    """Puts objects back; returns how many. Lists of folders come last, as in DVC's own push."""
    num_repaired = 0
    for problem in sorted(problems, key=lambda problem: problem.object_id.endswith(".dir")):
        name = problem.object_id
        if local := _problem(name, problem.path, cache, {name}):
            logger.error("%s: expected it in this cache (dvc repro), got %s", name, local.got)
            continue
        target = remote.oid_to_path(name)
        remote.fs.put_file(cache.oid_to_path(name), target)
        logger.info("%s: put back from this cache", name)
        num_repaired += 1
    return num_repaired


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    logging.getLogger("aiobotocore").setLevel(logging.WARNING)  # "Found credentials in ..."
    parser = argparse.ArgumentParser(prog="python -m stages.check_remote", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="ask only what is there")
    parser.add_argument("--repair", action="store_true", help="put back from this cache")
    run_program("check_remote", main, **vars(parser.parse_args(sys.argv[1:])))
