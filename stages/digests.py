"""The hashes by which DVC knows files and folders, so that other records can name the same data."""

import hashlib
import json
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

LOCK = Path("dvc.lock")


def dvc_digest(path: Path, lock: Path = LOCK) -> str:
    """Returns DVC's hash of a file or a folder, as it stands in dvc.lock.

    A file is read. A folder's hash is taken from dvc.lock when that names the folder with the same
    size and number of files, since folders may hold terabytes; else it is computed as DVC does it.

    Args:
        path: File or folder, relative to the project.
        lock: DVC's lock file; need not exist.

    Returns:
        32 hexadecimal digits, and `.dir` after them for a folder.

    Raises:
        FileNotFoundError: If there is nothing at `path`.
    """
    if path.is_file():
        return _md5(path)
    if not path.is_dir():
        raise FileNotFoundError(f"{path}: expected a file or a folder, got nothing there")
    files = sorted(entry for entry in path.rglob("*") if entry.is_file())
    known = locked_outputs(lock).get(path.as_posix(), {})
    size = sum(file.stat().st_size for file in files)
    if known.get("nfiles") == len(files) and known.get("size") == size:
        return str(known["md5"])
    return _folder_md5(path, files)


def locked_outputs(lock: Path = LOCK) -> dict[str, dict[str, Any]]:
    """Returns dvc.lock's entry (`md5`, `size`, `nfiles`) of every output by path; {} without it."""
    if not lock.is_file():
        return {}
    stages = (YAML(typ="safe").load(lock) or {}).get("stages") or {}
    return {out["path"]: out for stage in stages.values() for out in stage.get("outs", [])}


def _folder_md5(folder: Path, files: list[Path]) -> str:
    entries = [
        {"md5": _md5(file), "relpath": file.relative_to(folder).as_posix()} for file in files
    ]
    entries.sort(key=lambda entry: entry["relpath"])  # as text, which Path does not sort by
    text = json.dumps(entries, sort_keys=True)  # DVC hashes the list as this JSON
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest() + ".dir"


def _md5(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
