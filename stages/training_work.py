"""Where a training keeps its progress, which process goes on after it, and its curves."""

import csv
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from stages.fingerprint import fingerprint, library_versions, work_folder
from stages.ranks import end_with_first_rank, is_first_rank
from stages.training_params import RunParams


def prepare_work(
    stage: str,
    params: RunParams,
    mark: str,
    *,
    given: Mapping[str, Any],
    code: str,
) -> tuple[Path, str]:
    """Returns the folder of a training's progress, and the fingerprint that it is named by.

    Ranks of one machine that this process starts end with it from here on.

    Args:
        stage: Name of the stage.
        params: Its parameters.
        mark: Fingerprint of the samples.
        given: Whatever else decides the weights, JSON-able.
        code: Fingerprint of the code that does.

    Raises:
        ValueError: If this machine has no such device.
    """
    from dav2.models.device import chosen_device

    chosen = params.model_dump(mode="json", exclude={"running", "device", "checkpoint_activations"})
    chosen.get("validation", {}).pop("min_pair_accuracy", None)  # judges weights, decides none
    parallel = params.parallel
    num_ranks = parallel.num_machines * parallel.num_devices
    # The number of devices decides rounding; where they stand and who starts them, nothing.
    chosen["parallel"] = [parallel.strategy, num_ranks]
    device = chosen_device(params.device, where=f"{stage}.device")
    versions = library_versions("lightning", "numpy", "pillow", "timm", "torch")
    mark = fingerprint(stage, chosen, mark, dict(given), device, versions, code)
    work = work_folder(stage, mark)
    if parallel.launcher == "local" and num_ranks > 1:
        end_with_first_rank()
    return work, mark


def leave_to_first_rank() -> None:
    """Ends every other rank, with status 0: what follows a training is done once."""
    if not is_first_rank():
        sys.exit(0)


def write_curves(rows: Sequence[Mapping[str, float]], path: Path) -> None:
    """Writes the curves of a training as CSV."""
    with path.open("w", newline="", encoding="utf-8") as stream:
        names = list(rows[0]) if rows else ["step"]
        writer = csv.DictWriter(stream, names, lineterminator="\n")
        writer.writeheader()
        writer.writerows(plain(row) for row in rows)


def plain(row: Mapping[str, float]) -> dict[str, float | int]:
    """Returns numbers of six digits; steps are whole."""
    return {
        name: int(value) if name == "step" else float(f"{value:.6g}") for name, value in row.items()
    }
