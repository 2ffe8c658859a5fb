import json
import logging
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from PIL import Image

from dav2.data.png16 import decode_png16
from dav2.models.checkpoints import save
from dav2.predict import predict
from dav2.prediction.colours import colour_map
from dav2.prediction.command import main
from dav2.prediction.tiles import predict_tiled
from tests.fixtures.prediction import make_image, make_model, run, write_video

EXACT = ("--precision", "float32", "--device", "cpu")


def make_png(path, height=40, width=50, seed=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    image = make_image(height, width, seed)
    Image.fromarray(image).save(path)
    return image


def test_a_folder_becomes_depth_colours_and_ranges(weights, model, tmp_path, caplog):
    caplog.set_level(logging.INFO)
    folder, out = tmp_path / "photographs", tmp_path / "out"
    images = {
        "a": make_png(folder / "a.png", 50, 60, seed=1),
        "inner/b": make_png(folder / "inner" / "b.PNG", 70, 60, seed=2),
    }
    status, summary = run(weights, out, folder, *EXACT)
    assert status == 0
    assert "Predicting on cpu in float32, short side 42 px" in caplog.messages
    assert list(summary) == ["a", "inner/b"]
    for name, image in images.items():
        (expected,) = predict(model, [image], short_side_px=42, preparation="antialiased")
        entry = summary[name]
        assert entry["values"] == "relative depth"
        assert entry["formats"] == ["color", "png16"]
        codes = decode_png16((out / f"{name}_depth.png").read_bytes())
        assert (codes.min(), codes.max()) == (0, 65535)
        decoded = entry["minimum"] + codes / 65535 * (entry["maximum"] - entry["minimum"])
        assert np.allclose(decoded, expected, atol=1e-5)
        colours = np.asarray(Image.open(out / f"{name}_colour.png")).astype(int)
        assert np.abs(colours - colour_map(expected)).max() <= 8  # a step of the table
    assert summary["a"]["input_size"] == [42, 56]
    assert summary["inner/b"]["input_size"] == [56, 42]


def test_metric_weights_give_metres(metric_weights, tmp_path):
    make_png(tmp_path / "a.png")
    out = tmp_path / "out"
    formats = "--format=png16,color,npy"
    status, summary = run(metric_weights, out, formats, "--input-size", 28, tmp_path / "a.png")
    assert status == 0
    entry = summary["a"]
    assert entry["values"] == "depth in metres"
    assert entry["input_size"] == [28, 42]
    values = np.load(out / "a_depth.npy")
    assert (entry["minimum"], entry["maximum"]) == (values.min(), values.max())
    assert 0 < values.min() < values.max() < 20
    brightness = np.asarray(Image.open(out / "a_colour.png")).sum(axis=2)
    assert brightness[values == values.min()].min() > brightness[values == values.max()].max()


def test_bfloat16_weights_are_close_and_not_the_same(weights, tmp_path):
    make_png(tmp_path / "a.png")
    maps = []
    for precision in ("float32", "bfloat16"):
        out = tmp_path / precision
        arguments = ("--format=npy", f"--precision={precision}", "--device=cpu")
        assert run(weights, out, *arguments, tmp_path / "a.png")[0] == 0
        maps.append(np.load(out / "a_depth.npy"))
    assert np.allclose(*maps, atol=0.05)
    assert not np.array_equal(*maps)


def test_images_come_out_upright_at_their_own_resolution(weights, model, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # turn it clockwise
    image = make_image(30, 50)
    Image.fromarray(image).save(tmp_path / "a.png", exif=exif)
    status, summary = run(weights, tmp_path / "out", *EXACT, "--format=npy", tmp_path / "a.png")
    assert status == 0
    assert summary["a"]["input_size"] == [70, 42]
    upright = np.rot90(image, -1)
    (expected,) = predict(model, [upright], short_side_px=42, preparation="antialiased")
    values = np.load(tmp_path / "out" / "a_depth.npy")
    assert values.shape == (50, 30)
    assert np.allclose(values, expected, atol=1e-6)


def test_the_focal_length_and_its_source_are_written_down(metric_weights, tmp_path):
    exif = Image.Exif()
    exif.get_ifd(0x8769)[0xA405] = 26
    Image.fromarray(make_image(30, 40)).save(tmp_path / "a.jpg", exif=exif)
    make_png(tmp_path / "b.png", 30, 40)
    inputs = (tmp_path / "a.jpg", tmp_path / "b.png")
    _, summary = run(metric_weights, tmp_path / "x", "--format=ply", *inputs)
    # The diagonal is 50 pixels: 26 / 43.2666 x 50 = 30.046. 20 / tan(30 degrees) = 34.641.
    assert summary["a"]["focal_px"] == pytest.approx(30.046, abs=1e-3)
    assert summary["b"]["focal_px"] == pytest.approx(34.641, abs=1e-3)
    assert [summary[name]["focal_source"] for name in "ab"] == ["exif", "assumed"]
    _, summary = run(metric_weights, tmp_path / "y", "--format=ply", "--focal-px=12.5", *inputs)
    assert [summary[name]["focal_px"] for name in "ab"] == [12.5, 12.5]
    assert summary["a"]["focal_source"] == "given"


def test_released_weights_see_what_the_authors_code_shows_them(model, tmp_path):
    image = make_png(tmp_path / "a.png", 60, 90)
    save(model, tmp_path / "w.safetensors", {})  # no size: not trained here
    arguments = (*EXACT, "--format=npy", "--input-size=42", tmp_path / "a.png")
    _, summary = run(tmp_path / "w.safetensors", tmp_path / "out", *arguments)
    assert summary["a"]["input_size"] == [42, 56]
    assert summary["a"]["preparation"] == "authors"
    (expected,) = predict(model, [image], short_side_px=42, preparation="authors")
    assert np.allclose(np.load(tmp_path / "out" / "a_depth.npy"), expected, atol=1e-6)
    arguments += ("--preparation=antialiased",)
    _, summary = run(tmp_path / "w.safetensors", tmp_path / "ours", *arguments)
    assert summary["a"]["input_size"] == [42, 70]


def test_large_images_are_predicted_in_tiles(weights, model, tmp_path):
    image = make_png(tmp_path / "a.png", 70, 80)
    make_png(tmp_path / "small.png", 42, 40)
    arguments = (*EXACT, "--format=npy", "--tile", "--input-size=28", tmp_path)
    status, summary = run(weights, tmp_path / "out", *arguments)
    assert status == 0
    assert summary["a"]["tile_px"] == 28
    expected = predict_tiled(model, image, short_side_px=28, preparation="antialiased")
    assert np.allclose(np.load(tmp_path / "out" / "a_depth.npy"), expected, atol=1e-5)


def test_a_video_and_photographs_go_together(weights, tmp_path):
    make_png(tmp_path / "in" / "a.png")
    write_video(tmp_path / "in" / "clip.mp4", [make_image(30, 50, i) for i in range(3)])
    out = tmp_path / "out"
    status, summary = run(weights, out, "--format=color,png16", tmp_path / "in")
    assert status == 0
    assert list(summary) == ["a", "clip/"]
    assert summary["clip/"]["frames"] == 3
    assert summary["clip/"]["input_size"] == [42, 70]
    names = [path.name for path in sorted((out / "clip").iterdir())]
    assert names == [*(f"{i:06d}_depth.png" for i in range(3)), "colour.mp4"]


def test_a_truncated_video_counts_as_failed_and_its_frames_are_there(weights, tmp_path, caplog):
    path = tmp_path / "clip.mp4"
    write_video(path, [make_image(32, 48, i) for i in range(20)])
    path.write_bytes(path.read_bytes()[:-9000])
    status, summary = run(weights, tmp_path / "out", "--format=npy", path)
    assert status == 1
    num_frames = summary["clip/"]["frames"]
    assert 0 < num_frames < 20
    assert "clip.mp4: expected a video of 2.0 s, got one that ends after " in caplog.text
    assert f"s; {num_frames} frames are done" in caplog.text


def test_unreadable_inputs_are_reported_in_one_line_each_and_the_rest_is_done(
    weights, tmp_path, caplog
):
    (tmp_path / "bad.jpg").write_text("not an image")
    (tmp_path / "bad.mp4").write_text("not a video")
    make_png(tmp_path / "good.png")
    make_png(tmp_path / "long.png", 3, 49)
    out = tmp_path / "out"
    status, summary = run(weights, out, tmp_path, tmp_path / "none.png")
    assert status == 1
    assert list(summary) == ["good"]
    assert sorted(caplog.messages) == sorted(
        [
            f"{tmp_path}/bad.jpg: expected a JPEG, PNG or WebP image, "
            "got 12 bytes that start with b'not an i'",
            f"{tmp_path}/bad.mp4: expected a readable video, got 0 frames, then: "
            "Invalid data found when processing input",
            f"{tmp_path}/long.png: expected sides of at most 16:1, got 49 x 3",
            f"{tmp_path}/none.png: expected an image file, got nothing there",
            "4 of 5 inputs failed",
        ]
    )
    assert {path.name for path in out.iterdir()} == {
        "good_depth.png",
        "good_colour.png",
        "predictions.json",
    }


def test_nothing_done_is_another_status_than_some_done(weights, tmp_path):
    (tmp_path / "bad.jpg").write_text("not an image")
    assert run(weights, tmp_path / "out", tmp_path / "bad.jpg") == (2, None)


def test_damaged_weights_are_reported_and_nothing_is_written(tmp_path, caplog):
    model = make_model()
    with torch.no_grad():
        model.encoder.cls_token.fill_(torch.nan)
    save(model, tmp_path / "w", {"short_side_px": 28})
    make_png(tmp_path / "a.png")
    assert run(tmp_path / "w", tmp_path / "out", tmp_path / "a.png") == (2, None)
    line = "a.png: expected finite values of the model, got 2000 of 2000 that are not"
    assert line in caplog.text
    assert not list((tmp_path / "out").iterdir())


def test_an_output_that_cannot_be_written_is_reported_and_the_rest_is_done(
    weights, tmp_path, caplog
):
    make_png(tmp_path / "in" / "x" / "a.png")
    make_png(tmp_path / "in" / "b.png")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "x").write_text("in the way")
    status, summary = run(weights, tmp_path / "out", tmp_path / "in")
    assert status == 1
    assert list(summary) == ["b"]
    assert "a.png: " in caplog.text


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory"),
        MemoryError(),
        RuntimeError("DefaultCPUAllocator: can't allocate memory"),
    ],
)
def test_too_little_memory_is_reported_and_the_rest_is_done(
    weights, tmp_path, caplog, monkeypatch, error
):
    def small(model, images, **options):
        if images[0].shape[0] > 100:
            raise error
        return predict(model, images, **options)

    monkeypatch.setattr("dav2.prediction.run.predict", small)
    make_png(tmp_path / "a.png", 120, 100)
    make_png(tmp_path / "b.png", 40, 100)
    write_video(tmp_path / "c.mp4", [make_image(120, 100)])
    status, summary = run(weights, tmp_path / "out", tmp_path)
    assert status == 1
    assert list(summary) == ["b"]
    for name in ("a.png", "c.mp4"):
        assert f"{name}: expected memory for the model, got too little on the" in caplog.text


def test_another_error_of_the_model_is_not_hidden(weights, tmp_path, monkeypatch):
    def broken(model, images, **options):
        raise RuntimeError("a mistake of ours")

    monkeypatch.setattr("dav2.prediction.run.predict", broken)
    make_png(tmp_path / "a.png")
    with pytest.raises(RuntimeError, match="a mistake of ours"):
        run(weights, tmp_path / "out", tmp_path / "a.png")
    (tmp_path / "a.png").unlink()
    write_video(tmp_path / "c.mp4", [make_image(120, 100)])
    with pytest.raises(RuntimeError, match="a mistake of ours"):
        run(weights, tmp_path / "out", tmp_path / "c.mp4")
    assert not (tmp_path / "out" / "c").exists()


def test_a_later_run_adds_to_the_ranges(weights, tmp_path):
    for name in ("a", "b"):
        make_png(tmp_path / f"{name}.png")
        _, summary = run(weights, tmp_path / "out", tmp_path / f"{name}.png")
    assert list(summary) == ["a", "b"]


@pytest.mark.parametrize("content", ["{", "[1]"])
def test_ranges_that_cannot_be_read_are_refused_before_any_work(weights, tmp_path, caplog, content):
    make_png(tmp_path / "a.png")
    (tmp_path / "predictions.json").write_text(content)
    arguments = ["--weights", str(weights), "--out", str(tmp_path), str(tmp_path / "a.png")]
    assert main(arguments) == 2
    assert "predictions.json: expected JSON of an earlier prediction, got " in caplog.text
    assert not (tmp_path / "a_depth.png").exists()


def test_two_runs_write_the_same_bytes(weights, tmp_path):
    make_png(tmp_path / "a.png")
    contents = []
    for out in (tmp_path / "x", tmp_path / "y"):
        run(weights, out, "--format=png16,npy,exr,color,controlnet,ply", tmp_path / "a.png")
        contents.append({path.name: path.read_bytes() for path in out.iterdir()})
    assert len(contents[0]) == 7
    assert contents[0] == contents[1]
    assert str(tmp_path).encode() not in b"".join(contents[0].values())


def test_two_images_of_one_name_are_refused_before_any_work(weights, tmp_path, caplog):
    for name in ("a.png", "a.webp"):
        make_png(tmp_path / name)
    assert run(weights, tmp_path / "out", tmp_path) == (2, None)
    assert "a.webp: expected another name, got that of" in caplog.text
    assert not (tmp_path / "out").exists()


def test_an_output_that_would_replace_an_input_is_refused(weights, tmp_path, caplog):
    make_png(tmp_path / "a.png")
    before = make_png(tmp_path / "a_depth.png", seed=1)
    assert run(weights, tmp_path, tmp_path) == (2, None)
    assert "a.png: expected an output that is no input, got " in caplog.text
    assert np.array_equal(np.asarray(Image.open(tmp_path / "a_depth.png")), before)


def test_a_missing_library_is_one_line_before_any_work(weights, tmp_path, caplog, monkeypatch):
    monkeypatch.setitem(sys.modules, "OpenEXR", None)
    make_png(tmp_path / "a.png")
    assert run(weights, tmp_path / "out", "--format=exr", tmp_path / "a.png") == (2, None)
    assert caplog.messages == [
        "--format exr: expected the package openexr, got none (pip install openexr)"
    ]
    assert not (tmp_path / "out").exists()


def test_missing_weights_are_one_line(tmp_path, caplog):
    make_png(tmp_path / "a.png")
    assert run(tmp_path / "none", tmp_path / "out", tmp_path / "a.png") == (2, None)
    assert caplog.messages == [f"{tmp_path}/none: expected a checkpoint, got no file"]


@pytest.mark.skipif(torch.cuda.is_available(), reason="has a GPU")
def test_a_device_that_is_not_there_is_one_line(weights, tmp_path, caplog):
    make_png(tmp_path / "a.png")
    assert run(weights, tmp_path / "out", "--device=cuda", tmp_path / "a.png") == (2, None)
    assert caplog.messages == ["--device: expected a CUDA device, got none on this machine"]


def test_an_output_folder_that_cannot_be_written_is_one_line(weights, tmp_path, caplog):
    make_png(tmp_path / "a.png")
    out = tmp_path / "a.png" / "out"
    assert main(["--weights", str(weights), "--out", str(out), str(tmp_path / "a.png")]) == 2
    assert caplog.messages[-1] == f"{out}: expected a folder to write to, got Not a directory"


def test_an_interruption_while_it_starts_is_one_line(tmp_path):
    program = """
import sys, time
from dav2.prediction import command

def prepare(options):
    print("loading", flush=True)
    try:
        time.sleep(60)
    except KeyboardInterrupt:
        raise TypeError("what torch makes of it") from None

command._prepare = prepare
sys.exit(command.main(sys.argv[1:]))
"""
    make_png(tmp_path / "a.png")
    arguments = ["--weights", tmp_path / "w", "--out", tmp_path / "out", tmp_path / "a.png"]
    with subprocess.Popen(
        [sys.executable, "-c", program, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout.readline() == "loading\n"
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
    assert (process.returncode, errors) == (130, "interrupted\n")
    assert not (tmp_path / "out").exists()


def test_an_interruption_leaves_whole_files_one_line_and_its_own_status(weights, tmp_path):
    make_png(tmp_path / "in" / "000.png", 200, 220)
    for index in range(1, 400):
        os.link(tmp_path / "in" / "000.png", tmp_path / "in" / f"{index:03d}.png")
    out = tmp_path / "out"
    command = [sys.executable, "-m", "dav2.predict", "--weights", weights, "--out", out]
    with subprocess.Popen(
        [*command, "--batch-size=1", "--format=npy", tmp_path / "in"],
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    ) as process:
        deadline = time.monotonic() + 60
        while not list(out.glob("*.npy")) and time.monotonic() < deadline:
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    lines = errors.replace("\r", "\n").splitlines()
    assert "Traceback" not in errors
    assert [line for line in lines if line][-1] == "interrupted"
    names = {path.name for path in out.iterdir()}
    assert not [name for name in names if name.endswith(".part")]
    written = sorted(name.removesuffix("_depth.npy") for name in names - {"predictions.json"})
    assert 0 < len(written) < 400
    assert sorted(json.loads((out / "predictions.json").read_text())) == written
    assert all(np.load(out / f"{name}_depth.npy").shape == (200, 220) for name in written)
