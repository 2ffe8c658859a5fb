"""Says whether a rebuild can work here, and what it would run (`make doctor`)."""

import importlib.metadata
import logging
import os
import platform
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from packaging.requirements import InvalidRequirement, Requirement

from stages.params import PARAMS_FILE

LOCK = Path("requirements.lock")
MIN_FREE_GB = 2.0
"""What a rebuild of the built-in data takes."""
PROBES = (
    ("torch", "import torch; torch.ones(2).sum()"),
    # A torch and a torchvision of different builds: no operator torchvision::nms.
    ("torchvision", "import torch, torchvision; torchvision.ops.nms"),
    ("timm", "import timm"),
    ("lightning", "import lightning"),
    ("mlflow", "import mlflow"),
    ("prefect", "import prefect"),
    ("dvc", "import dvc.repo"),
    ("great-expectations", "import great_expectations"),
    ("mitsuba", "import mitsuba; mitsuba.set_variant('scalar_rgb')"),
)
"""Packages whose import is tried, each in a process of its own."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the diagnosis."""

    kind: Literal["ok", "note", "broken"]
    text: str


def main() -> int:
    """Logs one line a finding, by topic; returns 1 if something is broken."""
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    logging.getLogger("dvc").setLevel(logging.CRITICAL)
    topics: list[tuple[str, Callable[[], list[Finding]]]] = [
        ("Versions", versions),
        ("Devices", devices),
        ("Disk", disk),
        ("Parameters", parameters),
        ("Rebuild", rebuild),
    ]
    num_broken = 0
    for topic, check in topics:
        logger.info("%s", topic)
        for finding in check():
            num_broken += finding.kind == "broken"
            mark = {"ok": "  ok     ", "note": "         ", "broken": "  BROKEN "}[finding.kind]
            logger.info("%s%s", mark, finding.text)
    logger.info(
        "%s", "Nothing is broken." if not num_broken else f"{num_broken} broken, see above."
    )
    return 1 if num_broken else 0


def versions() -> list[Finding]:
    """Compares what is installed with requirements.lock and tries the imports that can break."""
    python = platform.python_version()
    found = [
        Finding("ok", f"Python {python}")
        if sys.version_info >= (3, 11)
        else Finding("broken", f"Python: expected 3.11 or newer, got {python}")
    ]
    if not LOCK.is_file():
        found.append(Finding("broken", f"{LOCK}: expected the pinned packages, got no file"))
    else:
        other = differing(LOCK.read_text(encoding="utf-8").splitlines())
        found += [Finding("broken", f"{line} (make install)") for line in other]
        if not other:
            found.append(Finding("ok", f"every package as in {LOCK}"))
    with ThreadPoolExecutor(2) as pool:
        return found + list(pool.map(_probe, *zip(*PROBES, strict=True)))


def differing(pins: Iterable[str]) -> list[str]:
    """Returns a line for each pinned package that is missing here or has another version.

    Args:
        pins: Lines of a requirements file; pins for other systems are passed over.
    """
    found = []
    for line in pins:
        try:
            pin = Requirement(line.rstrip("\\ "))
        except InvalidRequirement:
            continue  # a hash, a comment
        if pin.marker is not None and not pin.marker.evaluate():
            continue
        try:
            version = importlib.metadata.version(pin.name)
        except importlib.metadata.PackageNotFoundError:
            version = "none"
        if version == "none" or not pin.specifier.contains(version, prereleases=True):
            found.append(f"{pin.name}: expected {pin.specifier}, got {version}")
    return found


def devices() -> list[Finding]:
    """Names processor, threads, memory and accelerators."""
    import psutil

    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    memory_gb = psutil.virtual_memory().total / 1e9
    found = [Finding("ok", f"{_processor()}, {usable} threads, {memory_gb:.0f} GB of memory")]
    accelerators = _run_python(
        "import torch\n"
        "for i in range(torch.cuda.device_count()):\n"
        "    p = torch.cuda.get_device_properties(i)\n"
        "    print(f'CUDA {i}: {p.name}, {p.total_memory / 1e9:.0f} GB')\n"
        "if torch.backends.mps.is_available(): print('Apple GPU (MPS)')\n"
    ).stdout.split("\n")
    names = [line for line in accelerators if line]
    return found + [Finding("ok", name) for name in names or ["no GPU; everything runs on the CPU"]]


def disk() -> list[Finding]:
    """Compares the free space here with what a rebuild takes."""
    free_gb = shutil.disk_usage(Path()).free / 1e9
    if free_gb < MIN_FREE_GB:
        return [Finding("broken", f"free space: expected {MIN_FREE_GB:g} GB, got {free_gb:.1f}")]
    return [Finding("ok", f"{free_gb:.0f} GB free; the built-in data take about {MIN_FREE_GB:g}")]


def parameters() -> list[Finding]:
    """Validates params.yaml and looks for the folders that its sources name."""
    from stages.sections import problems
    from stages.sources import load_sources

    try:
        found = [Finding("broken", problem) for problem in problems()]
        sources = {} if found else load_sources()
    except (FileNotFoundError, ValueError) as error:
        return [Finding("broken", str(error))]
    for name, source in sources.items():
        for folder in dict.fromkeys((source.root, source.watch)):
            # What the pipeline renders need not be there yet; buckets are not asked.
            is_elsewhere = folder.startswith(("data/", "s3://"))
            if not is_elsewhere and not Path(folder).exists():
                where = f"{PARAMS_FILE}: sources.{name}"
                found.append(Finding("broken", f"{where}: expected data at {folder}, got nothing"))
    return found or [Finding("ok", f"{PARAMS_FILE} is valid; sources: {', '.join(sources)}")]


def rebuild() -> list[Finding]:
    """Lists the stages that `dvc repro` would run, or take from its cache."""
    from dvc.exceptions import DvcException
    from dvc.lock import LockError

    try:
        changed, following, total = outdated()
    except LockError:
        return [Finding("note", "unknown: another DVC is at work in this folder")]
    except DvcException as error:
        return [Finding("broken", f"dvc.yaml: {' '.join(str(error).split())}")]
    found = [_code_dependencies()]
    if not changed:
        return [*found, Finding("ok", f"all {total} stages are up to date")]
    text = f"{len(changed) + len(following)} of {total} stages would run or come from the cache"
    found.append(Finding("note", f"{text}; changed: {_grouped(changed)}"))
    if following:
        found.append(Finding("note", f"what follows from them: {_grouped(following)}"))
    return found


def outdated() -> tuple[list[str], list[str], int]:
    """Returns changed stages, the unchanged ones that depend on them, and the number of all."""
    from dvc.repo import Repo
    from networkx import ancestors

    with Repo() as repo:
        status = repo.status()
        nodes = {node.addressing: node for node in repo.index.graph}
        changed = [name for name in nodes if name in status]
        # Edges lead from a stage to what it needs.
        above = {node for name in changed for node in ancestors(repo.index.graph, nodes[name])}
    following = [name for name, node in nodes.items() if node in above and name not in changed]
    return changed, following, len(nodes)


def _grouped(names: Iterable[str]) -> str:
    """Returns names with those of one group (`evaluate@teacher`) counted together."""
    counts = Counter(name.partition("@")[0] for name in names)
    return ", ".join(f"{name} ({count})" if count > 1 else name for name, count in counts.items())


def _code_dependencies() -> Finding:
    from stages.dependencies import PIPELINE, with_code_dependencies

    text = PIPELINE.read_text(encoding="utf-8")
    try:
        wanted = with_code_dependencies(text)
    except FileNotFoundError as error:
        return Finding("broken", str(error))
    if wanted == text:
        return Finding("ok", f"{PIPELINE} names the modules that each stage uses")
    return Finding("broken", f"{PIPELINE}: modules that stages use are not named (make deps)")


def _probe(package: str, code: str) -> Finding:
    done = _run_python(code)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        return Finding("broken", f"{package}: expected to import, got {last}")
    return Finding("ok", f"{package} {importlib.metadata.version(package)}")


def _run_python(code: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)


def _processor() -> str:
    description = Path("/proc/cpuinfo")
    if description.is_file():
        for line in description.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


if __name__ == "__main__":
    sys.exit(main())
