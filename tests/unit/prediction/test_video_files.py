from fractions import Fraction

import av
import numpy as np
import pytest

from dav2.prediction.video_files import EndedEarlyError, Frames, encode_video
from tests.fixtures.prediction import make_image, read_video, write_video

RED, GREEN, BLUE = (200, 30, 30), (30, 200, 30), (30, 30, 200)


def picture(height=32, width=48):
    """Red above left, green above right, blue below."""
    image = np.empty((height, width, 3), np.uint8)
    image[:, :] = BLUE
    image[: height // 2, : width // 2] = RED
    image[: height // 2, width // 2 :] = GREEN
    return image


def corners(image):
    """Which colour prevails above left, above right, below left, below right."""
    spots = (image[4, 4], image[4, -5], image[-5, 4], image[-5, -5])
    return "".join("RGB"[int(spot.argmax())] for spot in spots)


def take(frames):
    """Returns the frames that can be read, and the error after them."""
    taken = []
    try:
        taken.extend(iter(frames))
    except EndedEarlyError as error:
        return taken, str(error)
    return taken, None


@pytest.mark.parametrize(
    ("rotation", "expected"),
    [(None, "RGBB"), (90, "GBRB"), (180, "BBGR"), (-90, "BRBG")],
)
def test_frames_come_out_upright(tmp_path, rotation, expected):
    write_video(tmp_path / "a.mp4", [picture()] * 2, rotation=rotation)
    frames, problem = take(Frames(tmp_path / "a.mp4"))
    assert problem is None
    assert [corners(frame) for frame in frames] == [expected] * 2
    assert frames[0].shape == ((48, 32, 3) if rotation in (90, -90) else (32, 48, 3))


def test_the_rate_is_the_sources(tmp_path):
    write_video(tmp_path / "a.mp4", [picture()] * 3, rate=Fraction(30000, 1001))
    frames = Frames(tmp_path / "a.mp4")
    assert len(list(frames)) == 3
    assert frames.rate == Fraction(30000, 1001)


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".avi"])
def test_a_whole_video_has_no_problem(tmp_path, suffix):
    write_video(tmp_path / f"a{suffix}", [make_image(32, 48, i) for i in range(20)])
    frames, problem = take(Frames(tmp_path / f"a{suffix}"))
    assert (len(frames), problem) == (20, None)


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_a_truncated_video_keeps_the_frames_it_has(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    write_video(path, [make_image(32, 48, i) for i in range(30)])
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    frames, problem = take(Frames(path))
    assert 5 < len(frames) < 20
    assert problem == (
        f"expected a video of 3.0 s, got one that ends after {len(frames) / 10:.1f} s"
    )


@pytest.mark.parametrize("content", [b"", b"no video at all"])
def test_what_is_no_video_is_said(tmp_path, content):
    (tmp_path / "a.mp4").write_bytes(content)
    frames, problem = take(Frames(tmp_path / "a.mp4"))
    assert frames == []
    assert problem == (
        "expected a readable video, got 0 frames, then: Invalid data found when processing input"
    )


def test_a_missing_file_is_said(tmp_path):
    assert take(Frames(tmp_path / "a.mp4")) == ([], "expected a video, got no file")


def test_a_file_with_sound_alone_is_said(tmp_path):
    with av.open(str(tmp_path / "a.mp4"), "w") as container:
        stream = container.add_stream("aac", rate=8000, layout="mono")
        sound = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), "fltp", "mono")
        sound.sample_rate = 8000
        container.mux(stream.encode(sound))
        container.mux(stream.encode())
    problem = take(Frames(tmp_path / "a.mp4"))[1]
    assert problem == "expected a video, got a file without pictures"


@pytest.mark.parametrize("codecs", [None, set()])
def test_a_written_video_has_the_rate_and_the_colours(tmp_path, monkeypatch, codecs):
    if codecs is not None:  # without x264
        monkeypatch.setattr(av, "codecs_available", codecs)
    frames = [np.full((31, 49, 3), grey, np.uint8) for grey in (20, 120, 220)]
    encode_video(iter(frames), tmp_path / "a.mp4", Fraction(24000, 1001))
    read, rate = read_video(tmp_path / "a.mp4")
    assert rate == Fraction(24000, 1001)
    assert [frame.shape for frame in read] == [(32, 50, 3)] * 3
    assert [frame.mean() for frame in read] == pytest.approx([20, 120, 220], abs=4)
