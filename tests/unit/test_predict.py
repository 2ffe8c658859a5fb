import subprocess
import sys

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from dav2.data.preparation import prepared_image
from dav2.data.transforms import normalise
from dav2.predict import predict
from tests.fixtures.prediction import make_image, make_model


@pytest.fixture(scope="module")
def model():
    return make_model()


# 42 x 63, which is halfway between 56 and 70: we round up, the authors to an even multiple.
@pytest.mark.parametrize(("preparation", "width"), [("authors", 56), ("antialiased", 70)])
def test_map_is_the_models_output_at_the_images_own_resolution(model, preparation, width):
    image = make_image(60, 90)
    (depth,) = predict(model, [image], short_side_px=42, preparation=preparation)
    seen = prepared_image(image, (42, width), preparation=preparation)
    inputs = normalise(torch.from_numpy(seen)[None])
    with torch.no_grad():
        expected = F.interpolate(
            model(inputs)[:, None], size=(60, 90), mode="bilinear", align_corners=True
        )
    assert depth.dtype == np.float32
    assert np.allclose(depth, expected[0, 0].numpy(), atol=1e-6)


@pytest.mark.parametrize("batch_size", [1, 2, 8])
def test_images_of_several_sizes_come_back_in_order(model, batch_size):
    images = [make_image(30 + 10 * (i % 3), 50 - 5 * (i % 2), seed=i) for i in range(7)]
    maps = predict(model, images, short_side_px=28, batch_size=batch_size)
    assert [depth.shape for depth in maps] == [image.shape[:2] for image in images]
    for image, depth in zip(images, maps, strict=True):
        (alone,) = predict(model, [image], short_side_px=28)
        assert np.allclose(depth, alone, atol=1e-5)


def test_images_of_one_prepared_size_share_a_batch(model):
    seen = []
    hook = model.register_forward_pre_hook(lambda _, inputs: seen.append(tuple(inputs[0].shape)))
    images = [make_image(40, 40), make_image(40, 80), make_image(41, 41), make_image(20, 20)]
    predict(model, images, short_side_px=28, batch_size=2)
    hook.remove()
    assert seen == [(2, 3, 28, 28), (1, 3, 28, 28), (1, 3, 28, 56)]


def test_by_default_a_model_sees_what_the_authors_code_shows_it(model):
    image = make_image(60, 90)
    (depth,) = predict(model, [image])
    (expected,) = predict(model, [image], short_side_px=168, preparation="authors")
    assert np.array_equal(depth, expected)


def test_no_images_give_no_maps(model):
    assert predict(model, [], short_side_px=28) == []


@pytest.mark.parametrize("training", [False, True])
def test_the_models_mode_is_left_as_it_was(training):
    model = make_model().train(training)
    predict(model, [make_image(20, 30)], short_side_px=28)
    assert model.training is training


def test_bfloat16_is_close_and_not_the_same(model):
    image = make_image(60, 90)
    (exact,) = predict(model, [image], short_side_px=42)
    (coarse,) = predict(model, [image], short_side_px=42, dtype=torch.bfloat16)
    assert coarse.dtype == np.float32
    assert np.allclose(exact, coarse, atol=0.02)
    assert not np.array_equal(exact, coarse)


def test_refuses_a_batch_size_below_1(model):
    with pytest.raises(ValueError, match="expected batch_size >= 1, got 0"):
        predict(model, [make_image(20, 20)], short_side_px=28, batch_size=0)


def test_the_models_mode_survives_a_failure():
    model = make_model().train()
    with pytest.raises(ValueError, match="prepare_size"):
        predict(model, [make_image(20, 30)], short_side_px=0)
    model.encoder.register_forward_pre_hook(lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError, match="division by zero"):
        predict(model, [make_image(20, 30)], short_side_px=28)
    assert model.training


def test_a_model_in_half_precision_gives_float32():
    (depth,) = predict(make_model().to(torch.bfloat16), [make_image(20, 30)], short_side_px=28)
    assert depth.dtype == np.float32
    assert depth.shape == (20, 30)


def test_help_answers_before_anything_heavy_is_imported():
    program = (
        "import runpy, sys\n"
        "sys.argv = ['predict', '--help']\n"
        "try:\n    runpy.run_module('dav2.predict', run_name='__main__')\n"
        "finally:\n    assert not {'torch', 'numpy', 'PIL', 'av', 'OpenEXR'} & set(sys.modules)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "--input-size" in done.stdout


def test_the_python_function_does_not_import_the_command_line():
    program = "import sys, dav2.predict\nassert 'dav2.prediction.command' not in sys.modules\n"
    subprocess.run([sys.executable, "-c", program], check=True)
