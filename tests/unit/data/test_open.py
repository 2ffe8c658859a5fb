"""Datasets open by name, and manifests read their samples through the right reader."""

from pathlib import Path
from typing import get_args

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from dav2.data.open import DatasetName, ManifestReader, SourceLocation, open_dataset
from dav2.data.png16 import encode_png16
from dav2.data.sample import Reader

MISSING = Path("nowhere")


@pytest.mark.parametrize("name", get_args(DatasetName))
def test_every_name_opens_a_reader_without_touching_the_disk(name):
    assert isinstance(open_dataset(name, MISSING), Reader)


@pytest.mark.parametrize("name", get_args(DatasetName))
def test_every_reader_tells_of_a_missing_root(name):
    known = {"da2k": "test", "open_images": "validation", "google_landmarks": "train"}
    of_all = ("folder", "middlebury", "webdataset", "sa1b", "imagenet21k", "uri_list")
    split = known.get(name, "all" if name in of_all else "val")

    with pytest.raises(FileNotFoundError, match="nowhere: expected the folder of a dataset"):
        list(open_dataset(name, MISSING).list_samples(split))


def picture(path, size):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((*size, 3), 30, np.uint8)).save(path)


@pytest.fixture
def two_sources(tmp_path):
    picture(tmp_path / "photos" / "a.png", (2, 3))
    frames = tmp_path / "drive" / "Scene01" / "clone" / "frames"
    picture(frames / "rgb" / "Camera_0" / "rgb_00001.jpg", (4, 5))
    depth = frames / "depth" / "Camera_0" / "depth_00001.png"
    depth.parent.mkdir(parents=True)
    depth.write_bytes(encode_png16(np.full((4, 5), 300, np.uint16)))
    rows = [
        {
            "source": "photos",
            "sample_id": "photos-a",
            "scene": "",
            "image": "a.png",
            "depth": None,
            "extra": "[]",
            "image_hash": "",
            "width": 3,
            "height": 2,
        },
        {
            "source": "drive",
            "sample_id": "drive-1",
            "scene": "Scene01",
            "image": "Scene01/clone/frames/rgb/Camera_0/rgb_00001.jpg",
            "depth": "Scene01/clone/frames/depth/Camera_0/depth_00001.png",
            "extra": "[]",
            "image_hash": "",
            "width": 5,
            "height": 4,
        },
    ]
    sources = {
        "photos": SourceLocation("folder", tmp_path / "photos"),
        "drive": SourceLocation("vkitti2", tmp_path / "drive"),
        "unused": SourceLocation("hypersim", tmp_path / "unused"),
    }
    # As a gate leaves it: other index, text columns of pandas.
    return pd.DataFrame(rows, index=[7, 3]), sources, tmp_path


def test_each_row_is_read_by_its_sources_reader(two_sources):
    manifest, sources, _ = two_sources

    reader = ManifestReader(manifest, sources)

    assert len(reader) == 2
    assert reader.read(0).sample_id == "photos-a"
    assert reader.read(0).depth is None
    assert reader.read(1).sample_id == "drive-1"
    assert (reader.read(1).depth == 3).all()
    assert reader.read_image(1).shape == (4, 5, 3)


def test_an_image_that_has_grown_since_is_refused(two_sources):
    manifest, sources, root = two_sources
    picture(root / "photos" / "a.png", (9, 9))

    with pytest.raises(ValueError, match=r"a\.png: expected an image of 1 to 20 pixels, got 9 x 9"):
        ManifestReader(manifest, sources).read(0)


def test_a_source_without_a_place_is_an_error(two_sources):
    manifest, sources, _ = two_sources

    with pytest.raises(ValueError, match="expected only sources that are located, got drive"):
        ManifestReader(manifest, {"photos": sources["photos"]})


def test_an_empty_manifest_has_no_samples(two_sources):
    manifest, sources, _ = two_sources

    assert len(ManifestReader(manifest.iloc[:0], sources)) == 0
