"""Runs an ablation of `experiments/ablations`: each of its variants, over several seeds.

Every run rebuilds what its models need, is kept as an experiment of DVC, and is found again by
`python -m stages.compare`, which makes the table.
"""

import argparse
import copy
import logging
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from dav2.data.files import written_whole
from stages.experiment import resolve, write
from stages.params import PARAMS_FILE, Params, read_document, validate
from stages.sections import document_problems

Names = Annotated[tuple[str, ...], Field(min_length=1)]

logger = logging.getLogger(__name__)


class AblationParams(Params):
    """What an ablation varies beside its variants, and what it looks at."""

    seeded: Annotated[
        tuple[Literal["warm_encoder", "train_teacher", "train_student", "finetune_metric"], ...],
        Field(min_length=1),
    ]
    """Sections whose seed changes from run to run; others are trained once for all."""
    models: Names
    """Models to compare, as shell patterns: `student-*-pseudo`. Nothing else is rebuilt."""
    measures: Names
    """Measures to compare, likewise, as paths into `metrics.json`: `wild_eval/delta1`."""
    against: str
    """Row that others are compared with, `<variant> <model>`, likewise; of several that of the
    same variant."""


@dataclass(frozen=True, slots=True)
class AblationRun:
    """One variant with one seed."""

    name: str
    """Of the experiment that DVC keeps."""
    variant: str
    seed: int
    """Added to the seeds of the parameters file."""
    models: tuple[str, ...]
    document: dict[str, Any]
    """Complete parameters."""

    def targets(self) -> list[str]:
        """Returns the stages to rebuild."""
        return [f"evaluate@{model}" for model in self.models]


def read_ablation(path: Path) -> AblationParams:
    """Returns what an ablation states of itself.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is no ablation.
    """
    content = read_document(path)
    if not content.get("variants"):
        raise ValueError(f"{path}: expected an ablation, with variants, got a file without")
    return validate(content.get("ablation"), AblationParams, where=f"{path}: ablation")


def planned(path: Path, *, num_seeds: int, base: Path | None = None) -> Iterator[AblationRun]:
    """Yields the runs of an ablation, seed by seed, so that an early end leaves whole seeds.

    Args:
        path: File of the ablation.
        num_seeds: Runs of each variant.
        base: What it changes, in place of what it names itself; then part of the runs' names.

    Raises:
        FileNotFoundError: If a file is missing.
        ValueError: If the file is no ablation, or a pattern fits no model of its matrix.
    """
    ablation = read_ablation(path)
    family = path.stem if base is None else f"{path.stem}-{base.stem}"
    for seed in range(num_seeds):
        for variant in read_document(path)["variants"]:
            document = copy.deepcopy(resolve(path, variant, base=base))
            known = document["matrix"]["models"]
            for pattern in ablation.models:
                if not any(fnmatchcase(model, pattern) for model in known):
                    raise ValueError(
                        f"{path}: {variant}: expected models like {pattern}, got {', '.join(known)}"
                    )
            chosen = [
                name for name in known if any(fnmatchcase(name, like) for like in ablation.models)
            ]
            for section in ablation.seeded:
                document[section]["seed"] += seed
            name = f"{family}-{variant}-s{seed}"
            yield AblationRun(name, variant, seed, tuple(chosen), document)


def main(arguments: list[str]) -> None:
    """Runs an ablation; `params.yaml` is afterwards as it was.

    A run that fails, say because a gate stops it, is told at the end; the others go on.

    Args:
        arguments: Of the command line: the file, `--seeds`, `--base`, `--dry-run`.

    Raises:
        SystemExit: With a line a problem, if files do not fit or runs have failed.
    """
    options = _parse(arguments)
    try:
        runs = list(planned(options.file, num_seeds=options.seeds, base=options.base))
    except (FileNotFoundError, ValueError) as error:
        raise SystemExit(str(error)) from None
    if problems := [
        line for run in runs for line in document_problems(run.document, where=run.name)
    ]:
        raise SystemExit("\n".join(problems))  # before the first of many hours, not in between
    before = PARAMS_FILE.read_bytes()
    failed = []
    try:
        for run in runs:
            logger.info("%s: %s", run.name, ", ".join(run.models))
            if not options.dry_run and not _done(run):
                failed.append(run.name)
    finally:
        with written_whole(PARAMS_FILE) as path:
            path.write_bytes(before)
    if failed:
        raise SystemExit("\n".join(f"ablation: {name} has failed" for name in failed))


def _done(run: AblationRun) -> bool:
    """Rebuilds what a run needs and keeps it; returns whether all went well."""
    write(run.document, PARAMS_FILE, name=run.name)
    dvc = [sys.executable, "-m", "dvc"]
    # With targets: without, `exp save` would take stale outputs of other stages for current ones.
    commands = [
        [*dvc, "repro", *run.targets()],
        [*dvc, "exp", "save", "--force", "--name", run.name, *run.targets()],
    ]
    return all(subprocess.run(command, check=False).returncode == 0 for command in commands)


def _parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m stages.ablation", description=__doc__)
    parser.add_argument("file", type=Path, help="file of experiments/ablations")
    parser.add_argument("--seeds", type=int, default=3, help="runs of each variant (3)")
    parser.add_argument("--base", type=Path, help="complete parameters in place of the file's base")
    parser.add_argument("--dry-run", action="store_true", help="only list the runs")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    main(sys.argv[1:])
