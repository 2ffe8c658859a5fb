"""Options of one's own folder fit together, or one line says which does not."""

import pytest

from dav2.data.own_options import OwnOptions

CAMERA = {"intrinsics": [500, 500, 320, 240], "image_size": [480, 640]}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kind": "depht"}, "kind: expected depth or distance or .*, got 'depht'"),
        ({"scale": 0}, "scale: expected a number above 0, got 0"),
        ({"baseline_m": -1}, "baseline_m: expected a number above 0, got -1"),
        ({"sky_value": 1, "sky_from": 2}, "sky_from: expected sky_value or sky_from, got both"),
        ({"sky_value": float("nan")}, "sky_value: expected a number, got nan"),
        ({"invalid": [1, float("nan")]}, "invalid: expected a number, got nan"),
        ({"exr_channel": ""}, "exr_channel: expected text, got ''"),
        ({"intrinsics": [1, 1, 1, 1]}, "image_size: expected intrinsics and image_size together"),
        ({**CAMERA, "intrinsics": [1, 1, 1]}, "intrinsics: expected a list of 4 numbers"),
        ({**CAMERA, "intrinsics": [0, 1, 1, 1]}, "fx and fy: expected a number above 0, got 0"),
        ({**CAMERA, "image_size": [480]}, "image_size: expected a list of 2 numbers"),
        ({"kind": "distance"}, "intrinsics: expected those of the camera for kind distance"),
        ({"kind": "disparity"}, "expected baseline_m and intrinsics for kind disparity, or scale"),
        ({"kind": "disparity", "baseline_m": 1}, "baseline_m and intrinsics for kind disparity"),
        (
            {"kind": "depth", "baseline_m": 1},
            "disparity of known scale alone, got 1 for kind depth",
        ),
        ({"split_lists": {"train": ""}}, "split_lists: train: expected text, got ''"),
        ({"images": "{f}.jpg"}, "depth: expected images and depth, or neither, got one of them"),
        ({"images": "{f}.jpg", "depth": "{g}.png"}, r"placeholders that are in images.*got \{g\}"),
        ({"images": "{f}.png", "depth": "{f}.png"}, "depth: expected other files than images"),
        (
            {"images": "{f}.tif", "depth": "{f}.png"},
            r"images: expected a file \.jpg.*got '\{f\}\.t",
        ),
        (
            {"images": "{f}.jpg", "depth": "{f}.txt"},
            r"depth: expected a file \.png.*got '\{f\}\.tx",
        ),
        (
            {"images": "{split}/{f}.jpg", "depth": "{split}/{f}.png", "split_lists": {"a": "b"}},
            r"split_lists: expected lists or \{split\} in images, got both",
        ),
    ],
)
def test_options_that_do_not_fit_are_refused_in_one_line(options, message):
    with pytest.raises(ValueError, match=message) as caught:
        OwnOptions(**options)
    assert "\n" not in str(caught.value)


def test_options_that_fit_together_pass():
    OwnOptions(kind="disparity", scale=1, baseline_m=0.12, **CAMERA)
    OwnOptions(kind="disparity", scale=1, scale_known=False)
    OwnOptions(kind="distance", scale=0.01, sky_value=float("inf"), **CAMERA)


def test_what_is_missing_is_listed():
    assert OwnOptions(kind="depth", scale=1, split_lists={"train": "train.txt"}).missing() == ""
    assert OwnOptions(scale=1, images="{f}.jpg", depth="{f}.npy").missing().startswith("kind (")
