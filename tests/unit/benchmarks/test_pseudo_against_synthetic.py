"""The comparison of labels that needs no DVC, and what a machine with a GPU must have."""

import importlib.metadata
import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from benchmarks.pseudo_against_synthetic import main, open_data, table
from dav2.data.files import sha256_of
from dav2.data.manifest import read_manifest, write_manifest
from dav2.training.fit import Fitted
from tests.fixtures.training import TrainingProject

PROJECT = Path(__file__).parents[3]
SMALL = [
    "--judge=rooms", "--teacher=vit64x4", "--student=vit64x4", "--teacher-steps=3", "--steps=2",
    "--batch-size=2", "--crop", "28", "42", "--points=2", "--seeds=2", "--device=cpu",
]  # fmt: skip
# As on a machine that lacks some packages: imports one module and runs another.
PROGRAM = """
import json, runpy, sys
from importlib.machinery import PathFinder

modules, distributions, sys.argv = map(json.loads, sys.argv[1:])

class Finder(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        if name.partition(".")[0] not in modules:
            return super().find_spec(name, path, target)

    @staticmethod
    def find_distributions(*arguments):
        for found in PathFinder.find_distributions(*arguments):
            if found.name.lower().replace("_", "-") not in distributions:
                yield found

sys.meta_path[sys.meta_path.index(PathFinder)] = Finder
import benchmarks.training
runpy.run_module("benchmarks.pseudo_against_synthetic", run_name="__main__")
"""


@pytest.fixture
def data(tmp_path):
    """What `gate_data` leaves of a small project, at the places where it leaves it."""
    TrainingProject(tmp_path)
    folder = tmp_path / "data"
    for place in ("raw", "training/synthetic", "gated"):
        (folder / place).mkdir(parents=True)
    (tmp_path / "rooms").rename(folder / "raw" / "rooms")
    rows = read_manifest(tmp_path / "manifest.parquet")
    rows["image_hash"] = [sha256_of(folder / "raw" / "rooms" / image) for image in rows["image"]]
    write_manifest(rows, folder / "training" / "synthetic" / "manifest.parquet")
    write_manifest(rows[:6], folder / "gated" / "unlabelled.parquet")
    write_manifest(rows[6:], folder / "gated" / "evaluation.parquet")
    return folder


def arguments(data, out, *more):
    return [*SMALL, f"--data={data}", f"--work={out / 'work'}", f"--out={out / 'out'}", *more]


def test_students_of_both_kinds_are_compared_seed_by_seed_and_go_on(
    data, tmp_path, capsys, monkeypatch
):
    num_threads = torch.get_num_threads()
    main(arguments(data, tmp_path))
    shown = capsys.readouterr().out
    assert shown == (tmp_path / "out" / "table.md").read_text()
    course = pd.read_csv(tmp_path / "out" / "course.csv")
    assert list(course["step"]) == [1, 2, 3] + [1, 2] * 4
    found = json.loads((tmp_path / "out" / "measures.json").read_text())["final"]
    models = [("teacher", 0)]
    models += [(kind, seed) for seed in range(2) for kind in ("pseudo", "synthetic")]
    assert [(row["model"], row["seed"]) for row in found] == models
    measured = [row["abs_rel_inverse"] for row in found]
    assert len(set(measured)) == len(measured)
    last = course.groupby(["model", "seed"], sort=False)["abs_rel_inverse"].last()
    assert list(last) == pytest.approx(measured)

    monkeypatch.setattr("dav2.training.run._train", lambda *_: pytest.fail("trained again"))
    main(arguments(data, tmp_path))
    assert capsys.readouterr().out == shown
    torch.set_num_threads(num_threads)


def test_what_was_trained_is_trained_anew_for_other_images_and_options(data, tmp_path, monkeypatch):
    folders = []

    def fit(model, samples, held_out, *, config, work):
        folders.append(work.name)
        measures = dict.fromkeys(("step", "delta1", "abs_rel_inverse", "pair_accuracy"), 0.5)
        return Fitted(model.eval(), [], measures, [measures], np.zeros((1, 1, 3), np.uint8))

    monkeypatch.setattr("benchmarks.pseudo_against_synthetic.fit", fit)
    for _ in range(2):
        main(arguments(data, tmp_path))
    assert folders[:5] == folders[5:]
    main(arguments(data, tmp_path, "--steps=5"))  # of the students alone
    assert folders[10] == folders[0]
    path = data / "gated" / "unlabelled.parquet"
    rows = read_manifest(path)
    rows["content_hash"] = "f" * 64
    write_manifest(rows, path)
    main(arguments(data, tmp_path))
    assert len(set(folders)) == 5 + 4 + 5


def test_mean_and_deviation_are_those_worked_out_by_hand():
    rows = [("teacher", 0, 9.0), ("pseudo", 0, 1.0), ("pseudo", 1, 2.0)]
    final = pd.DataFrame(
        {"model": m, "seed": s, "abs_rel_inverse": v, "delta1": v, "pair_accuracy": v}
        for m, s, v in rows
    )
    assert table(final).splitlines()[:4] == [
        "| measure | model | seed 0 | seed 1 | mean | deviation |",
        "| --- | --- | --- | --- | --- | --- |",
        "| abs_rel_inverse | teacher | 9.0000 | - | 9.0000 | - |",
        "| abs_rel_inverse | pseudo | 1.0000 | 2.0000 | 1.5000 | 0.7071 |",
    ]


def test_a_source_that_judges_nothing_is_refused(data):
    with pytest.raises(ValueError, match=r"--judge: expected a source with depth of rooms, got wi"):
        open_data(data, "wild_eval")


def names_of(requirements):
    """Returns the distributions that requirements name, in one spelling."""
    return {re.split(r"[^\w.-]", text)[0].lower().replace("_", "-") for text in requirements}


def test_a_machine_with_a_gpu_needs_what_dav2_needs_and_nothing_else(data, tmp_path):
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]
    extras = [names_of(extra) for extra in project["optional-dependencies"].values()]
    there = names_of(project["dependencies"])
    there |= names_of(importlib.metadata.requires("torch") or ())
    lacking = set().union(*extras) - there
    modules = [
        module
        for module, distributions in importlib.metadata.packages_distributions().items()
        if names_of(distributions) & lacking
    ]
    assert {"dvc", "mlflow", "prefect", "mitsuba", "pydantic", "ruamel"} <= set(modules)
    command = ["", *arguments(data, tmp_path, "--seeds=1", "--labels=pseudo", "--steps=1")]
    given = [json.dumps(entry) for entry in (modules, sorted(lacking), command)]
    ended = subprocess.run(
        [sys.executable, "-c", PROGRAM, *given],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert ended.returncode == 0, ended.stderr
    assert (tmp_path / "out" / "table.md").read_text() == ended.stdout
