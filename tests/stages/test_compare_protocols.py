"""The tools that hold one model against several protocols, and models against a noisy truth."""

import json
import re

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from scipy.stats import kendalltau

from dav2.data.manifest import MANIFEST_SCHEMA, write_manifest
from dav2.data.open import open_dataset
from dav2.models import checkpoints
from dav2.models.depth_anything import DepthAnything, ModelConfig
from stages import compare_protocols, noisy_truth
from tests.fixtures.evaluating import EVALUATE

SOURCES = """
sources:
  rooms: {reader: diode, root: rooms, watch: rooms, domain: indoor, roles: {evaluation: [val]}}
"""
PARAMS = f"""{SOURCES}{EVALUATE}  saved_predictions: 0
  consistency_samples: 0
"""
HEIGHT, WIDTH = 30, 40


@pytest.fixture
def project(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "params.yaml").write_text(PARAMS)
    folder = tmp_path / "rooms" / "val" / "indoors" / "scene_00000" / "scan_00000"
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for name in ("a", "b"):
        picture = rng.integers(0, 255, (HEIGHT, WIDTH, 3), dtype=np.uint8)
        Image.fromarray(picture).save(folder / f"{name}.png")
        rows = np.geomspace(40, 1, HEIGHT, dtype=np.float32)[:, None]
        depth = rows * rng.uniform(0.8, 1.2, (HEIGHT, WIDTH)).astype(np.float32)
        np.save(folder / f"{name}_depth.npy", depth[..., None])
        np.save(folder / f"{name}_depth_mask.npy", np.ones((HEIGHT, WIDTH), np.float32))
    listed = open_dataset("diode", tmp_path / "rooms").list_samples("val")
    rows = [
        dict.fromkeys(MANIFEST_SCHEMA.names)
        | {
            "sample_id": f"rooms-{files.sample_id}".replace("/", "_"),
            "source": "rooms",
            "dataset": "diode",
            "domain": "indoor",
            "split": "val",
            "scene": files.scene,
            "image": files.image,
            "depth": files.depth,
            "extra": json.dumps(files.extra),
            "width": WIDTH,
            "height": HEIGHT,
            "decoder": "0" * 16,
        }
        for files in listed
    ]
    write_manifest(pd.DataFrame(rows), tmp_path / "evaluation.parquet")
    for seed, name in enumerate(("one", "other")):
        torch.manual_seed(seed)
        checkpoints.save(
            DepthAnything(ModelConfig("vit64x4")), tmp_path / f"{name}.safetensors", {}
        )
    metric = DepthAnything(ModelConfig("vit64x4", 20.0))
    checkpoints.save(metric, tmp_path / "metric.safetensors", {"domain": "indoor"})
    return tmp_path


def cells(text: str) -> dict[str, list[str]]:
    lines = [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("|")]
    return {line[0]: line[1:] for line in lines}


def by_protocol(text: str) -> dict[str, list[str]]:
    """Cells of each protocol, those of one line taken apart: `v2/{any, kitti}, moge/any`."""
    return {
        f"{paper}/{name}": line
        for names, line in cells(text).items()
        for paper, several, one in re.findall(r"(\w+)/(?:\{([^}]*)\}|(\w+))", names)
        for name in (several.split(", ") if several else [one])
    }


def test_a_model_stands_under_every_protocol_that_fits_it(project, capsys):
    compare_protocols.main(["evaluation.parquet", "one.safetensors", "--source", "rooms"])
    relative = by_protocol(capsys.readouterr().out)
    assert {"default/relative", "v2/kitti", "marigold/any", "moge/any"} <= set(relative)
    assert "zoedepth/nyu" not in relative  # for models of depth
    assert float(relative["midas/nyu"][0]) < float(
        relative["moge/any"][0]
    )  # pixels below 10 m, and all
    assert relative["midas/eth3d"] == relative["v2/eth3d"] != relative["midas/nyu"]
    value, low, high = map(float, re.findall(r"[\d.]+", relative["v2/kitti"][1]))
    assert low <= value <= high
    named = [f"--protocol={name}" for name in ("zoedepth/nyu", "marigold/nyu_depth", "v2/nyu")]
    compare_protocols.main(["evaluation.parquet", "metric.safetensors", *named])
    assert len(by_protocol(capsys.readouterr().out)) == 3


def test_a_dataset_that_was_not_ingested_stands_beside_the_others(project, capsys):
    models = ["one.safetensors", "metric.safetensors"]
    protocol = "--protocol=v2/any"
    compare_protocols.main(["evaluation.parquet", *models, protocol, "--data=diode/val=rooms"])
    titled = capsys.readouterr().out.split("**")[1:]
    # A metric model meets the sources whose domain is known to be its own.
    assert titled[::2] == ["one, rooms", "one, diode/val", "metric, rooms"]
    assert cells(titled[1]) == cells(titled[3])
    with pytest.raises(ValueError, match="expected <reader>/<split>=<folder>, got 'moon=rooms'"):
        compare_protocols.main(["evaluation.parquet", *models, protocol, "--data=moon=rooms"])


def test_relative_depth_is_not_held_against_a_protocol_of_metres(project):
    with pytest.raises(ValueError, match=r"protocols for relative depth, got zoedepth/nyu$"):
        compare_protocols.main(
            ["evaluation.parquet", "one.safetensors", "--protocol", "zoedepth/nyu"]
        )


def test_models_are_ranked_on_exact_and_on_noisy_depth(project, capsys):
    arguments = ["evaluation.parquet", "one.safetensors", "other.safetensors"]
    noisy_truth.main([*arguments, "--strength", "1", "3", "--measure", "delta1"])
    found = cells(capsys.readouterr().out)
    assert found["model"] == ["exact", "noise 1", "noise 3"]
    assert {found[name][0][-2] for name in ("one", "other")} == {"1", "2"}
    assert found["one"][0].split()[0] != found["one"][2].split()[0]
    assert found["Kendall's tau"][0] == "+1.00"


def test_a_metric_model_has_no_rank_among_relative_ones(project):
    with pytest.raises(ValueError, match="metric: expected a model of relative depth, got a metri"):
        noisy_truth.main(["evaluation.parquet", "metric.safetensors"])


def test_rankings_agree_as_kendall_counts_pairs():
    assert noisy_truth.agreement("abc", "abc") == 1.0
    assert noisy_truth.agreement("abc", "cba") == -1.0
    # Of six pairs a and b, c and d stand the other way round: (4 - 2) / 6.
    assert noisy_truth.agreement("abcd", "badc") == pytest.approx(1 / 3)
    assert noisy_truth.agreement(["alone"], ["alone"]) == 1.0
    names = "abcdefg"
    other = "".join(np.random.default_rng(0).permutation(list(names)))
    tau = kendalltau(range(7), [other.index(name) for name in names]).statistic
    assert noisy_truth.agreement(names, other) == pytest.approx(tau)


def test_the_table_shows_ranks_spread_and_agreement():
    values = {"x": ([0.1, 0.3], [0.4, 0.8]), "y": ([0.3, 0.5], [0.2, 0.6])}
    found = {
        name: dict(zip((0.0, 1.0), map(np.array, both), strict=True))
        for name, both in values.items()
    }
    lines = cells(noisy_truth.table("s", found, measure="abs_rel"))
    assert lines["x"] == ["0.200 [0.100, 0.300] (1)", "0.600 [0.400, 0.800] (2)"]
    # Paired: the images differ, the distance of the models does not.
    assert lines["worst less best"] == ["0.200 [0.200, 0.200]", "0.200 [0.200, 0.200]"]
    assert lines["Kendall's tau"] == ["+1.00", "-1.00"]
    better = cells(noisy_truth.table("s", found, measure="delta1"))
    assert better["y"] == ["0.400 [0.300, 0.500] (1)", "0.400 [0.200, 0.600] (2)"]
