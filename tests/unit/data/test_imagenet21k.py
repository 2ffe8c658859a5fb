"""ImageNet-21K's layout: a tar, or a folder, for each synset."""

import pytest

from dav2.data.imagenet21k import ImageNet21k
from tests.fixtures.photographs import jpeg, listed, write, write_tar


def test_the_synset_is_the_scene_in_tars_and_in_folders(tmp_path):
    write_tar(
        tmp_path / "winter21_whole" / "n00004475.tar",
        {"n00004475_6590.JPEG": jpeg(), "n00004475_15899.JPEG": jpeg((6, 10), 90, "PNG")},
    )
    write(tmp_path / "n00005787" / "n00005787_13.JPEG", jpeg())
    reader = ImageNet21k(tmp_path)

    assert listed(reader, "all") == [
        ("n00005787_13", "n00005787"),
        ("n00004475_6590", "n00004475"),
        ("n00004475_15899", "n00004475"),
    ]
    sample = reader.read(list(reader.list_samples("all"))[2])
    assert (sample.image == 90).all()  # a PNG under the name of a JPEG
    assert sample.image.shape == (6, 10, 3)
    assert sample.dataset == "imagenet21k"


@pytest.mark.parametrize("name", ["n00005787_1.JPEG", "n00004475_1.jpg", "n00004475.JPEG"])
def test_an_image_of_another_synset_or_name_is_refused(name, tmp_path):
    write_tar(tmp_path / "n00004475.tar", {name: b"x"})

    with pytest.raises(ValueError, match=f"#{name}: expected photographs as <synset>/<synset>_N"):
        listed(ImageNet21k(tmp_path), "all")


def test_the_only_split_is_all(tmp_path):
    with pytest.raises(ValueError, match="expected split 'all', got 'val'"):
        ImageNet21k(tmp_path).list_samples("val")
