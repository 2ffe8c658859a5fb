"""Protocols: every shipped file fits, names its source, and stands beside the numbers."""

import pandas as pd
import pytest

from dav2.metrics.depth import Protocol
from dav2.prediction.model_input import ModelInput
from stages.evaluation_protocols import (
    FOLDER,
    ProtocolParams,
    check_source,
    protocol_names,
    read_protocol,
)
from stages.params import read_document, validate


def content(name="default/relative", **changes) -> dict:
    return read_document(FOLDER / f"{name}.yaml") | changes


def with_input(**changes) -> dict:
    found = content()
    return found | {"input": found["input"] | changes}


def read(document: dict) -> ProtocolParams:
    return validate(document, ProtocolParams, where="p")


@pytest.mark.parametrize("name", protocol_names())
def test_every_shipped_protocol_fits_and_says_where_it_is_from(name):
    protocol = read_protocol(name)
    assert protocol.paper
    assert protocol.stated
    assert set(content(name)) == set(ProtocolParams.model_fields)  # nothing is left to a default
    if not name.startswith("default/"):
        assert "arXiv" in protocol.paper or "metric_depth" in protocol.paper


def test_the_papers_of_the_field_are_there():
    papers = {name.partition("/")[0] for name in protocol_names()}
    assert papers >= {"default", "marigold", "midas", "moge", "v1", "v2", "v2_metric", "zoedepth"}


def test_the_default_is_what_it_was_before_protocols_became_files():
    limits = {"crop": "none", "min_depth_m": 0.1}
    expected = {
        "relative": Protocol(alignment="inverse_depth", max_depth_m=80.0, **limits),
        "indoor": Protocol(alignment="none", max_depth_m=20.0, **limits),
        "outdoor": Protocol(alignment="none", max_depth_m=80.0, **limits),
    }
    for name, protocol in expected.items():
        found = read_protocol(f"default/{name}")
        assert found.protocol() == protocol
        assert found.averaging == "image"
        assert found.model_input(84, "antialiased") == ModelInput(84, preparation="antialiased")


def test_published_limits_and_crops_are_kept():
    nyu = read_protocol("zoedepth/nyu").protocol()
    assert (nyu.crop, nyu.min_depth_m, nyu.max_depth_m) == ("eigen_nyu", 1e-3, 10.0)
    kitti = read_protocol("marigold/kitti")
    assert (kitti.crop, kitti.image_crop) == ("eigen_kitti", "kitti_benchmark")
    assert (kitti.floor_inverse_depth, kitti.num_images) == (1e-3, 652)
    assert read_protocol("moge/nyu").protocol().max_spread == 1000.0


def test_an_input_of_a_protocol_beats_that_of_the_model():
    own = read(with_input(short_side_px=70, scale=2.0, preparation="authors", with_flip=True))
    assert own.model_input(84, "antialiased") == ModelInput(
        140, preparation="authors", with_flip=True
    )
    scaled = read(with_input(scale=1.5)).model_input(84, "authors")
    assert scaled.short_side_px == 126
    fixed = read(with_input(size_px=[392, 518])).model_input(84, "authors")
    assert fixed.size_px == (392, 518)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (content(min_depth_m=90.0), "expected min_depth_m below max_depth_m, got 90"),
        (content(max_depth_m=None, sky="farthest"), "max_depth_m where sky is 'farthest'"),
        (content(crop="middle"), "crop"),
        (with_input(scale=2.0, size_px=[14, 28]), "size_px, or short_side_px and scale, got both"),
        (with_input(short_side_px=100), "short_side_px"),
    ],
)
def test_protocols_that_make_no_sense_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        read(change)


def test_a_name_without_a_file_is_refused():
    with pytest.raises(ValueError, match=r"expected a protocol of .*v2/nyu.*, got '\.\./params'"):
        read_protocol("../params")


def rows(**columns) -> pd.DataFrame:
    return pd.DataFrame({"dataset": ["kitti"] * 3, "split": ["test"] * 3} | columns)


def test_a_protocol_of_another_dataset_is_refused():
    protocol = read_protocol("v2/kitti")
    with pytest.raises(
        ValueError, match="v2/kitti: expected samples of dataset kitti, got 3 of 'd"
    ):
        check_source("v2/kitti", protocol, rows(dataset=["diode"] * 3))
    with pytest.raises(ValueError, match="expected samples of split test, got 1 of 'train'"):
        check_source("v2/kitti", protocol, rows(split=["test", "train", "test"]))


def test_what_stands_beside_the_numbers_names_all_that_decides_them():
    protocol = read_protocol("zoedepth/kitti")
    kept = check_source("zoedepth/kitti", protocol, rows())
    assert kept["says"] == (
        "protocol zoedepth/kitti: not aligned, 0.001 to 80 m, crop garg, image crop kitti "
        "benchmark, mean with the mirrored image, means over images, 3 of its 652 images"
    )
    kept = check_source("marigold/eth3d", read_protocol("marigold/any"), rows())
    assert "aligned in inverse depth, 1e-05 to the farthest truth m, floor 0.001/m" in kept["says"]
