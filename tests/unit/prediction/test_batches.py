import pytest
from PIL import Image

from dav2.prediction import batches
from dav2.prediction.batches import plan_batches
from dav2.prediction.sources import find_sources
from tests.fixtures.prediction import make_image


def names(tmp_path, batch_size):
    sources = find_sources([str(tmp_path)], out=tmp_path / "out")
    planned = plan_batches(sources, short_side_px=28, preparation="authors", batch_size=batch_size)
    return [[item.source.name for item in batch] for batch in planned]


@pytest.fixture
def folder(tmp_path):
    for name, size in {"a": (40, 40), "b": (40, 80), "c": (41, 41), "d": (20, 40)}.items():
        Image.fromarray(make_image(*size)).save(tmp_path / f"{name}.png")
    (tmp_path / "e.png").write_text("not an image")
    return tmp_path


def test_images_of_one_size_at_the_model_share_a_batch(folder):
    assert names(folder, 4) == [["a", "c"], ["b", "d"], ["e"]]
    assert names(folder, 1) == [["a"], ["c"], ["b"], ["d"], ["e"]]


def test_large_images_are_fewer_in_a_batch(folder, monkeypatch):
    monkeypatch.setattr(batches, "MAX_BATCH_PIXELS", 40 * 80 + 20 * 40 - 1)
    assert names(folder, 4) == [["a", "c"], ["b"], ["d"], ["e"]]
