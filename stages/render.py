"""Renders one built-in set, in the layout of a published dataset."""

import logging
import shutil
import sys
from pathlib import Path
from typing import Annotated, Any, Literal, cast

from pydantic import Field, NonNegativeInt, PositiveInt

from dav2.data.files import written_whole
from dav2.rendering.drive_set import finish_drive, plan_drive, render_drive
from dav2.rendering.shooting import Quality
from dav2.rendering.studio_set import finish_studio, plan_studio, render_studio
from dav2.rendering.wild_sets import finish_wild_eval, plan_wild, render_wild, render_wild_eval
from dav2.rendering.work import run_jobs
from stages.fingerprint import code_fingerprint, fingerprint, library_versions, work_folder
from stages.params import Params, load
from stages.program import run
from stages.tracking import recorded

SetName = Literal["studio", "drive", "wild", "wild_eval"]
# What decides a set's bytes beside its parameters.
DECIDING_MODULES: dict[SetName, str] = {
    "studio": "dav2.rendering.studio_set",
    "drive": "dav2.rendering.drive_set",
    "wild": "dav2.rendering.wild_sets",
    "wild_eval": "dav2.rendering.wild_sets",
}


class RenderParams(Params):
    """What all sets have."""

    seed: NonNegativeInt
    """Other seed, other scenes."""
    height_px: Annotated[int, Field(ge=14)]
    width_px: Annotated[int, Field(ge=14)]
    samples: PositiveInt
    """Paths for each pixel, a square number; the result is denoised."""
    max_bounces: Annotated[int, Field(ge=2)]
    """Longest path, in segments."""
    num_workers: PositiveInt
    """Processes; changes no byte of the result."""

    def quality(self) -> Quality:
        """Returns how finely the set is rendered."""
        return Quality(self.height_px, self.width_px, self.samples, self.max_bounces)


class StudioParams(RenderParams):
    """The set `studio`: rooms."""

    num_train: PositiveInt
    """Rooms, not images."""
    num_val: PositiveInt
    num_test: PositiveInt
    views_per_scene: PositiveInt


class DriveParams(RenderParams):
    """The set `drive`: streets."""

    num_train: PositiveInt
    """Streets, not images."""
    num_val: PositiveInt
    num_test: PositiveInt
    weathers_per_street: Annotated[int, Field(ge=1, le=6)]
    frames_per_weather: PositiveInt


class WildParams(RenderParams):
    """The set `wild`: photographs."""

    num_scenes: PositiveInt
    views_per_scene: PositiveInt


class WildEvalParams(WildParams):
    """The set `wild_eval`: photographs with depth and point pairs."""

    pairs_per_image: Annotated[int, Field(ge=1, le=6)]


def main(name: str, out: Path) -> None:
    """Renders the set `name` to the folder `out`, which appears whole.

    What is finished stays in the work folder, so that a killed run goes on where it was.

    Raises:
        SystemExit: With one line, if the name or the parameters do not fit, or disk fails.
    """
    try:
        with recorded("render"):
            _render(name, out)
    except (ValueError, OSError) as error:
        raise SystemExit(f"render: {error}") from None


def _render(name: str, out: Path) -> None:
    match cast(SetName, name):
        case "studio":
            _studio(load("render.studio", StudioParams), out)
        case "drive":
            _drive(load("render.drive", DriveParams), out)
        case "wild":
            _wild(load("render.wild", WildParams), out)
        case "wild_eval":
            _wild_eval(load("render.wild_eval", WildEvalParams), out)
        case _:
            raise ValueError(f"expected studio, drive, wild or wild_eval, got {name!r}")


def _studio(params: StudioParams, out: Path) -> None:
    splits = {"train": params.num_train, "val": params.num_val, "test": params.num_test}
    jobs = plan_studio(
        splits, seed=params.seed, views_per_scene=params.views_per_scene, quality=params.quality()
    )
    work = _work("studio", params)
    records = run_jobs(
        jobs, render_studio, work, num_workers=params.num_workers, label="render studio"
    )
    with written_whole(out) as folder:
        shutil.copytree(work / "files", folder)
        finish_studio(folder, records, params.quality())


def _drive(params: DriveParams, out: Path) -> None:
    splits = {"train": params.num_train, "val": params.num_val, "test": params.num_test}
    jobs = plan_drive(
        splits,
        seed=params.seed,
        weathers_per_street=params.weathers_per_street,
        frames_per_weather=params.frames_per_weather,
        quality=params.quality(),
    )
    work = _work("drive", params)
    records = run_jobs(
        jobs, render_drive, work, num_workers=params.num_workers, label="render drive"
    )
    with written_whole(out) as folder:
        shutil.copytree(work / "files", folder)
        finish_drive(folder, records)


def _wild(params: WildParams, out: Path) -> None:
    jobs = plan_wild(
        params.num_scenes,
        seed=params.seed,
        views_per_scene=params.views_per_scene,
        quality=params.quality(),
    )
    work = _work("wild", params)
    run_jobs(jobs, render_wild, work, num_workers=params.num_workers, label="render wild")
    with written_whole(out) as folder:
        shutil.copytree(work / "files", folder)


def _wild_eval(params: WildEvalParams, out: Path) -> None:
    jobs = plan_wild(
        params.num_scenes,
        seed=params.seed,
        views_per_scene=params.views_per_scene,
        quality=params.quality(),
    )
    work = _work("wild_eval", params)
    records = run_jobs(
        jobs, render_wild_eval, work, num_workers=params.num_workers, label="render wild_eval"
    )
    with written_whole(out) as folder:
        shutil.copytree(work / "files", folder)
        finish_wild_eval(folder, records, pairs_per_image=params.pairs_per_image)


def _work(name: SetName, params: RenderParams) -> Path:
    """Returns the folder of unfinished work; the number of processes does not name it."""
    decisive: dict[str, Any] = params.model_dump(mode="json", exclude={"num_workers"})
    versions = library_versions("mitsuba", "mitsuba-oidn", "numpy", "pillow")
    mark = fingerprint(name, decisive, versions, code_fingerprint([DECIDING_MODULES[name]]))
    return work_folder(f"render-{name}", mark)


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    run("render", main, sys.argv[1], Path(sys.argv[2]))
