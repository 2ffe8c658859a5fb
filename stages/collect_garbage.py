"""Removes work, cached data and locked stages that nothing refers to any more (`make gc`)."""

import argparse
import json
import logging
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import psutil

from dav2.data.files import written_whole
from stages.digests import LOCK, locked_outputs
from stages.fingerprint import WORK

FINGERPRINT = re.compile(r"[0-9a-f]{16}")
KEPT_A_STAGE = 3
KEPT_DAYS = 14.0
LABELS = Path("data/training/pseudo")
PHOTOGRAPHS = Path("data/gated/unlabelled.parquet")

logger = logging.getLogger(__name__)


def main(arguments: list[str]) -> None:
    """Removes what `stale_stages`, `stale_work` and `stale_shards` list, then what `dvc gc` finds.

    A dry run counts what stale stages refer to as still in use. `dvc gc` keeps what the working
    tree, any branch, tag or experiment refers to.

    Args:
        arguments: Of the command line: `--dry-run`, `--keep`, `--days`, `--workspace-only`.

    Raises:
        SystemExit: With one line, if a rebuild is running, the pipeline cannot be read, or `dvc gc`
            fails.
    """
    options = _parse(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    if running := running_stages():
        raise SystemExit(f"collect_garbage: expected no rebuild to be running, got {running}")
    try:
        withdrawn = stale_stages()
        stale = stale_work(keep=options.keep, days=options.days)
        stale += [folder for folder in stale_shards() if folder.parent not in stale]
    except (ValueError, OSError) as error:
        raise SystemExit(f"collect_garbage: {error}") from None
    for name in withdrawn:
        logger.info("%s: %s  %s", LOCK, name, "stale" if options.dry_run else "gone")
    if withdrawn and not options.dry_run:
        _unlock(withdrawn)
    freed = 0
    for folder in stale:
        size = _size(folder)
        freed += size
        logger.info("%s  %.1f MB", folder.as_posix(), size / 1e6)
        if not options.dry_run:
            shutil.rmtree(folder)
    logger.info("%s: %.1f MB of work %s", WORK, freed / 1e6, "stale" if options.dry_run else "gone")
    command = [sys.executable, "-m", "dvc", "gc", "--workspace", "--force"]
    if not options.workspace_only:
        command += ["--all-branches", "--all-tags", "--all-experiments"]
    done = subprocess.run(command + ["--dry"] * options.dry_run)
    if done.returncode:
        raise SystemExit(f"dvc gc: expected exit status 0, got {done.returncode}")


def stale_stages() -> list[str]:
    """Returns the stages that dvc.lock knows but the pipeline has no more, in the lock's order.

    DVC keeps such entries for good, and with them the names of outputs that are no more.

    Raises:
        ValueError: If DVC cannot read the pipeline.
    """
    if not LOCK.is_file():
        return []
    from dvc.exceptions import DvcException
    from dvc.repo import Repo
    from dvc.utils.serialize import load_yaml

    try:
        locked = load_yaml(LOCK).get("stages") or {}
        with Repo() as repo:
            known = {stage.addressing for stage in repo.index.stages}
    except DvcException as error:
        raise ValueError(
            f"dvc.yaml: expected a pipeline that DVC reads, got {' '.join(str(error).split())}"
        ) from None
    return [name for name in locked if name not in known]


def stale_work(*, keep: int, days: float, work: Path = WORK, root: Path = Path()) -> list[Path]:
    """Returns the folders `.work/<stage>/<fingerprint>` that nothing refers to, sorted.

    A current output refers to a folder whose fingerprint, or that of something directly in it,
    stands in one of its JSON files or in the header of its weights. Without a reference a folder
    may be the work of an interrupted run: the newest few of a stage are kept, for a while.

    Args:
        keep: How many unreferenced folders of a stage are kept, the newest.
        days: Days after the last change for which they are.
        work: Folder of all work.
        root: Folder with dvc.lock.
    """
    named = _named_by_outputs(root)
    oldest_s = time.time() - days * 86400
    stale = []
    for stage in sorted(path for path in work.glob("*") if path.is_dir()):
        folders = [path for path in stage.iterdir() if FINGERPRINT.fullmatch(path.name)]
        others = [path for path in folders if not named & {path.name, *_inside(path)}]
        others.sort(key=lambda path: (_changed_s(path), path.name), reverse=True)
        stale += others[keep:] + [path for path in others[:keep] if _changed_s(path) < oldest_s]
    return sorted(stale)


def stale_shards(root: Path = Path()) -> list[Path]:
    """Returns shard folders of the current labels' recipe that hold no current photograph, sorted.

    A withdrawn or changed photograph would stay in `.work/pseudo_label/<recipe>` for ever, since
    the recipe is in use. Kept are the shards of which the labels' `shards.json` has the checksum,
    and those that the current photographs are divided into: an interrupted labelling goes on.

    Args:
        root: Folder of the project, with params.yaml.

    Raises:
        FileNotFoundError: If there are photographs but no params.yaml.
        ValueError: If section `pseudo_label` does not fit, or the photographs are no manifest.
    """
    labels = root / LABELS
    if not (labels / "summary.json").is_file():
        return []
    recipe = json.loads((labels / "summary.json").read_bytes())["recipe"]
    named = json.loads((labels / "shards.json").read_bytes())
    store = root / WORK / "pseudo_label" / recipe
    planned = _planned_shards(root, recipe)
    return sorted(
        folder
        for folder in store.glob("[!.]*")
        if folder.is_dir() and folder.name not in planned and not _is_named(folder, named)
    )


def running_stages(root: Path = Path()) -> list[str]:
    """Returns the commands of living processes that hold outputs of the project for writing."""
    held = root / ".dvc" / "tmp" / "rwlock"
    if not held.is_file() or not held.read_text(encoding="utf-8").strip():
        return []
    writers = json.loads(held.read_text(encoding="utf-8")).get("write", {}).values()
    return sorted({writer["cmd"] for writer in writers if psutil.pid_exists(writer["pid"])})


def _unlock(stages: list[str]) -> None:
    """Removes stages from dvc.lock; the rest stays as DVC wrote it, to the byte."""
    from dvc.utils.serialize import dumps_yaml, parse_yaml_for_update

    content = parse_yaml_for_update(LOCK.read_text(encoding="utf-8"), LOCK)
    for name in stages:
        del content["stages"][name]
    with written_whole(LOCK) as written:
        written.write_text(dumps_yaml(content), encoding="utf-8")


def _planned_shards(root: Path, recipe: str) -> set[str]:
    """Returns the names of the folders that a labelling of the current photographs makes."""
    import pandas as pd

    from dav2.labeling.plan import plan_shards
    from stages.labelling_job import PseudoLabelParams
    from stages.params import PARAMS_FILE, load

    if not (root / PHOTOGRAPHS).is_file():
        return set()
    columns = ["sample_id", "source", "content_hash", "decoder"]  # a manifest of older code will do
    manifest = pd.read_parquet(root / PHOTOGRAPHS, columns=columns)
    if manifest.empty:
        return set()
    params = load("pseudo_label", PseudoLabelParams, root / PARAMS_FILE)
    shards = plan_shards(manifest, samples_per_shard=params.samples_per_shard, recipe=recipe)
    return {f"{shard.name}-{shard.key}" for shard in shards}


def _is_named(folder: Path, named: Mapping[str, Any]) -> bool:
    """Says whether a committed shard is one of those published, by name and checksum."""
    record = folder / "record.json"
    published = named.get(folder.name.rpartition("-")[0])
    if published is None or not record.is_file():
        return False
    return bool(json.loads(record.read_bytes())["tar"]["sha256"] == published["sha256"])


def _named_by_outputs(root: Path) -> set[str]:
    """Returns every fingerprint that stands in the outputs that dvc.lock knows."""
    found: set[str] = set()
    for output in locked_outputs(root / "dvc.lock"):
        place = root / output
        for file in place.rglob("*") if place.is_dir() else [place]:
            if file.is_file():
                found |= _fingerprints_of(file)
    return found


def _fingerprints_of(file: Path) -> set[str]:
    if file.suffix == ".json":
        return set(re.findall(r"\b[0-9a-f]{16}\b", file.read_text(encoding="utf-8")))
    if file.suffix == ".safetensors":
        with file.open("rb") as stream:
            # The header begins with its length; ours stays far under the limit.
            length = min(int.from_bytes(stream.read(8), "little"), 10_000_000)
            header = stream.read(length).decode("utf-8", errors="replace")
        return set(re.findall(r"\b[0-9a-f]{16}\b", header))
    return set()


def _inside(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def _changed_s(folder: Path) -> float:
    return max(path.stat().st_mtime for path in [folder, *folder.rglob("*")])


def _size(folder: Path) -> int:
    """Returns the bytes that removing a folder frees: files linked elsewhere count nothing."""
    files = (path.stat() for path in folder.rglob("*") if path.is_file())
    return sum(file.st_size for file in files if file.st_nlink == 1)


def _parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m stages.collect_garbage", description=__doc__)
    parser.add_argument("--dry-run", action="store_true", help="only list")
    parser.add_argument(
        "--keep", type=int, default=KEPT_A_STAGE, help="unreferenced folders kept of a stage"
    )
    parser.add_argument("--days", type=float, default=KEPT_DAYS, help="... if changed within these")
    parser.add_argument(
        "--workspace-only",
        action="store_true",
        help="drop cached data of other branches, tags and experiments too",
    )
    return parser.parse_args(arguments)


if __name__ == "__main__":
    main(sys.argv[1:])
