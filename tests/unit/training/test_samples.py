"""What a model learns from."""

import json

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from dav2.data.images import encode_jpeg
from dav2.data.manifest import MANIFEST_SCHEMA
from dav2.data.open import SourceLocation, open_dataset
from dav2.data.shards import INDEX_SCHEMA, ShardWriter, write_index
from dav2.labeling.codec import encode_label
from dav2.training.samples import (
    ChosenSamples,
    KeptSamples,
    LabelledSamples,
    PseudoLabels,
    hold_out,
    spread,
    subset,
)

HEIGHT, WIDTH = 4, 6


def labelled(root, depth, mask=None, *, reader="diode", max_depth_m=None):
    """One DIODE sample with the given depth; or a Middlebury pair with it as disparity."""
    image = np.full((HEIGHT, WIDTH, 3), 7, np.uint8)
    if reader == "diode":
        folder = root / "val" / "outdoor" / "scene_00000" / "scan_00000"
        folder.mkdir(parents=True)
        Image.fromarray(image).save(folder / "a.png")
        np.save(folder / "a_depth.npy", depth[..., None])
        np.save(folder / "a_depth_mask.npy", np.ones_like(depth) if mask is None else mask)
    else:
        Image.fromarray(image).save(root / "a_left.png")
        np.savez(root / "a_disp.npz", depth)
    location = SourceLocation(reader, root)
    (files,) = open_dataset(reader, root).list_samples("val" if reader == "diode" else "all")
    row = dict.fromkeys(MANIFEST_SCHEMA.names) | {
        "sample_id": "set-a",
        "source": "set",
        "scene": files.scene,
        "image": files.image,
        "depth": files.depth,
        "extra": json.dumps(files.extra),
        "width": WIDTH,
        "height": HEIGHT,
    }
    return LabelledSamples(pd.DataFrame([row]), {"set": location}, max_depth_m=max_depth_m)


def ramp():
    return np.linspace(1, 24, HEIGHT * WIDTH, dtype=np.float32).reshape(HEIGHT, WIDTH)


def test_targets_are_inverse_metres_and_invalid_pixels_do_not_count(tmp_path):
    mask = np.ones((HEIGHT, WIDTH), np.float32)
    mask[0, 0] = 0
    samples = labelled(tmp_path, ramp(), mask)
    sample = samples.read(0)
    assert samples.sample_ids == ("set-a",)
    assert sample.sample_id == "set-a"
    assert not sample.valid[0, 0]
    assert sample.valid.sum() == HEIGHT * WIDTH - 1
    assert sample.target[0, 1] == pytest.approx(1 / 2)
    assert sample.target[3, 5] == pytest.approx(1 / 24)


def test_metric_targets_are_metres_up_to_the_largest_depth(tmp_path):
    sample = labelled(tmp_path, ramp(), max_depth_m=10.0).read(0)
    assert sample.valid.sum() == 10
    np.testing.assert_allclose(sample.target[sample.valid], np.arange(1, 11), rtol=1e-6)
    assert (sample.target[~sample.valid] == 0).all()


def test_depth_of_unknown_scale_is_no_metric_target(tmp_path):
    samples = labelled(tmp_path, ramp(), reader="middlebury", max_depth_m=10.0)
    with pytest.raises(ValueError, match="set-a: expected depth in metres, got depth of unknown"):
        samples.read(0)


def test_a_sample_without_depth_is_refused(tmp_path):
    Image.fromarray(np.zeros((HEIGHT, WIDTH, 3), np.uint8)).save(tmp_path / "a.png")
    row = dict.fromkeys(MANIFEST_SCHEMA.names) | {
        "sample_id": "set-a",
        "source": "set",
        "scene": "",
        "image": "a.png",
        "extra": "[]",
        "width": WIDTH,
        "height": HEIGHT,
    }
    location = SourceLocation("folder", tmp_path)
    samples = LabelledSamples(pd.DataFrame([row]), {"set": location}, max_depth_m=None)
    with pytest.raises(ValueError, match="set-a: expected a sample with depth, got none"):
        samples.read(0)


def test_pseudo_labels_come_with_their_images_and_count_everywhere(tmp_path):
    label = np.linspace(0, 5, 14 * 28, dtype=np.float32).reshape(14, 28)
    image = np.full((17, 34, 3), 90, np.uint8)
    (tmp_path / "shards").mkdir()
    row = dict.fromkeys(INDEX_SCHEMA.names, 0.0) | {
        "sample_id": "wild-1",
        "source": "wild",
        "shard": "a.tar",
        "image_width": 34,
        "image_height": 17,
        "width": 28,
        "height": 14,
        "degenerate": False,
    }
    with ShardWriter(tmp_path / "shards" / "a.tar") as writer:
        encoded = encode_label(label)
        description = {
            "sample_id": "wild-1",
            "codec": "png16",
            "min": encoded.minimum,
            "max": encoded.maximum,
        }
        row |= writer.add(
            "wild-1",
            jpeg=encode_jpeg(image, quality=95),
            label=encoded,
            description=json.dumps(description).encode(),
        )
    write_index(pd.DataFrame([row]), tmp_path / "manifest.parquet")
    samples = PseudoLabels(tmp_path)
    sample = samples.read(0)
    assert samples.sample_ids == ("wild-1",)
    assert sample.image.shape == (17, 34, 3)
    np.testing.assert_allclose(sample.target, label, atol=5 / 65535)
    assert sample.valid.all()


def test_chosen_samples_keep_their_names(discs):
    chosen = ChosenSamples(discs(5), [3, 1])
    assert chosen.sample_ids == ("disc-3", "disc-1")
    assert chosen.read(0).sample_id == "disc-3"


def test_samples_are_read_once_while_they_fit(discs):
    source = discs(4)
    size = source.read(0).num_bytes()
    source.reads.clear()
    kept = KeptSamples(source, limit_bytes=2 * size)
    assert kept.sample_ids == source.sample_ids
    for _ in range(3):
        for index in range(4):
            assert kept.read(index).sample_id == f"disc-{index}"
    assert [source.reads.count(index) for index in range(4)] == [1, 1, 3, 3]


def test_held_out_samples_are_spread_and_never_trained_on():
    train, held_out = hold_out(10, num_held_out=3)
    assert held_out == [1, 5, 8]
    assert sorted(train + held_out) == list(range(10))


def test_fewer_samples_than_wanted_are_all_chosen():
    assert spread(3, num_chosen=8) == [0, 1, 2]


@pytest.mark.parametrize(("num_samples", "num_held_out"), [(3, 3), (3, 0)])
def test_nothing_to_train_or_validate_on_is_refused(num_samples, num_held_out):
    with pytest.raises(ValueError, match=f"hold out: expected more than {num_held_out} samples"):
        hold_out(num_samples, num_held_out=num_held_out)


def test_of_two_subsets_of_a_seed_the_smaller_is_part_of_the_larger():
    small, large = (subset(50, num_chosen=count, seed=3) for count in (10, 30))
    assert (len(small), len(large)) == (10, 30)
    assert set(small) < set(large)
    assert large == sorted(set(large))
    assert small != subset(50, num_chosen=10, seed=4)
    assert subset(50, num_chosen=50, seed=3) == list(range(50))


def test_a_subset_of_more_samples_than_there_are_is_refused():
    with pytest.raises(ValueError, match="subset: expected at least 6 samples, got 5"):
        subset(5, num_chosen=6, seed=0)
