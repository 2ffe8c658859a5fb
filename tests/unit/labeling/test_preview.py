"""A person sees photograph and label side by side."""

import numpy as np
import torch

from dav2.data.shards import ShardReader
from dav2.labeling.preview import draw_labels, draw_worst_labels
from dav2.labeling.quality import WORST_BY


def test_shows_photographs_on_the_left_and_near_as_bright_on_the_right(photographs, tmp_path):
    photographs.add("wild", 9)
    torch.nn.init.zeros_(photographs.teacher.blur.weight)  # leaves the ramp: the lower the nearer
    photographs.label(photographs.job(), tmp_path / "out")
    picture = draw_labels(tmp_path / "out", num_samples=3)
    assert picture.shape == (3 * 140 + 2 * 4, 2 * 210 + 4, 3)
    first = ShardReader(tmp_path / "out").read(0)
    assert first.image.shape == (28, 42, 3)
    np.testing.assert_allclose(
        picture[:140, :210].mean(axis=(0, 1)), first.image.mean(axis=(0, 1)), atol=3
    )
    label = picture[:140, 214:424]
    assert (label[5] < 20).all()
    assert (label[-5] > 235).all()


def test_shows_no_more_than_there_are_and_nothing_without_labels(photographs, tmp_path):
    photographs.add("wild", 2)
    photographs.label(photographs.job(), tmp_path / "out")
    assert len(draw_labels(tmp_path / "out", num_samples=5)) == 2 * 140 + 4
    photographs.label(photographs.job(max_aspect_ratio=1.0), tmp_path / "none")
    assert draw_labels(tmp_path / "none", num_samples=5) is None


def test_a_constant_label_is_black(photographs, tmp_path):
    photographs.add("wild", 1)
    torch.nn.init.zeros_(photographs.teacher.blur.weight)
    photographs.teacher.forward = lambda images: images[:, 0] * 0 + 3
    photographs.label(photographs.job(check_fraction=0.0), tmp_path / "out")
    picture = draw_labels(tmp_path / "out", num_samples=1)
    assert picture[:, 214:].max() == 0


def test_draws_the_worst_of_each_measure(photographs, tmp_path):
    photographs.add("wild", 6)
    job = photographs.job(check_fraction=1.0, check_scale=1.5)
    photographs.label(job, tmp_path / "out")
    pictures = draw_worst_labels(tmp_path / "out", num_samples=2)
    assert {"scale_inconsistency", "ramp_correlation"} <= set(pictures) <= set(WORST_BY)
    assert {picture.shape[0] for picture in pictures.values()} == {2 * 140 + 4}
    photographs.label(photographs.job(max_aspect_ratio=1.0), tmp_path / "none")
    assert draw_worst_labels(tmp_path / "none", num_samples=2) == {}
