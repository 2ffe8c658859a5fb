"""Writes into dvc.yaml which of our own modules each stage depends on (`make deps`)."""

import re
import sys
from pathlib import Path

from dav2.data.files import written_whole
from stages.imports import closure, imported

PIPELINE = Path("dvc.yaml")
STAGE = re.compile(r"^  (\w+):$")
COMMAND = re.compile(r"python -m stages\.(\w+)")
OURS = re.compile(r"^\s*- (?:dav2|stages)/[\w/]+\.py$")


def main(check: bool) -> None:
    """Rewrites the code dependencies of every stage; with `check` only compares.

    Raises:
        SystemExit: If `check` is set and dvc.yaml is not what would be written.
    """
    before = PIPELINE.read_text(encoding="utf-8")
    after = with_code_dependencies(before)
    if check and after != before:
        raise SystemExit(f"{PIPELINE}: code dependencies are out of date, run `make deps`")
    if not check:
        with written_whole(PIPELINE) as written:
            written.write_text(after, encoding="utf-8")


def with_code_dependencies(pipeline: str, root: Path = Path()) -> str:
    """Returns the text of dvc.yaml with the modules of each stage at the end of its `deps`.

    Args:
        pipeline: Text of dvc.yaml; every stage has a block `deps:` and runs one `stages.<module>`.
        root: Folder that holds the packages.
    """
    head, *blocks = _split_stages(pipeline)
    return head + "".join(_with_modules(block, root) for block in blocks)


def modules_of(stage: str, root: Path = Path()) -> list[str]:
    """Returns the files of ours that a stage's module imports, sorted, relative to `root`.

    `ingest` reads by the reader that its source names, which dvc.yaml states itself; what readers
    import stands here.
    """
    names = {f"stages.{stage}"}
    if stage == "ingest":
        readers = _readers(root)
        names |= {name for reader in readers for name in imported(readers[reader], root)}
        names -= set(readers)
    return [path.relative_to(root).as_posix() for path in closure(names, root).values()]


def _readers(root: Path) -> dict[str, Path]:
    """Returns the modules that `open_dataset` imports in its branches."""
    opener = root / "dav2" / "data" / "open.py"
    branches = imported(opener, root) - imported(opener, root, top_level_only=True)
    return {name: path for name, path in closure(branches, root).items() if name in branches}


def _split_stages(pipeline: str) -> list[str]:
    """Returns what stands before the first stage, then one text per stage."""
    texts = [""]
    for line in pipeline.splitlines(keepends=True):
        if STAGE.match(line.rstrip("\n")):
            texts.append("")
        texts[-1] += line
    return texts


def _with_modules(block: str, root: Path) -> str:
    command = COMMAND.search(block)
    if command is None:
        return block
    kept = [line for line in block.splitlines() if not OURS.match(line)]
    start = next(i for i, line in enumerate(kept) if line.strip() in ("deps:", "deps: []"))
    indent = kept[start][: -len(kept[start].lstrip())]
    kept[start] = f"{indent}deps:"
    end = start + 1
    while end < len(kept) and kept[end].startswith(f"{indent}  - "):
        end += 1
    kept[end:end] = [f"{indent}  - {path}" for path in modules_of(command.group(1), root)]
    return "\n".join(kept) + "\n"


if __name__ == "__main__":
    main(check="--check" in sys.argv[1:])
