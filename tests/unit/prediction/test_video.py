from functools import partial

import numpy as np
import pytest

from dav2.data.png16 import decode_png16
from dav2.prediction.points import find_focal
from dav2.prediction.video import VideoOptions, predict_video
from tests.fixtures.prediction import make_image, read_video, write_video

SIZE = (32, 48)


def brightness(images):
    """A model of its own kind: its map is the green channel, plus 100."""
    return [image[..., 1].astype(np.float32) + 100 for image in images]


def options(*formats, predict=brightness, is_metric=False, batch_size=3):
    return VideoOptions(
        predict=predict,
        formats=formats,
        is_metric=is_metric,
        batch_size=batch_size,
        focal_of=partial(find_focal, given_px=33.0),
        size_of=lambda size: {"input_size": list(size)},
    )


@pytest.fixture
def video(tmp_path):
    """Seven flat grey frames that brighten by 20 each, with a darker left half."""
    frames = []
    for index in range(7):
        frame = np.full((*SIZE, 3), 60 + 20 * index, np.uint8)
        frame[:, :24] = 40
        frames.append(frame)
    write_video(tmp_path / "in.mp4", frames)
    return tmp_path / "in.mp4"


def test_each_frame_is_written_under_its_number(video, tmp_path):
    advanced = []
    entry, problem = predict_video(
        video, tmp_path / "out" / "in", options("png16", "npy"), advance=lambda: advanced.append(1)
    )
    assert problem is None
    assert len(advanced) == 7
    assert entry["frames"] == 7
    assert entry["frames_per_second"] == 10
    assert entry["formats"] == ["npy", "png16"]
    assert entry["input_size"] == [32, 48]
    names = {path.name for path in (tmp_path / "out" / "in").iterdir()}
    assert names == {f"{i:06d}_depth.{end}" for i in range(7) for end in ("png", "npy")}
    for index, (low, high) in enumerate(
        zip(entry["frame_minimum"], entry["frame_maximum"], strict=True)
    ):
        values = np.load(tmp_path / "out" / "in" / f"{index:06d}_depth.npy")
        assert values.shape == SIZE
        assert np.median(values[:, 30:]) == pytest.approx(160 + 20 * index, abs=3)
        codes = decode_png16((tmp_path / "out" / "in" / f"{index:06d}_depth.png").read_bytes())
        assert np.allclose(low + codes / 65535 * (high - low), values, atol=0.01)
    assert entry["minimum"] == min(entry["frame_minimum"])
    assert entry["maximum"] == max(entry["frame_maximum"])


def test_frames_pass_through_the_model_in_batches(video, tmp_path):
    sizes = []

    def predict(images):
        sizes.append(len(images))
        return brightness(images)

    predict_video(video, tmp_path / "x", options("npy", predict=predict), advance=lambda: None)
    assert sizes == [3, 3, 1]


def test_colours_keep_their_meaning_over_the_whole_video(video, tmp_path):
    predict_video(video, tmp_path / "x", options("color"), advance=lambda: None)
    assert [path.name for path in (tmp_path / "x").iterdir()] == ["colour.mp4"]
    frames, rate = read_video(tmp_path / "x" / "colour.mp4")
    assert rate == 10
    assert [frame.shape for frame in frames] == [(*SIZE, 3)] * 7
    left = [frame[8:24, 6:18].mean() for frame in frames]
    right = [frame[8:24, 30:42].mean() for frame in frames]
    # The left half stays what it is: the lowest of all, dark; the right one brightens.
    assert np.ptp(left) < 6
    assert max(left) < 12
    assert (np.diff(right) > 3).all()
    assert right[-1] > 170


def test_the_colours_of_metres_are_bright_where_it_is_close(video, tmp_path):
    predict_video(video, tmp_path / "x", options("color", is_metric=True), advance=lambda: None)
    frames, _ = read_video(tmp_path / "x" / "colour.mp4")
    assert frames[-1][8:24, 6:18].mean() > 150
    assert frames[-1][8:24, 30:42].mean() < 12


def test_a_truncated_video_keeps_the_frames_it_had(tmp_path):
    path = tmp_path / "in.mp4"
    write_video(path, [make_image(*SIZE, i) for i in range(20)])
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    entry, problem = predict_video(
        path, tmp_path / "x", options("npy", "color"), advance=lambda: None
    )
    assert "expected a video of 2.0 s, got one that ends after" in problem
    assert entry["ended_early"] is True
    assert 3 < entry["frames"] < 15
    assert len(list((tmp_path / "x").glob("*.npy"))) == entry["frames"]
    assert len(read_video(tmp_path / "x" / "colour.mp4")[0]) == entry["frames"]


def test_a_frame_that_is_not_finite_is_named_and_nothing_is_left(video, tmp_path):
    def predict(images):
        return [values * np.nan if values.max() > 205 else values for values in brightness(images)]

    with pytest.raises(ValueError, match="frame 3: expected finite values of the model"):
        predict_video(video, tmp_path / "x", options("npy", predict=predict), advance=lambda: None)
    assert [path.name for path in tmp_path.iterdir()] == ["in.mp4"]


def test_an_unreadable_video_leaves_no_folder(tmp_path):
    (tmp_path / "in.mp4").write_text("nothing")
    with pytest.raises(ValueError, match="expected a readable video, got 0 frames"):
        predict_video(tmp_path / "in.mp4", tmp_path / "x", options("npy"), advance=lambda: None)
    assert not (tmp_path / "x").exists()


def test_a_folder_of_an_earlier_prediction_is_replaced(video, tmp_path):
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "000099_depth.png").touch()
    predict_video(video, tmp_path / "x", options("npy"), advance=lambda: None)
    assert not (tmp_path / "x" / "000099_depth.png").exists()
    assert len(list((tmp_path / "x").iterdir())) == 7


def test_a_folder_that_holds_other_things_is_left_alone(video, tmp_path):
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "thesis.txt").write_text("five years")
    with pytest.raises(ValueError, match=r"x: expected no folder, .* one that holds thesis\.txt"):
        predict_video(video, tmp_path / "x", options("npy"), advance=lambda: None)
    assert (tmp_path / "x" / "thesis.txt").read_text() == "five years"
