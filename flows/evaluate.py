"""Evaluates an old or a foreign model on the current evaluation sets, beside ours.

`python -m flows.evaluate NAME CHECKPOINT`; options: `python -m flows.evaluate --help`.
"""

import argparse
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import psutil
from prefect import flow, get_run_logger, task
from prefect.artifacts import create_table_artifact
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from prefect.concurrency.sync import concurrency
from prefect.states import Completed

from flows.artifacts import compared_rows, metrics_of
from flows.guard import end_with_worker
from flows.sessions import Sessions, end_children
from flows.stage_runs import child_environment

MANIFEST = Path("data/gated/evaluation.parquet")
OURS = Path("reports/evaluation")
RESULTS = Path(".work/evaluations")
"""Where results go, a folder for each name: beside what DVC keeps, which they do not change."""


@flow(name="evaluate")
def evaluate(
    name: str, checkpoint: str, gpu: str | None = None, gpu_limit: str = "gpu"
) -> State[Any]:
    """Measures one model exactly as the pipeline measures its own.

    Args:
        name: What to call it.
        checkpoint: A file of ours or of the authors (`.pth`), a folder of Transformers, or a
            version of the registry as `depth-relative-vits@previous`.
        gpu: The device, as CUDA_VISIBLE_DEVICES has it; none for what the machine has.
        gpu_limit: Concurrency limit of the server that it takes a place of, if `gpu` is named.
    """
    end_with_worker()
    if not MANIFEST.is_file():
        raise FileNotFoundError(f"{MANIFEST}: expected evaluation sets, got none; run a rebuild")
    with (
        Sessions() as sessions,
        nullcontext() if gpu is None else concurrency(gpu_limit, lease_duration=60),
    ):
        if "@" in checkpoint and not Path(checkpoint).exists():
            checkpoint = fetch(checkpoint, name, sessions)
        measure(name, checkpoint, gpu, sessions)
    rows = compared_rows(metrics_of(RESULTS), metrics_of(OURS), of=name)
    create_table_artifact(
        key="evaluation", table=rows, description=f"{name}, and this pipeline's models"
    )
    return Completed(message=f"{RESULTS / name}: {len(rows)} measures")


@task(cache_policy=NO_CACHE, persist_result=False)
def fetch(version: str, name: str, sessions: Sessions) -> str:
    """Fetches the weights of a registered version; returns their path."""
    path = RESULTS / f"{name}.safetensors"
    path.parent.mkdir(parents=True, exist_ok=True)
    _run(["stages.fetch_weights", version, str(path)], sessions)
    return str(path)


@task(cache_policy=NO_CACHE, persist_result=False)
def measure(name: str, checkpoint: str, gpu: str | None, sessions: Sessions) -> None:
    """Runs the stage that measures."""
    arguments = [name, str(MANIFEST), checkpoint, str(RESULTS / name)]
    _run(["stages.evaluate", *arguments], sessions, gpu)


def _run(module: Sequence[str], sessions: Sessions, gpu: str | None = None) -> None:
    device = {} if gpu is None else {"CUDA_VISIBLE_DEVICES": gpu}
    status, output = sessions.run(
        [sys.executable, "-m", *module],
        root=Path.cwd(),
        log=get_run_logger(),
        environment={**child_environment(), **device},
    )
    if status:
        last = (output.strip().splitlines() or ["no message"])[-1]
        raise RuntimeError(f"{module[0]}: expected exit status 0, got {status}: {last}")


def main(arguments: Sequence[str]) -> int:
    """Runs the flow as the command line says; returns 1 if it failed."""
    parser = argparse.ArgumentParser(
        prog="python -m flows.evaluate",
        description="Evaluate an old or a foreign model on the current evaluation sets.",
    )
    parser.add_argument("name", help="what to call it")
    parser.add_argument(
        "checkpoint", help=".safetensors, .pth, a folder of Transformers, or <registered>@<alias>"
    )
    parser.add_argument("--gpu", help="device, as CUDA_VISIBLE_DEVICES has it")
    options = vars(parser.parse_args(arguments))
    older = psutil.Process().children()
    try:
        state = evaluate(**options, return_state=True)
    except BaseException:
        end_children(older)  # Prefect would leave the server that it started for this run
        raise
    sys.stdout.write(f"{state.message}\n")
    return 0 if state.is_completed() else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
