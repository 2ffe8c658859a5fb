import json
import subprocess
import sys

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from dav2.data.png16 import decode_png16
from dav2.data.transforms import normalise, resize_image
from dav2.models.checkpoints import save
from dav2.models.depth_anything import DepthAnything, ModelConfig
from dav2.predict import colour_map, main, predict


def make_model(max_depth_m=None):
    torch.manual_seed(0)
    return DepthAnything(ModelConfig("vit64x4", max_depth_m)).eval()


def make_image(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def model():
    return make_model()


@pytest.fixture(scope="module")
def weights(tmp_path_factory, model):
    path = tmp_path_factory.mktemp("weights") / "model.safetensors"
    save(model, path, {"short_side_px": 42})
    return path


def test_map_is_the_models_output_at_the_images_own_resolution(model):
    image = make_image(60, 90)
    (depth,) = predict(model, [image], short_side_px=42)
    # 42 x 63, which is halfway between 56 and 70: up.
    inputs = normalise(torch.from_numpy(resize_image(image, (42, 70)))[None])
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


def test_colours_run_from_dark_and_far_to_bright_and_close():
    colours = colour_map(np.linspace(2, 5, 256, dtype=np.float32)[None])
    assert colours.shape == (1, 256, 3)
    assert colours[0, 0].tolist() == [0x00, 0x00, 0x04]
    assert colours[0, -1].tolist() == [0xFC, 0xFF, 0xA4]
    luminance = colours[0] @ np.array([0.2126, 0.7152, 0.0722])
    assert (np.diff(luminance) > -1).all()


def test_a_constant_map_is_dark():
    assert np.unique(colour_map(np.full((3, 4), 7, np.float32))).tolist() == [0, 4]


def test_command_line_writes_depth_colours_and_ranges(weights, model, tmp_path):
    folder, out = tmp_path / "photographs", tmp_path / "out"
    (folder / "inner").mkdir(parents=True)
    first, second = make_image(50, 60, seed=1), make_image(70, 60, seed=2)
    Image.fromarray(first).save(folder / "a.png")
    Image.fromarray(second).save(folder / "inner" / "b.PNG")
    assert main(["--weights", str(weights), "--out", str(out), str(folder)]) == 0
    ranges = json.loads((out / "predictions.json").read_text())
    assert list(ranges) == ["a", "inner/b"]
    for name, image in (("a", first), ("inner/b", second)):
        (expected,) = predict(model, [image], short_side_px=42)
        entry = ranges[name]
        assert entry["values"] == "relative depth"
        codes = decode_png16((out / f"{name}_depth.png").read_bytes())
        assert (codes.min(), codes.max()) == (0, 65535)
        decoded = entry["minimum"] + codes / 65535 * (entry["maximum"] - entry["minimum"])
        assert np.allclose(decoded, expected, atol=1e-5)
        colours = np.asarray(Image.open(out / f"{name}_colour.png"))
        assert np.array_equal(colours, colour_map(expected))


def test_command_line_says_metres_and_paints_near_bright(tmp_path):
    save(make_model(max_depth_m=20.0), tmp_path / "m", {})
    Image.fromarray(make_image(40, 50)).save(tmp_path / "a.png")
    arguments = ["--weights", str(tmp_path / "m"), "--out", str(tmp_path / "out")]
    assert main([*arguments, "--input-size", "42", "--bf16", str(tmp_path / "a.png")]) == 0
    entry = json.loads((tmp_path / "out" / "predictions.json").read_text())["a"]
    assert entry["values"] == "depth in metres"
    assert 0 < entry["minimum"] < entry["maximum"] < 20
    codes = decode_png16((tmp_path / "out" / "a_depth.png").read_bytes())
    brightness = np.asarray(Image.open(tmp_path / "out" / "a_colour.png")).sum(axis=2)
    assert brightness[codes == 0].min() > brightness[codes == 65535].max()


def test_an_unreadable_image_is_reported_and_the_rest_is_done(weights, tmp_path, caplog):
    (tmp_path / "bad.jpg").write_text("not an image")
    Image.fromarray(make_image(40, 50)).save(tmp_path / "good.png")
    out = tmp_path / "out"
    assert main(["--weights", str(weights), "--out", str(out), str(tmp_path)]) == 1
    assert "bad.jpg" in caplog.text
    assert "1 of 2 images could not be read" in caplog.text
    assert list(json.loads((out / "predictions.json").read_text())) == ["good"]
    assert not (out / "bad_depth.png").exists()


def test_two_images_of_one_name_are_refused_before_any_work(weights, tmp_path, caplog):
    for name in ("a.png", "a.webp"):
        Image.fromarray(make_image(20, 20)).save(tmp_path / name)
    out = tmp_path / "out"
    assert main(["--weights", str(weights), "--out", str(out), str(tmp_path)]) == 2
    assert "a.webp: expected another name, got that of" in caplog.text
    assert not out.exists()


def test_an_empty_folder_is_refused(weights, tmp_path, caplog):
    (tmp_path / "empty").mkdir()
    arguments = ["--weights", str(weights), "--out", str(tmp_path / "out")]
    assert main([*arguments, str(tmp_path / "empty")]) == 2
    assert "expected images (.jpg .jpeg .png .webp), got none" in caplog.text


def test_missing_weights_are_one_line(tmp_path, caplog):
    Image.fromarray(make_image(20, 20)).save(tmp_path / "a.png")
    arguments = ["--weights", str(tmp_path / "none"), "--out", str(tmp_path / "out")]
    assert main([*arguments, str(tmp_path / "a.png")]) == 2
    assert "expected a checkpoint, got no file" in caplog.text


@pytest.mark.skipif(torch.cuda.is_available(), reason="has a GPU")
def test_a_device_that_is_not_there_is_one_line(weights, tmp_path, caplog):
    Image.fromarray(make_image(20, 20)).save(tmp_path / "a.png")
    arguments = ["--weights", str(weights), "--out", str(tmp_path / "out"), "--device", "cuda"]
    assert main([*arguments, str(tmp_path / "a.png")]) == 2
    assert caplog.messages == ["--device: expected a CUDA device, got none on this machine"]


def test_an_output_folder_that_cannot_be_written_is_one_line(weights, tmp_path, caplog):
    Image.fromarray(make_image(20, 20)).save(tmp_path / "a.png")
    out = tmp_path / "a.png" / "out"
    assert main(["--weights", str(weights), "--out", str(out), str(tmp_path / "a.png")]) == 2
    assert caplog.messages == [f"{out}: expected a folder to write to, got Not a directory"]


@pytest.mark.parametrize("value", ["0", "-3", "2.5", "many"])
def test_a_number_that_makes_no_sense_is_refused(weights, tmp_path, capsys, value):
    arguments = ["--weights", str(weights), "--out", str(tmp_path / "out"), "a.png"]
    with pytest.raises(SystemExit, match="2"):
        main([*arguments, f"--batch-size={value}"])
    assert f"expected a whole number above 0, got {value}" in capsys.readouterr().err


def test_the_models_mode_survives_a_failure():
    model = make_model().train()
    with pytest.raises(ValueError, match="prepare_size"):
        predict(model, [make_image(20, 30)], short_side_px=0)
    model.encoder.register_forward_pre_hook(lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError, match="division by zero"):
        predict(model, [make_image(20, 30)], short_side_px=28)
    assert model.training


def test_help_imports_neither_torch_nor_numpy():
    program = (
        "import sys, dav2.predict\n"
        "try:\n    dav2.predict.main(['--help'])\n"
        "finally:\n    assert not {'torch', 'numpy', 'PIL', 'timm'} & set(sys.modules)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "--input-size" in done.stdout
