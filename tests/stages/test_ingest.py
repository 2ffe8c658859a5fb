"""Ingest: a row for every sample, the same whatever was read before, and nothing half-written."""

import json
import os
import shutil
import subprocess
import sys
import warnings
from pathlib import Path

import h5py
import numpy as np
import pytest
from PIL import Image

from dav2.data.manifest import read_manifest
from stages import ingest, ingest_work
from stages.imports import closure
from stages.ingest import main
from tests.fixtures.ingesting import IngestProject, wait_until_begun

OUT = Path("out")
PARAMS = """
sources:
  {name}:
    reader: {reader}
    root: {root}
    watch: {root}
    domain: mixed
    roles:
      unlabelled: [{split}]
ingest:
  num_workers: {workers}
  max_image_pixels: 1000
  max_quarantined_fraction: {limit}
"""
FRAME = "ai_001_001/images/scene_cam_00"


def configure(name="photos", reader="folder", root="photos", split="all", limit=0.2, workers=2):
    Path("params.yaml").write_text(
        PARAMS.format(
            name=name, reader=reader, root=root, split=split, limit=limit, workers=workers
        )
    )


def photograph(path: Path, seed=0, size=(20, 30)):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (*size, 3), np.uint8)
    Image.fromarray(pixels).save(path, quality=95)


@pytest.fixture
def project(tmp_path, monkeypatch):
    """Twelve photographs, of which one is damaged; the project's code is where it belongs."""
    (tmp_path / "dav2").symlink_to(Path.cwd() / "dav2")
    monkeypatch.chdir(tmp_path)
    for number in range(11):
        photograph(Path(f"photos/{number:02d}.jpg"), seed=number)
    Path("photos/text.png").write_text("not a picture")
    configure()
    return tmp_path


@pytest.fixture
def read(monkeypatch):
    """Names of the images that were read, in this process so that tests are quick."""
    names = []

    def map_here(function, jobs, *, prepare, prepare_with, **_):
        with warnings.catch_warnings():
            prepare(*prepare_with)
            for job in jobs:
                names.append(job.image)
                yield function(job)

    monkeypatch.setattr(ingest, "map_surviving", map_here)
    return names


def published(folder=OUT):
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def test_each_sample_has_one_row_in_manifest_or_quarantine(project):
    main("photos", OUT)

    manifest, quarantine = (
        read_manifest(OUT / f"{name}.parquet") for name in ("manifest", "quarantine")
    )
    assert manifest["sample_id"].tolist() == [f"photos-{number:02d}_jpg" for number in range(11)]
    assert set(manifest["width"]) == {30}
    assert manifest["reason"].isna().all()
    assert manifest["content_hash"].nunique() == 11
    assert manifest["image_hash"].nunique() == 11
    assert set(manifest["domain"]) == {"mixed"}
    assert set(manifest["decoder"].str.len()) == {16}
    assert quarantine["sample_id"].tolist() == ["photos-text_png"]
    assert quarantine["reason"][0] == (
        "text.png: expected a JPEG, PNG or WebP image, got 13 bytes that start with b'not a pi'"
    )
    assert json.loads((OUT / "summary.json").read_bytes()) == {
        "source": "photos",
        "dataset": "folder",
        "good": 11,
        "quarantined": 1,
        "splits": {"all": {"good": 11, "quarantined": 1}},
        "reasons": {
            "expected a JPEG, PNG or WebP image, got N bytes that start with b'not a pi'": 1
        },
    }


def test_outputs_depend_neither_on_the_cache_nor_on_times_or_place(project, read):
    main("photos", OUT)
    first = published()
    assert b"photos/" not in first["quarantine.parquet"]

    main("photos", OUT)
    assert len(read) == 12  # nothing was read again
    assert published() == first

    shutil.rmtree(".work")
    Path("photos").rename("elsewhere")
    configure(root=str(project / "elsewhere"))
    for path in Path("elsewhere").iterdir():
        os.utime(path, ns=(1, 2))
    main("photos", Path("again"))
    assert len(read) == 24
    assert published(Path("again")) == first


def test_only_what_is_new_or_changed_is_read_again(project, read):
    main("photos", OUT)
    read.clear()
    photograph(Path("photos/03.jpg"), seed=99)
    photograph(Path("photos/new/00.jpg"), seed=98)
    Path("photos/05.jpg").unlink()

    main("photos", OUT)

    assert read == ["03.jpg", "new/00.jpg"]
    cached = published()
    shutil.rmtree(".work")
    main("photos", OUT)
    assert published() == cached
    assert len(read_manifest(OUT / "manifest.parquet")) == 11


def test_an_interrupted_run_publishes_nothing_and_the_next_one_goes_on(project, read, monkeypatch):
    whole = ingest.map_surviving

    def interrupted(function, jobs, **options):
        for number, result in enumerate(whole(function, jobs, **options)):
            if number == 7:
                raise KeyboardInterrupt
            yield result

    monkeypatch.setattr(ingest, "map_surviving", interrupted)
    with pytest.raises(KeyboardInterrupt):
        main("photos", OUT)
    assert not OUT.exists()
    assert not list(project.glob(".out*"))

    read.clear()
    Path(".out.killed.part").mkdir()  # what SIGKILL leaves
    monkeypatch.setattr(ingest, "map_surviving", whole)
    main("photos", OUT)
    assert len(read) == 5
    assert not list(project.glob(".out*"))
    resumed = published()
    shutil.rmtree(".work")
    main("photos", OUT)
    assert published() == resumed


def test_small_chunks_give_the_same_rows(project, read, monkeypatch):
    main("photos", OUT)
    whole = read_manifest(OUT / "manifest.parquet")
    monkeypatch.setattr(ingest_work, "_ROWS_AT_ONCE", 5)
    shutil.rmtree(".work")

    main("photos", OUT)

    assert read_manifest(OUT / "manifest.parquet").equals(whole)


def test_work_of_an_older_schema_is_not_looked_at():
    # Rows are kept by the fingerprint of the code that decides their columns.
    assert "dav2.data.manifest" in closure(["dav2.data.measurement"])


def test_another_pixel_limit_reads_everything_again(project, read):
    main("photos", OUT)
    params = Path("params.yaml")
    params.write_text(params.read_text().replace("1000", "599").replace("0.2", "0.95"))

    with pytest.raises(SystemExit, match="1 to 599 pixels, got 30 x 20"):
        main("photos", OUT)
    assert len(read) == 24


def test_too_many_bad_samples_fail_in_one_line_and_leave_the_last_result(project, read):
    main("photos", OUT)
    before = published()
    for number in range(3):
        Path(f"photos/{number:02d}.jpg").write_bytes(b"\xff\xd8\xff")

    with pytest.raises(SystemExit) as caught:
        main("photos", OUT)

    message = str(caught.value)
    assert message.startswith(
        "ingest photos: photos: expected at most 20.0% of the samples to be unreadable "
        "(ingest.max_quarantined_fraction), got 4 of 12; the first: 00.jpg: expected a "
    )
    assert "\n" not in message
    assert published() == before
    assert not list(project.glob(".out*"))


def test_one_bad_sample_never_fails_a_source_unless_it_is_the_only_one(project, read):
    configure(limit=0.05)
    main("photos", OUT)  # 1 of 12
    assert len(read_manifest(OUT / "manifest.parquet")) == 11
    Path("photos/00.jpg").write_text("text")
    with pytest.raises(SystemExit, match=r"got 2 of 12; "):
        main("photos", OUT)
    Path("alone").mkdir()
    Path("alone/text.png").write_text("not a picture")
    configure(root="alone", limit=0.05)
    with pytest.raises(SystemExit, match=r"got 1 of 1; "):
        main("photos", Path("other"))


def write_hypersim_frame(root: Path, number: int, distance=None):
    preview = root / f"{FRAME}_final_preview" / f"frame.{number:04d}.tonemap.jpg"
    photograph(preview, seed=number, size=(6, 8))
    geometry = root / f"{FRAME}_geometry_hdf5"
    geometry.mkdir(exist_ok=True)
    path = geometry / f"frame.{number:04d}.depth_meters.hdf5"
    with h5py.File(path, "w") as file:
        file["dataset"] = np.ones((6, 8), np.float32) if distance is None else distance
    return preview, path


def test_every_kind_of_damage_ends_in_quarantine_with_its_reason(project, read):
    root = Path("studio")
    columns = "scene_name,camera_name,frame_id,included_in_public_release,split_partition_name"
    frames = [f"ai_001_001,cam_00,{number},True,train" for number in range(8)]
    root.mkdir()
    (root / "metadata_images_split_scene_v1.csv").write_text("\n".join([columns, *frames]))
    names = ",".join(f"M_cam_from_uv_{row}{column}" for row in range(3) for column in range(3))
    camera = "ai_001_001,1,0,0,0,1,0,0,0,-1"
    (root / "metadata_camera_parameters.csv").write_text(f"scene_name,{names}\n{camera}\n")
    write_hypersim_frame(root, 0)
    preview, _ = write_hypersim_frame(root, 1)
    preview.write_bytes(preview.read_bytes()[:-40])
    _, depth = write_hypersim_frame(root, 2)
    depth.write_bytes(b"")
    write_hypersim_frame(root, 3, np.full((6, 8), np.nan, np.float32))
    write_hypersim_frame(root, 4, np.zeros((6, 8), np.float32))
    write_hypersim_frame(root, 5, np.ones((8, 6), np.float32))
    _, depth = write_hypersim_frame(root, 6)
    depth.unlink()
    preview, _ = write_hypersim_frame(root, 7)
    preview.write_text("text")
    configure(name="studio", reader="hypersim", root="studio", split="train", limit=0.9)

    main("studio", OUT)

    quarantine = read_manifest(OUT / "quarantine.parquet")
    size = (root / f"{FRAME}_final_preview" / "frame.0001.tonemap.jpg").stat().st_size
    preview, geometry = f"{FRAME}_final_preview/frame", f"{FRAME}_geometry_hdf5/frame"
    nothing = "expected depth with at least one measured pixel, got"
    assert quarantine["reason"].tolist() == [
        f"{preview}.0001.tonemap.jpg: expected a whole JPEG image, "
        f"got one of {size} bytes that is truncated or damaged",
        f"{geometry}.0002.depth_meters.hdf5: expected a whole HDF5 file, "
        "got one of 0 bytes that is damaged, truncated or something else",
        f"{geometry}.0003.depth_meters.hdf5: {nothing} NaN alone",
        f"{geometry}.0004.depth_meters.hdf5: {nothing} zeros alone",
        f"{geometry}.0005.depth_meters.hdf5: expected 6 x 8 float values, as the image has pixels, "
        "got 8 x 6 float32",
        f"{geometry}.0006.depth_meters.hdf5: expected a file, got nothing there",
        f"{preview}.0007.tonemap.jpg: expected a JPEG, PNG or WebP image, "
        "got 4 bytes that start with b'text'",
    ]
    assert quarantine["width"].isna().tolist() == [True, *[False] * 5, True]
    manifest = read_manifest(OUT / "manifest.parquet")
    assert manifest["sample_id"].tolist() == ["studio-ai_001_001_cam_00_0000"]
    assert manifest["scene"].tolist() == ["ai_001_001"]
    assert json.loads(manifest["extra"][0]) == ["metadata_camera_parameters.csv"]

    # A missing file is looked for again; what was read and found bad is not.
    read.clear()
    main("studio", OUT)
    assert read == [f"{preview}.0006.tonemap.jpg"]


@pytest.mark.parametrize(
    ("change", "got"),
    [
        ({"root": "misspelt"}, "misspelt: expected the folder of a dataset, got nothing there"),
        ({"root": "empty"}, "empty: expected samples of split 'all', got none"),
        ({"split": "train"}, "photos: expected split 'all', got 'train'"),
        ({"workers": 0}, r"params\.yaml: ingest\.num_workers: .* got 0"),
        ({"limit": "'0.1'"}, r"ingest\.max_quarantined_fraction: .* got '0\.1'"),
        ({"name": "other"}, "expected one of the sources other, got 'photos'"),
    ],
)
def test_what_cannot_be_ingested_ends_in_one_line_and_leaves_nothing(change, got, project):
    Path("empty").mkdir()
    configure(**change)

    with pytest.raises(SystemExit, match=f"^ingest photos: .*{got}"):
        main("photos", OUT)

    assert not OUT.exists()
    assert not list(project.glob(".out*"))


def test_a_dead_process_costs_one_sample(project, monkeypatch):
    def one_dies(function, jobs, *, prepare, prepare_with, on_death, **_):
        with warnings.catch_warnings():
            prepare(*prepare_with)
            for job in jobs:
                yield on_death(job) if job.image == "03.jpg" else function(job)

    monkeypatch.setattr(ingest, "map_surviving", one_dies)

    main("photos", OUT)

    quarantine = read_manifest(OUT / "quarantine.parquet")
    assert quarantine["reason"][0] == (
        "03.jpg: expected files that can be read, got the death of the process"
    )


NUM_KILLED = 240  # over a second of work on a quick machine: progress shows once a second


@pytest.mark.slow
def test_a_killed_run_goes_on_where_it_was_and_ends_with_the_same_bytes(
    tmp_path, read, monkeypatch
):
    project = IngestProject(tmp_path, num_photographs=NUM_KILLED, num_workers=1)
    monkeypatch.chdir(tmp_path)
    main("photos", OUT)  # in this process
    expected, before = published(), set()
    project.forget()

    for _ in range(2):
        process = project.start()
        wait_until_begun(process)
        assert project.kill(process, after_s=0.05)
        now = project.measured()
        assert before < now, "nothing new was kept, or a sample was measured again"
        assert project.published() == {}
        before = now
    assert project.parts()
    assert len(before) < NUM_KILLED
    project.finish()

    assert before < project.measured()
    assert len(project.measured()) == NUM_KILLED
    assert project.published() == expected
    assert not project.parts()


def test_neither_stage_imports_torch():
    code = "import sys, stages.ingest, stages.snapshot; sys.exit('torch' in sys.modules)"

    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
