"""Labels asked of the teacher are those of the shards, bit by bit."""

from typing import get_args

import numpy as np
import pytest
import torch

from dav2.labeling.codec import CodecName
from dav2.training.samples import PseudoLabels, Samples
from dav2.training.teacher_labels import TeacherLabels
from tests.unit.labeling.conftest import Photographs


@pytest.fixture
def photographs(tmp_path):
    return Photographs(tmp_path).add("wild", 8)


def asked(job):
    return TeacherLabels(
        job.manifest, job.sources, job.options, load_teacher=job.load_teacher, device=job.device
    )


@pytest.mark.parametrize("codec", get_args(CodecName))
def test_image_and_label_are_those_of_the_shards(photographs, tmp_path, codec):
    # Batches of one on both sides: larger ones may round otherwise.
    job = photographs.job(codec=codec, image_short_side_px=42, batch_size=1)
    photographs.label(job, tmp_path / "out")
    stored, live = PseudoLabels(tmp_path / "out"), asked(job)
    assert isinstance(live, Samples)
    assert live.sample_ids == stored.sample_ids
    for place in range(8):
        expected, got = stored.read(place), live.read(place)
        assert got.sample_id == expected.sample_id
        assert np.array_equal(got.image, expected.image)
        assert np.ptp(expected.target) > 0
        assert got.target.dtype == expected.target.dtype
        assert np.array_equal(got.target, expected.target)
        assert got.valid.all()
        assert got.valid.shape == got.target.shape
        assert got.pseudo


def test_nothing_is_compared_and_the_teacher_is_asked_at_each_read(photographs):
    live = asked(photographs.job(check_fraction=1.0, check_scale=1.5))
    assert photographs.num_seen() == 0
    for place in (3, 3, 5):
        live.read(place)
    assert photographs.teacher.batch_sizes == [1, 1, 1]


def test_elongated_photographs_are_left_out(photographs):
    live = asked(photographs.job(max_aspect_ratio=1.3))
    assert live.sample_ids == ("wild-003", "wild-007")
    assert live.read(1).sample_id == "wild-007"


def test_loading_the_teacher_leaves_random_numbers_as_they_were(photographs):
    live = asked(photographs.job())

    def load():
        torch.rand(7)
        return photographs.teacher

    live._load_teacher = load
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    live.read(0)
    assert torch.equal(torch.rand(1), expected)


def test_values_that_are_not_finite_are_refused(photographs):
    photographs.teacher.forward = lambda images: images[:, 0] / 0
    with pytest.raises(ValueError, match="wild-000: expected finite values of the teacher, got"):
        asked(photographs.job()).read(0)
