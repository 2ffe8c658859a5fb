"""Files that appear whole or not at all."""

import glob
import hashlib
import json
import os
import platform
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


@contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """Yields a name beside `path` to write a file or a folder to; renames it to `path` on success.

    What was written is flushed to disk before the rename, the rename itself after it. An existing
    `path` is replaced. When the block raises, what was written is removed and `path` is left as it
    was; what a killed process of this machine left is removed by the next one that writes `path`.

    Args:
        path: The file or folder to produce. Its parent is created.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    _remove_leftovers(path)
    prefix = f".{path.name}.{platform.node()}-{os.getpid()}."
    holder = Path(tempfile.mkdtemp(prefix=prefix, suffix=".part", dir=path.parent))
    written = holder / path.name
    try:
        yield written
        for entry in [written, *written.rglob("*")] if written.is_dir() else [written]:
            _flush(entry)
        if path.is_dir() and not path.is_symlink():
            path.rename(holder / "replaced")
        written.rename(path)
        _flush(path.parent)
    finally:
        shutil.rmtree(holder)


def write_json(content: Any, path: Path) -> None:
    """Writes `content` as sorted JSON, whole; refuses NaN and infinity with `ValueError`."""
    text = json.dumps(content, sort_keys=True, indent=2, ensure_ascii=False, allow_nan=False)
    with written_whole(path) as written:
        written.write_text(text + "\n", encoding="utf-8")


def sha256_of(path: Path) -> str:
    """Returns the SHA-256 of a file's bytes, 64 hexadecimal digits."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _remove_leftovers(path: Path) -> None:
    here = f".{path.name}.{platform.node()}-"
    for leftover in path.parent.glob(f"{glob.escape(here)}*.part"):
        pid = leftover.name.removeprefix(here).partition(".")[0]
        if pid.isdigit() and not _is_alive(int(pid)):
            shutil.rmtree(leftover)


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
