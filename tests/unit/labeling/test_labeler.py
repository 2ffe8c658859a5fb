"""What becomes of the teacher's answers, where they are and on their way to the shard."""

import dataclasses
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from torch._dynamo.testing import CompileCounterWithBackend

from dav2.labeling.codec import encode_label, max_code, pack
from dav2.labeling.labeler import Labeler, quantise, resize_labels
from dav2.labeling.prepare import PreparedImage
from dav2.models.depth_anything import DepthAnything, ModelConfig
from dav2.models.dpt import DPTHead
from tests.unit.labeling.conftest import OPTIONS


def maps(*, seed=0):
    """Returns maps of one size: any, constant, zero, with a few far values, of large values."""
    random = np.random.default_rng(seed)
    any_values = random.normal(size=(28, 42))
    far = np.where(random.random((28, 42)) < 0.01, 1e4, any_values)
    several = any_values, np.full((28, 42), 0.7), np.zeros((28, 42)), far, any_values * 1e7
    return np.stack(several).astype(np.float32)


@pytest.mark.parametrize("codec", ["png16", "htj2k16", "htj2k12"])
@pytest.mark.parametrize("seed", range(5))
def test_integers_of_the_device_are_those_of_the_host(codec, seed):
    values = maps(seed=seed)
    codes, minima, maxima = quantise(torch.from_numpy(values), max_code(codec))
    for place, one in enumerate(values):
        expected = encode_label(one, codec)
        assert pack(codes[place].numpy(), codec) == expected.data
        assert (minima[place].item(), maxima[place].item()) == (expected.minimum, expected.maximum)
    assert codes.element_size() == 2


def image(number, *, label_size=(28, 42), is_checked=False, rescaled=False):
    random = np.random.default_rng(number)
    return PreparedImage(
        sample_id=f"wild-{number}",
        source="wild",
        jpeg=b"jpeg",
        jpeg_size=label_size,
        label_size=label_size,
        teacher_input=random.integers(0, 256, (28, 42, 3), dtype=np.uint8),
        is_checked=is_checked,
        rescaled_input=random.integers(0, 256, (42, 70, 3), dtype=np.uint8) if rescaled else None,
    )


def labeler(model, **options):
    chosen = dataclasses.replace(OPTIONS, **options)
    return Labeler(model, chosen, device=torch.device("cpu"), teacher="t")


def test_labels_of_several_sizes_keep_the_order_of_their_images(photographs):
    sizes = [(28, 42), (14, 28), (28, 42), (14, 28), (14, 14)]
    images = [image(number, label_size=size) for number, size in enumerate(sizes)]
    made = labeler(photographs.teacher)
    together = made.label(images, made.stack(images))
    for one, label in zip(images, together, strict=True):
        (alone,) = made.label([one], made.stack([one]))
        assert label.codes.shape == one.label_size
        assert np.array_equal(label.codes, alone.codes)
        assert label.statistics == alone.statistics


def test_other_answers_come_with_the_images_that_are_checked(photographs):
    images = [
        image(0),
        image(1, is_checked=True),
        image(2),
        image(3, is_checked=True, rescaled=True),
    ]
    made = labeler(photographs.teacher)
    stacked = made.stack(images)
    labels = made.label(images, stacked)
    answers, mirrored = made.answer(stacked).numpy(), made.answer(stacked.flip(2)).numpy()
    assert [label.answers is not None for label in labels] == [False, True, False, True]
    for place, num_answers in ((1, 2), (3, 3)):
        assert len(labels[place].answers) == num_answers
        np.testing.assert_allclose(labels[place].answers[0], answers[place])
        np.testing.assert_allclose(labels[place].answers[1], mirrored[place], rtol=1e-6)
    other = made.answer(torch.from_numpy(images[3].rescaled_input)[None])
    assert np.array_equal(labels[3].answers[2], resize_labels(other, (28, 42))[0].numpy())


def test_a_map_that_is_not_finite_is_refused_and_the_others_are_not(photographs):
    images = [image(number) for number in range(3)]
    made = labeler(photographs.teacher)
    answers = made.answer(made.stack(images)).clone()
    answers[1, 3, 4] = float("nan")
    answers[1, 5, 6] = float("inf")
    made.answer = lambda batch: answers
    labels = made.label(images, made.stack(images))
    assert [label.num_not_finite for label in labels] == [0, 2, 0]
    assert labels[0].statistics
    assert labels[2].statistics
    made.finish(images[0], labels[0])
    with pytest.raises(ValueError, match="label: expected finite values, got 2 that are not"):
        made.finish(images[1], labels[1])


@pytest.fixture
def counter(monkeypatch):
    """Counts graphs in place of compiling them, and checks how they are asked for."""
    made = CompileCounterWithBackend("eager")
    compile_plainly = torch.nn.Module.compile

    def compile_part(part, *, dynamic, options):
        assert options == {"deterministic": True}
        if not isinstance(part, DPTHead):  # its checked types take half a minute to trace
            compile_plainly(part, backend=made, dynamic=dynamic)

    monkeypatch.setattr(torch.nn.Module, "compile", compile_part)
    torch._dynamo.reset()
    torch.manual_seed(0)
    return made


def test_whole_batches_alone_are_compiled_once_for_each_shape(counter):
    model = DepthAnything(ModelConfig("vit64x4", None))
    plain = labeler(model, batch_size=2)
    images = [image(number) for number in range(2)]
    square = torch.zeros((2, 42, 42, 3), dtype=torch.uint8)
    expected = plain.answer(plain.stack(images))
    tail = plain.answer(plain.stack(images[:1]))
    compiled = labeler(model, batch_size=2, compile=True)
    assert torch.equal(compiled.answer(compiled.stack(images[:1])), tail)
    assert counter.frame_count == 0
    for _ in range(2):
        torch.testing.assert_close(compiled.answer(compiled.stack(images)), expected)
    assert counter.frame_count == 1
    compiled.answer(square)
    assert counter.frame_count == 2
    compiled.answer(square[:1])
    assert counter.frame_count == 2


def test_every_shape_is_compiled_in_the_thread_that_computes(counter):
    made = labeler(DepthAnything(ModelConfig("vit64x4", None)), batch_size=2, compile=True)

    def compute():
        torch._dynamo.config.recompile_limit = 1  # of this thread alone
        for width in (28, 42, 56, 70):
            made.answer(torch.zeros((2, 28, width, 3), dtype=torch.uint8))

    with ThreadPoolExecutor(1) as pool:
        pool.submit(compute).result()
    assert counter.frame_count == 4


def test_there_is_room_for_every_shape(photographs):
    made = labeler(photographs.teacher, short_side_px=518, max_aspect_ratio=10.0, check_scale=1.5)
    # A side of 37 patches, the other of 37 to 370, upright or lying; and half as many again.
    assert made._limits["recompile_limit"] >= 2.5 * 2 * (370 - 37)
    assert made._limits["accumulated_recompile_limit"] >= 2.5 * 2 * (370 - 37)
