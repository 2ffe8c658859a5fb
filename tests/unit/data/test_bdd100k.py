"""BDD100K's layout: one frame in so many of each video, or the published images."""

import threading

import numpy as np
import pytest
from PIL import Image

from dav2.data.bdd100k import Bdd100k, Bdd100kOptions
from dav2.data.video_frames import VideoFrames

av = pytest.importorskip("av")


def write_video(path, num_frames=23):
    """Writes frames of the grey levels 0, 8, 16, ..."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(path, "w") as container:
        video = container.add_stream("mpeg4", rate=30)
        video.height, video.width, video.pix_fmt = 32, 48, "yuv420p"
        video.options = {"qscale": "1", "g": "5"}
        for number in range(num_frames):
            level = np.full((32, 48, 3), 8 * number, np.uint8)
            container.mux(video.encode(av.VideoFrame.from_ndarray(level, format="rgb24")))
        container.mux(video.encode())


def write_image(path, level=50):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((7, 9, 3), level, np.uint8)).save(path)


def listed(reader, split="train"):
    return [(files.sample_id, files.scene, files.image) for files in reader.list_samples(split)]


@pytest.fixture
def opened(monkeypatch):
    """Records how many bytes each video had that was opened to read frames."""
    found = []
    begin = VideoFrames.__init__

    def recorded(self, data, **limits):
        found.append(len(data))
        begin(self, data, **limits)

    monkeypatch.setattr(VideoFrames, "__init__", recorded)
    return found


def test_one_frame_in_ten_is_read(tmp_path):
    write_video(tmp_path / "videos" / "train" / "00a.mov")
    write_video(tmp_path / "videos" / "train" / "00b.mov", num_frames=10)
    write_video(tmp_path / "videos" / "val" / "00c.mov", num_frames=1)
    (tmp_path / "videos" / "train" / "notes.txt").touch()
    (tmp_path / "videos" / "train" / "._00a.mov").touch()
    reader = Bdd100k(tmp_path)

    assert listed(reader) == [
        ("00a/000000", "00a", "videos/train/00a.mov#0"),
        ("00a/000010", "00a", "videos/train/00a.mov#10"),
        ("00a/000020", "00a", "videos/train/00a.mov#20"),
        ("00b/000000", "00b", "videos/train/00b.mov#0"),
    ]
    assert listed(reader, "val") == [("00c/000000", "00c", "videos/val/00c.mov#0")]
    for files, number in zip(reader.list_samples("train"), (0, 10, 20, 0), strict=True):
        sample = reader.read(files)
        assert sample.image.shape == (32, 48, 3)
        assert abs(float(sample.image.mean()) - 8 * number) < 3
        assert (sample.dataset, sample.scene, sample.depth) == ("bdd100k", files.scene, None)


def test_the_step_is_an_option(tmp_path):
    write_video(tmp_path / "videos" / "train" / "00a.mov")
    reader = Bdd100k(tmp_path, options=Bdd100kOptions(frame_step=7))

    numbers = [name for name, _, _ in listed(reader)]

    assert numbers == ["00a/000000", "00a/000007", "00a/000014", "00a/000021"]


def test_a_video_stays_open_while_its_frames_are_read(tmp_path, opened):
    for name in ("00a", "00b"):
        write_video(tmp_path / "videos" / "train" / f"{name}.mov")
    reader = Bdd100k(tmp_path, options=Bdd100kOptions(frame_step=1))

    for files in reader.list_samples("train"):
        reader.read_bytes(files.image)
        reader.read(files)

    assert len(opened) == 2


def test_bytes_of_a_frame_are_its_own_and_always_the_same(tmp_path):
    write_video(tmp_path / "videos" / "train" / "00a.mov")
    reader = Bdd100k(tmp_path)

    contents = [reader.read_bytes(image) for _, _, image in listed(reader)]

    assert len(set(contents)) == 3
    assert Bdd100k(tmp_path).read_bytes("videos/train/00a.mov#20") == contents[2]


def test_threads_share_a_reader(tmp_path):
    write_video(tmp_path / "videos" / "train" / "00a.mov")
    write_video(tmp_path / "videos" / "train" / "00b.mov")
    reader = Bdd100k(tmp_path)
    samples = list(reader.list_samples("train"))
    levels = {}

    def read(files):
        levels[files.sample_id] = round(float(reader.read(files).image.mean()) / 8)

    threads = [threading.Thread(target=read, args=(files,)) for files in samples]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert levels == {files.sample_id: int(files.sample_id[-6:]) for files in samples}


def test_a_damaged_video_is_listed_once_and_says_so_when_read(tmp_path):
    write_video(tmp_path / "videos" / "train" / "00a.mov")
    whole = (tmp_path / "videos" / "train" / "00a.mov").read_bytes()
    (tmp_path / "videos" / "train" / "00b.mov").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "videos" / "train" / "00c.mov").write_bytes(b"")
    place = whole.index(b"stsz") + 12  # after the version and the common size: how many
    assert int.from_bytes(whole[place : place + 4], "big") == 23
    claims = whole[:place] + (2**31 - 1).to_bytes(4, "big") + whole[place + 4 :]
    (tmp_path / "videos" / "train" / "00d.mov").write_bytes(claims)
    reader = Bdd100k(tmp_path)

    samples = {files.sample_id: files for files in reader.list_samples("train")}

    assert [name[:3] for name in samples] == ["00a"] * 3 + ["00b", "00c", "00d"]
    for name in ("00b", "00c", "00d"):
        with pytest.raises(ValueError, match=rf"{name}\.mov: expected") as caught:
            reader.read(samples[f"{name}/000000"])
        assert "\n" not in str(caught.value)
    assert reader.read(samples["00a/000000"]).image.shape == (32, 48, 3)


def test_frames_that_are_not_there_are_named(tmp_path):
    write_video(tmp_path / "videos" / "train" / "00a.mov")
    reader = Bdd100k(tmp_path, max_pixels=100)

    with pytest.raises(ValueError, match=r"00a\.mov: expected frames of 1 to 100 pixels"):
        reader.read(next(reader.list_samples("train")))
    with pytest.raises(ValueError, match="expected a video with frame 23, got 23 frames"):
        Bdd100k(tmp_path).read_bytes("videos/train/00a.mov#23")
    with pytest.raises(FileNotFoundError, match=r"00z\.mov: expected a file, got nothing there"):
        Bdd100k(tmp_path).read_bytes("videos/train/00z.mov#0")
    for path in ("videos/train/00a.mov", "videos/train/00a.mov#-1", "videos/train/00a.mov#x"):
        with pytest.raises(ValueError, match="expected <video>#<number of a frame>"):
            Bdd100k(tmp_path).read_bytes(path)


def test_the_published_images_are_an_option(tmp_path):
    write_image(tmp_path / "images" / "100k" / "train" / "00a.jpg", level=90)
    write_image(tmp_path / "images" / "100k" / "val" / "00b.jpg")
    reader = Bdd100k(tmp_path, options=Bdd100kOptions(kind="images"))

    assert listed(reader) == [("00a", "00a", "images/100k/train/00a.jpg")]
    sample = reader.read(next(reader.list_samples("train")))
    assert (sample.image == 90).all()
    assert sample.image.shape == (7, 9, 3)
    assert reader.read_bytes("images/100k/train/00a.jpg").startswith(b"\xff\xd8")
    write_image(tmp_path / "images" / "100k" / "other.jpg")
    with pytest.raises(ValueError, match=r"other\.jpg: expected photographs as images/100k/"):
        listed(reader)


def test_nothing_to_read_and_wrong_choices_are_errors(tmp_path):
    (tmp_path / "videos" / "train").mkdir(parents=True)

    with pytest.raises(ValueError, match="train: expected samples of split 'train', got none"):
        listed(Bdd100k(tmp_path))
    with pytest.raises(FileNotFoundError, match="videos/val: expected the folder of a dataset"):
        listed(Bdd100k(tmp_path), "val")
    with pytest.raises(ValueError, match="expected split 'train' or 'val' or 'test', got 'all'"):
        Bdd100k(tmp_path).list_samples("all")
    with pytest.raises(ValueError, match="kind: expected videos or images, got 'frames'"):
        Bdd100kOptions(kind="frames")
    with pytest.raises(ValueError, match="frame_step: expected 1 or more, got 0"):
        Bdd100kOptions(frame_step=0)
