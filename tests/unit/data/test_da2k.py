"""DA-2K's annotations, written by hand: points are rows and columns, inside their image."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dav2.data.da2k import Da2k, PointPair

IMAGE = "images/indoor/a.jpg"


def write_root(root: Path, content, size=(4, 9)) -> Path:
    for image in content if isinstance(content, dict) else []:
        path = root / image
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((*size, 3), 60, np.uint8)).save(path)
    (root / "annotations.json").write_text(json.dumps(content))
    return root


def pair(first=(0, 1), second=(3, 8), closer="point1"):
    return {"point1": list(first), "point2": list(second), "closer_point": closer}


def test_points_are_row_and_column_and_the_closer_one_is_told(tmp_path):
    reader = Da2k(write_root(tmp_path, {IMAGE: [pair(), pair(closer="point2")]}))

    (files,) = reader.list_samples("test")

    assert reader.pairs(files, size=(4, 9)) == [
        PointPair(closer=(0, 1), farther=(3, 8), first_is_closer=True),
        PointPair(closer=(3, 8), farther=(0, 1), first_is_closer=False),
    ]
    assert (files.scene, files.image, files.extra) == ("indoor", IMAGE, ("annotations.json",))


def test_a_sample_is_an_image_without_depth(tmp_path):
    reader = Da2k(write_root(tmp_path, {IMAGE: [pair()], "images/aerial/b.jpg": [pair()]}))

    samples = [reader.read(files) for files in reader.list_samples("test")]

    assert [sample.scene for sample in samples] == ["aerial", "indoor"]
    assert samples[0].depth is None
    assert samples[0].image.shape == (4, 9, 3)


@pytest.mark.parametrize("point", [(4, 0), (0, 9), (-1, 0), (0, -1)])
def test_a_point_outside_the_image_is_refused(point, tmp_path):
    reader = Da2k(write_root(tmp_path, {IMAGE: [pair(second=point)]}))
    (files,) = reader.list_samples("test")

    with pytest.raises(ValueError, match=rf"a\.jpg: expected points inside 4 x 9 .*\[{point[0]}"):
        reader.read(files)


@pytest.mark.parametrize(
    ("entries", "got"),
    [
        ([], "expected at least one pair, got none"),
        ([{"point1": [1, 2]}], "expected point1 and point2"),
        ([pair(closer="point3")], "expected point1 and point2"),
        ([pair(first=(1, 2, 3))], "expected point1 and point2"),
        ({"point1": [1, 2]}, "expected a list of pairs"),
    ],
)
def test_annotations_of_another_form_are_refused_for_their_image(entries, got, tmp_path):
    reader = Da2k(write_root(tmp_path, {IMAGE: entries, "images/indoor/b.jpg": [pair()]}))
    bad, good = reader.list_samples("test")

    with pytest.raises(ValueError, match=rf"a\.jpg: {got}"):
        reader.read(bad)
    assert reader.read(good).image.shape == (4, 9, 3)


def test_unreadable_annotations_and_unknown_splits_are_errors(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"annotations\.json: expected a file, got nothing"):
        Da2k(tmp_path).list_samples("test")
    with pytest.raises(ValueError, match="expected an object of images"):
        Da2k(write_root(tmp_path, [])).list_samples("test")
    with pytest.raises(ValueError, match="expected samples of split 'test', got none"):
        Da2k(write_root(tmp_path, {})).list_samples("test")
    with pytest.raises(ValueError, match="expected split 'test', got 'val'"):
        Da2k(tmp_path).list_samples("val")
    (tmp_path / "annotations.json").write_text("{")
    with pytest.raises(ValueError, match="expected JSON, got something else"):
        Da2k(tmp_path).list_samples("test")
    with pytest.raises(FileNotFoundError, match="expected the folder of a dataset"):
        Da2k(tmp_path / "misspelt").list_samples("test")
