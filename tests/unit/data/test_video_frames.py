"""Frames of a video are found by number, exactly, without decoding all that lies before."""

import io

import numpy as np
import pytest

from dav2.data.video_frames import VideoFrames, count_frames

av = pytest.importorskip("av")

KEY_EVERY = 7
STEP = 8  # of the grey level, from frame to frame


def encode(num_frames=25, size=(32, 48), codec="libx264", rotation=0, path=None):
    """Returns a video whose frames have the levels 0, STEP, 2 STEP, ...

    Written to a path, it has its header in front.
    """
    stream = io.BytesIO()
    options = {"movflags": "faststart"} if path else {}
    with av.open(path or stream, "w", format="mov", options=options) as container:
        video = container.add_stream(codec, rate=30)
        video.height, video.width = size
        video.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
        if codec == "libx264":
            video.options = {"g": str(KEY_EVERY + 1), "bf": "2", "crf": "10"}
        if rotation:
            video.set_display_rotation(rotation)
        for number in range(num_frames):
            level = np.full((*size, 3), STEP * number, np.uint8)
            level[: size[0] // 4] = 255 - level[: size[0] // 4]
            container.mux(video.encode(av.VideoFrame.from_ndarray(level, format="rgb24")))
        container.mux(video.encode())
    return path.read_bytes() if path else stream.getvalue()


def opened(data, **limits):
    return VideoFrames(data, **{"max_pixels": 10_000, "where": "a.mov", **limits})


def level_of(image):
    return round(float(image[image.shape[0] // 2 :].mean()) / STEP)


@pytest.fixture(scope="module")
def video():
    return encode()


@pytest.fixture
def starts(monkeypatch):
    """Records where decoding started for each frame; None: it went on."""
    found = []
    advance = VideoFrames._advance

    def recorded(self, number, start=None):
        found.append(start)
        return advance(self, number, start)

    monkeypatch.setattr(VideoFrames, "_advance", recorded)
    return found


def test_frames_in_order_are_decoded_once(video, starts):
    frames = opened(video)

    assert len(frames) == count_frames(io.BytesIO(video), where="a.mov") == 25
    levels = [level_of(frames.image(number)) for number in range(25)]

    assert levels == list(range(25))
    assert starts == [0] + 24 * [None]


def test_any_order_gives_the_same_frames_from_the_nearest_key_frame(video, starts):
    frames = opened(video)

    order = [20, 3, 3, 6, 24, 21, 0, 13]
    assert [level_of(frames.image(number)) for number in order] == order
    # 3 again costs nothing, 6 goes on from 3.
    assert starts == [14, 0, None, 21, 21, 0, 7]


def test_a_frame_has_the_same_contents_however_it_was_reached(video):
    one, other = opened(video), opened(video)

    forward = [one.contents(number) for number in range(25)]

    assert [other.contents(number) for number in reversed(range(25))] == forward[::-1]
    assert len(set(forward)) == 25
    assert forward[0].startswith(b"yuv420p 48 x 32, 0 degrees\n")
    assert len(forward[0]) == len(b"yuv420p 48 x 32, 0 degrees\n") + 48 * 32 * 3 // 2


def test_images_are_upright_rgb(video):
    image = opened(video).image(5)
    turned = opened(encode(3, rotation=90)).image(1)

    assert image.shape == (32, 48, 3)
    assert image.dtype == np.uint8
    assert abs(int(image[2, 5, 0]) - (255 - 5 * STEP)) < 5  # the upper quarter is inverted
    assert abs(int(image[30, 5, 0]) - 5 * STEP) < 5
    assert turned.shape == (48, 32, 3)
    assert int(turned[40, 2].mean()) > 200  # turned to the left: the upper edge lies there
    assert int(turned[40, 30].mean()) < 50


@pytest.mark.parametrize("kept", [0.0, 0.1, 0.5, 0.95])
def test_a_video_without_its_closing_header_is_refused(kept, video):
    data = video[: int(kept * len(video))]

    with pytest.raises(ValueError, match=r"^a\.mov: expected a whole video, got one") as caught:
        opened(data)
    assert "\n" not in str(caught.value)
    with pytest.raises(ValueError, match=r"^b\.mov: expected a whole video"):
        count_frames(io.BytesIO(data), where="b.mov")


def test_a_video_cut_after_its_header_has_fewer_frames_than_it_tells(tmp_path):
    whole = encode(path=tmp_path / "a.mov")
    frames = opened(whole[:-300])

    assert count_frames(io.BytesIO(whole[:-300]), where="a.mov") == 25
    assert level_of(frames.image(3)) == 3
    with pytest.raises(ValueError, match=r"^a\.mov: expected (a video with )?frame 24"):
        frames.image(24)
    assert level_of(frames.image(4)) == 4


def test_damage_is_told_and_frames_around_it_are_read(video):
    with av.open(io.BytesIO(video)) as container:
        hit = [packet for packet in container.demux(video=0) if packet.is_keyframe][1]
        place, size = hit.pos, hit.size
    damaged = bytearray(video)
    damaged[place + 5 : place + size] = bytes(size - 5)
    frames = opened(bytes(damaged))

    with pytest.raises(ValueError, match=r"^a\.mov: expected .* damaged"):
        frames.image(KEY_EVERY)
    for number in (0, 3, 2 * KEY_EVERY, 24):
        assert level_of(frames.image(number)) == number


def test_frames_above_the_limit_are_refused_by_the_header(video):
    with pytest.raises(ValueError, match="expected frames of 1 to 1535 pixels, got 48 x 32"):
        opened(video, max_pixels=1535)
    assert opened(video, max_pixels=1536).image(0).shape == (32, 48, 3)


def test_numbers_outside_are_refused(video):
    for number in (25, -1):
        with pytest.raises(ValueError, match=f"with frame {number}, got 25 frames"):
            opened(video).image(number)


def test_what_is_no_video_is_refused():
    sound = io.BytesIO()
    with av.open(sound, "w", format="wav") as container:
        track = container.add_stream("pcm_s16le", rate=8000, layout="mono")
        block = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), "s16", "mono")
        block.rate = 8000
        container.mux(track.encode(block))

    with pytest.raises(ValueError, match="expected a video, got a file without readable pictures"):
        opened(sound.getvalue())
    with pytest.raises(ValueError, match="expected a whole video"):
        opened(b"\xff\xd8\xff" * 100)


def test_other_codecs_are_read(video):
    frames = opened(encode(6, codec="mjpeg"))

    assert [level_of(frames.image(number)) for number in (5, 0, 3)] == [5, 0, 3]
    frames.close()
