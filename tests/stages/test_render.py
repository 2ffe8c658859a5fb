"""Rendering: four layouts that their readers open, the same bytes however the work was shared."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dav2.data.open import open_dataset
from stages.params import load
from stages.render import DriveParams, StudioParams, WildEvalParams, WildParams, main

ROOT = Path(__file__).parents[2]
QUALITY = {"seed": 3, "height_px": 24, "width_px": 32, "samples": 1, "max_bounces": 2}
STREETS = {"weathers_per_street": 2, "frames_per_weather": 1}
ROOMS = {"num_train": 1, "num_val": 1, "num_test": 1}


@pytest.fixture
def project(tmp_path, monkeypatch):
    """Fingerprints read the code, and so need it; everything else happens in the folder."""
    for package in ("dav2", "stages"):
        (tmp_path / package).symlink_to(ROOT / package)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def configure(num_workers=1, **changes):
    common = QUALITY | {"num_workers": num_workers}
    wild = common | {"num_scenes": 2, "views_per_scene": 2}
    sets = {
        "studio": common | ROOMS | {"views_per_scene": 2},
        "drive": common | ROOMS | STREETS,
        "wild": wild,
        "wild_eval": wild | {"num_scenes": 11, "views_per_scene": 1, "pairs_per_image": 2},
    }
    for name, values in changes.items():
        sets[name] |= values
    Path("params.yaml").write_text(json.dumps({"render": sets}))


def tree(folder):
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_the_shipped_parameters_fit_their_classes(monkeypatch):
    monkeypatch.chdir(ROOT)
    for name, model in (
        ("studio", StudioParams),
        ("drive", DriveParams),
        ("wild", WildParams),
        ("wild_eval", WildEvalParams),
    ):
        params = load(f"render.{name}", model)
        assert params.quality().height_px == params.height_px


def test_studio_is_read_as_hypersim(project):
    configure()
    main("studio", Path("out"))
    reader = open_dataset("hypersim", Path("out"))
    assert [len(reader.list_samples(split)) for split in ("train", "val", "test")] == [2, 2, 2]
    scenes = {split: reader.list_samples(split)[0].scene for split in ("train", "val", "test")}
    assert len(set(scenes.values())) == 3
    sample = reader.read(reader.list_samples("test")[0])
    assert sample.image.shape == (24, 32, 3)
    assert not sample.sky.any()
    assert 0.2 < np.median(sample.depth) < 12


def test_drive_is_read_as_virtual_kitti(project):
    configure()
    main("drive", Path("out"))
    reader = open_dataset("vkitti2", Path("out"))
    samples = {split: reader.list_samples(split) for split in ("train", "val", "test")}
    assert [len(found) for found in samples.values()] == [2, 2, 2]
    assert len({found.scene for split in samples.values() for found in split}) == 3
    sample = reader.read(samples["train"][0])
    assert sample.image.shape == (24, 32, 3)
    assert sample.valid.all()
    assert 1 < np.median(sample.depth[~sample.sky]) < 300


def test_wild_is_a_folder_of_photographs_without_labels(project):
    configure()
    main("wild", Path("out"))
    reader = open_dataset("folder", Path("out"))
    samples = list(reader.list_samples("all"))
    assert len(samples) == len(list(Path("out").iterdir())) == 4
    assert reader.read(samples[0]).depth is None


def test_wild_eval_is_read_as_diode_and_as_balanced_pairs(project):
    configure()
    main("wild_eval", Path("out"))
    reader = open_dataset("diode", Path("out"))
    samples = reader.list_samples("val")
    assert len(samples) == 11
    assert {sample.image.split("/")[1] for sample in samples} == {"indoors", "outdoor"}
    assert len(open_dataset("da2k", Path("out/DA-2K")).list_samples("test")) > 3
    annotations = json.loads(Path("out/DA-2K/annotations.json").read_text())
    written = {path for path in tree(Path("out/DA-2K")) if path.endswith(".jpg")}
    assert written == set(annotations)
    upper = {}
    for path, pairs in annotations.items():
        height, width = np.asarray(Image.open(Path("out/DA-2K") / path)).shape[:2]
        for pair in pairs:
            for row, column in (pair["point1"], pair["point2"]):
                assert 0 <= row < height
                assert 0 <= column < width
            votes = upper.setdefault(path.split("/")[1], [])
            votes.append(pair["point1"][0] < pair["point2"][0])
    assert all(sum(votes) * 2 == len(votes) for votes in upper.values())


def test_pairs_agree_with_the_depth_they_were_drawn_from(project):
    configure()
    main("wild_eval", Path("out"))
    depths = {
        path.name.split("_")[0]: np.load(path)[..., 0] for path in Path("out").rglob("*_depth.npy")
    }
    annotations = json.loads(Path("out/DA-2K/annotations.json").read_text())
    for path, pairs in annotations.items():
        depth = depths[f"{int(Path(path).stem.split('_')[1]):05d}"]
        for pair in pairs:
            assert depth[tuple(pair["point2"])] > 1.3 * depth[tuple(pair["point1"])] > 0


def test_bytes_do_not_depend_on_the_number_of_processes(project):
    configure(num_workers=1)
    main("wild", Path("one"))
    work = Path(".work/render-wild")
    (finished,) = work.iterdir()
    finished.rename("set-aside")
    configure(num_workers=2)
    main("wild", Path("two"))
    assert [path.name for path in work.iterdir()] == [finished.name]
    assert tree(Path("two")) == tree(Path("one"))


def test_another_seed_is_other_work(project):
    configure()
    main("wild", Path("out"))
    first = tree(Path("out"))
    configure(wild={"seed": 4})
    main("wild", Path("out"))
    assert len(list(Path(".work/render-wild").iterdir())) == 2
    assert tree(Path("out")).keys() == first.keys()
    assert tree(Path("out")) != first


def test_an_unknown_set_is_refused(project):
    configure()
    with pytest.raises(SystemExit, match="expected studio, drive, wild or wild_eval, got 'moon'"):
        main("moon", Path("out"))
    assert not Path("out").exists()


def test_a_misspelt_parameter_is_refused(project):
    configure(wild={"smaples": 4})
    with pytest.raises(SystemExit, match="smaples"):
        main("wild", Path("out"))
    assert not Path("out").exists()


@pytest.mark.slow
def test_a_killed_run_goes_on_where_it_was(project):
    configure(num_workers=2, wild={"num_scenes": 6, "height_px": 48, "width_px": 64})
    main("wild", Path("whole"))
    (finished,) = Path(".work/render-wild").iterdir()
    finished.rename("set-aside")
    command = [sys.executable, "-m", "stages.render", "wild", "out"]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL, env=os.environ.copy())
    records = finished / "records"
    while len(list(records.glob("*.json"))) < 2:
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    time.sleep(1)
    kept = {path: path.stat().st_mtime_ns for path in records.glob("*.json")}
    assert 2 <= len(kept) < 6
    assert not Path("out").exists()
    main("wild", Path("out"))
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    assert tree(Path("out")) == tree(Path("whole"))
