"""The plan's arithmetic, against sums worked out by hand and against counted operations."""

import json
from pathlib import Path
from typing import get_args

import pandas as pd
import pytest

from dav2.labeling.codec import CodecName
from dav2.labeling.plan import plan_shards
from stages.labelling_plan import LABEL_BYTES_PER_PX, gigaflop, num_shards
from stages.plan_labels import main
from tests.fixtures.labelling import ARGUMENTS, Project


@pytest.fixture
def printed(capsys):
    def run(*arguments):
        main(arguments)
        lines = [line.split("  ") for line in capsys.readouterr().out.splitlines()]
        return {
            parts[0]: (value, arithmetic)
            for parts in lines
            for value, arithmetic in [[part.strip() for part in parts[1:] if part.strip()]]
        }

    return run


@pytest.mark.parametrize(
    ("encoder", "width_px", "counted"),
    [
        ("vits", 686, 167.47),
        ("vitb", 686, 533.75),
        ("vitl", 686, 1806.06),
        ("vitg", 686, 6200.78),
        ("vits", 770, 196),
        ("vitg", 924, 8728),
    ],
)
def test_the_work_of_an_image_is_what_was_counted_on_the_authors_modules(
    encoder, width_px, counted
):
    assert gigaflop(encoder, 518, width_px) == pytest.approx(counted, rel=5e-3)


def test_a_measured_rate_gives_hours_bytes_and_money(printed):
    lines = printed(
        *("--count", "a=1000000", "--count", "b=2_000_000", "--shape", "518x518"),
        *("--images-per-second", "100", "--gpus", "4", "--gpu-hour-price", "3"),
        *("--image-bytes-per-px", "0.5", "--label-bytes-per-px", "1", "--source-kb", "200"),
        *("--samples-per-shard", "1000", "--egress-gb-price", "0.1", "--hash-mb-per-s", "100"),
        *("--storage-price", "0.02", "--push-mb-per-s", "50", "--request-price", "0.005"),
    )
    assert lines["photographs"] == ("3,000,000", "a 1,000,000, b 2,000,000")
    assert lines["GPU-hours"] == ("8.33", "3,000,000 / 100.0 / 3600")
    assert lines["hours"][0] == "2.08"
    assert lines["price of the GPUs"] == ("25.00", "8.33 x 3; 0.00833 a 1000")
    # 3e6 x 518 x 518 px x (0.5 + 1) B = 1207.5 GB; photographs 3e6 x 200 kB = 600 GB.
    assert lines["on disk, GB"][0] == "1,207.5"
    assert lines["photographs read, GB"][0] == "600.0"
    assert lines["price of traffic"][0] == "180.75"
    # 1024 leaves of a and 2048 of b hold 977 each on average, 22 % of them over 1000: 3072 x 1.22.
    assert lines["shards"][0] == "3,751"
    assert lines["DVC hashes, hours"][0] == "3.35"
    assert lines["DVC pushes, hours"][0] == "6.71"
    assert lines["price of a month"][0] == "24.15"
    # 321.9 MB a shard: 7 parts of 50 MiB, and a request before and after them.
    assert lines["requests of a push"][0] == f"{3751 * 9:,}"
    assert lines["price of requests"][0] == "0.17"


@pytest.mark.parametrize(
    ("num_images", "capacity"), [(121_094, 1024), (1000, 1024), (5000, 40), (5000, 50), (6001, 90)]
)
def test_as_many_shards_are_expected_as_the_planner_makes(num_images, capacity):
    ids = [f"photograph-{number}" for number in range(num_images)]
    rows = pd.DataFrame({"sample_id": ids, "source": "a", "content_hash": "", "decoder": ""})
    planned = len(plan_shards(rows, samples_per_shard=capacity, recipe=""))
    assert num_shards(num_images, capacity) == pytest.approx(planned, rel=0.03)


def test_bytes_are_the_codecs_as_measured_or_those_of_shards(printed, tmp_path, monkeypatch):
    of_codec = printed("--count", "1_000_000", "--shape", "518x686", "--codec", "htj2k12")
    # 1e6 x 518 x 686 px x 0.325 B.
    assert of_codec["labels in shards, GB"] == ("115.5", "355.3 Gpx x 0.325 B, htj2k12 as measured")
    assert set(LABEL_BYTES_PER_PX) == set(get_args(CodecName))

    folder = tmp_path / "pseudo"
    folder.mkdir()
    sizes = {"jpg_bytes": [600, 900], "depth_bytes": [1000, 3000], "height": [28, 28]}
    pd.DataFrame({**sizes, "width": [28, 42]}).to_parquet(folder / "manifest.parquet")
    lines = printed("--count", "1000", "--shape", "518x686", "--shards", str(folder))
    # 28 x 28 + 28 x 42 = 1960 px.
    assert lines["images in shards, GB"][1].endswith("x 0.765 B")
    assert lines["labels in shards, GB"][1].endswith(f"x 2.041 B, as in {folder}")


def test_small_photographs_stay_small_in_shards(printed):
    lines = printed("--papers", "--label-bytes-per-px", "1", "--image-bytes-per-px", "1")
    assert lines["photographs"][0] == "62,300,000"
    assert "lsun 9,800,000" in lines["photographs"][1]
    # 44.3e6 of 518 x 686, 8.2e6 of 518 x 924, 9.8e6 of 252 x 336 (LSUN's 256 px).
    gb = 44.3e6 * 518 * 686 + 8.2e6 * 518 * 924 + 9.8e6 * 252 * 336
    assert lines["labels in shards, GB"][0] == f"{gb / 1e9:,.1f}"
    mean = (54.1e6 * gigaflop("vitg", 518, 686) + 8.2e6 * gigaflop("vitg", 518, 924)) / 62.3e6
    assert lines["GFLOP an image"][0] == f"{mean:,.1f}"


def test_without_a_measured_rate_the_work_of_an_image_decides(printed):
    lines = printed("--count", "62_000_000", "--tflops", "790", "--share", "1")
    # 62e6 x 6.2017 TFLOP / 790 TFLOP/s / 3600 = 135 h, the floor.
    assert lines["GPU-hours"][0] == "135.2"
    assert lines["images/s of a GPU"] == ("127.4", "790,000 GFLOP/s / 6,201.7 GFLOP")


def test_manifests_give_counts_sizes_and_bytes(printed, tmp_path):
    project = Project(tmp_path)
    project.add_photographs("wild", 12)
    project.write()
    manifest = str(tmp_path / ARGUMENTS[0])
    lines = printed("--manifest", manifest, "--short-side", "28", "--images-per-second", "2")
    assert lines["photographs"] == ("12", "wild 12")
    num_bytes = sum(path.stat().st_size for path in (tmp_path / "wild").iterdir())
    assert float(lines["photographs read, GB"][0]) == pytest.approx(num_bytes / 1e9, rel=1e-2)


def test_the_last_labelling_gives_the_rate_of_one_gpu(printed, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path(".work").mkdir()
    facts = {"stage": "pseudo_label", "images_per_second": 80, "num_workers": 4}  # CPUs or GPUs
    Path(".work/runs.jsonl").write_text(json.dumps(facts) + '\n{"stage": "report"}\n{"torn')
    lines = printed("--count", "9", "--last-run")
    assert lines["images/s of a GPU"][0] == "20.0"


def test_what_does_not_fit_is_refused_in_one_line(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit, match="expected a --count, a --manifest or --papers, got none"):
        main([])
    with pytest.raises(SystemExit, match="expected --count <number> or <name>=<number>, got many"):
        main(["--count", "many"])
    with pytest.raises(SystemExit, match=r"expected a labelling with its rate in .*, got none"):
        main(["--count", "9", "--last-run"])
    with pytest.raises(FileNotFoundError, match=r"no\.parquet: expected a manifest, got no file"):
        main(["--manifest", "no.parquet"])
    with pytest.raises(FileNotFoundError, match=r"manifest\.parquet: expected the index of labels"):
        main(["--count", "9", "--shards", "none"])
    pd.DataFrame({name: [] for name in ("jpg_bytes", "depth_bytes", "height", "width")}).to_parquet(
        "manifest.parquet"
    )
    with pytest.raises(ValueError, match=r"manifest\.parquet: expected at least one label, got n"):
        main(["--count", "9", "--shards", "."])


def test_a_shape_that_is_no_multiple_of_14_is_refused(capsys):
    with pytest.raises(SystemExit, match="2"):
        main(["--count", "9", "--shape", "500x500"])
    assert "expected <height>x<width>, multiples of 14, got 500x500" in capsys.readouterr().err
