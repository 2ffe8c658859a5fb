"""Images that differ from those of the training are seen, others are not, and it is said once."""

import io
import json
import logging

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from dav2.data.folder import ImageFolder
from dav2.data.images import encode_jpeg
from dav2.data.manifest import MANIFEST_SCHEMA, write_manifest
from dav2.data.measurement import measure_sample
from flows import watch
from stages import drift
from stages.drift import DriftParams, Reference, Watched, measure
from stages.params import load
from stages.register import SETTINGS

NUM = 300


def photograph(rng, *, light=1.0, size=(60, 80)):
    """A picture of soft noise whose brightness and contrast vary."""
    small = rng.normal(rng.normal(0.5, 0.06), rng.uniform(0.05, 0.15), (size[0] // 4, size[1] // 4))
    grey = np.clip(light * small.repeat(4, 0).repeat(4, 1), 0, 1)
    return np.repeat((255 * grey).astype(np.uint8)[..., None], 3, axis=2)


def encoded(image, kind="PNG"):
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, kind)
    return stream.getvalue()


def row(i, seen):
    height = int(seen["short_side_px"])
    values = {name: seen[name] for name in ("brightness", "contrast", "sharpness")}
    return dict.fromkeys(MANIFEST_SCHEMA.names) | {
        "sample_id": f"i{i:03}", "source": "photos", "dataset": "folder", "domain": "mixed",
        "split": "all", "scene": "", "image": f"{i}.png", "extra": "{}", "decoder": "0" * 16,
        "height": height, "width": round(height * seen["aspect"]), **values,
    }  # fmt: skip


@pytest.fixture(scope="module")
def manifest(tmp_path_factory):
    rng = np.random.default_rng(0)
    rows = [row(i, measure(encoded(photograph(rng)))) for i in range(NUM)]
    damaged = row(NUM, {**rows[0], "short_side_px": 1e6, "aspect": 1.0}) | {"reason": "damaged"}
    path = tmp_path_factory.mktemp("images") / "unlabelled.parquet"
    write_manifest(pd.DataFrame([*rows, damaged]), path)
    return path


@pytest.fixture(scope="module")
def reference(manifest):
    return Reference.of_manifest(manifest)


def drift_of(reference, images):
    counts = reference.empty()
    for image in images:
        reference.add(counts, measure(image))
    return reference.drift(counts)


def test_a_reference_goes_through_json_and_leaves_out_what_is_quarantined(reference):
    content = json.loads(reference.as_json())
    assert content["num_images"] == NUM
    assert content["edges"]["short_side_px"] == [60.0]
    assert content["shares"]["short_side_px"] == [0.0, 1.0, 0.0]
    assert sum(content["shares"]["brightness"]) == pytest.approx(1)
    assert Reference(content).as_json() == reference.as_json()


def test_images_of_the_same_kind_do_not_drift(reference):
    rng = np.random.default_rng(1)
    found = drift_of(reference, [encoded(photograph(rng)) for _ in range(200)])
    assert set(found) == set(drift.MEASURED)
    assert max(found.values()) == 0


@pytest.mark.parametrize(
    ("change", "names"),
    [
        ({"light": 0.6}, {"brightness", "contrast", "sharpness"}),
        ({"size": (80, 60)}, {"aspect"}),
        ({"size": (120, 160)}, {"short_side_px"}),
    ],
)
def test_darker_upright_and_larger_images_drift_in_what_they_differ_in(reference, change, names):
    rng = np.random.default_rng(1)
    found = drift_of(reference, [encoded(photograph(rng, **change)) for _ in range(200)])
    assert {name for name, value in found.items() if value > 0.1} == names


def test_the_distance_is_that_of_kolmogorov_and_smirnov_less_chance():
    shares = {name: [0.0, 0.5, 0.0, 0.5, 0.0] for name in drift.MEASURED}
    edges = {name: [1.0, 2.0] for name in drift.MEASURED}
    reference = Reference({"num_images": 100, "edges": edges, "shares": shares})
    counts = reference.empty()
    for value in [2.0] * 90 + [3.0] * 10:
        reference.add(counts, dict.fromkeys(drift.MEASURED, value))
    # Up to 1: 0.5 against 0, further apart than up to 2 (1 against 0.9).
    assert reference.drift(counts)["aspect"] == pytest.approx(0.5 - 1.95 * (2 / 100) ** 0.5)


def test_an_image_is_measured_as_ingest_measures_it(tmp_path):
    rng = np.random.default_rng(2)
    (tmp_path / "large.jpg").write_bytes(encode_jpeg(photograph(rng, size=(400, 600)), quality=90))
    (tmp_path / "small.png").write_bytes(encoded(photograph(rng)))
    reader = ImageFolder(tmp_path)
    for files in reader.list_samples("all"):
        seen = measure_sample(reader, files, where=str(tmp_path), max_pixels=10**8)
        found = measure((tmp_path / files.image).read_bytes())
        assert {name: seen[name] for name in ("brightness", "contrast", "sharpness")} == {
            name: found[name] for name in ("brightness", "contrast", "sharpness")
        }
        assert found["short_side_px"] == seen["height"]
        assert found["aspect"] == seen["width"] / seen["height"]


class Model:
    metadata = "of the model"

    def predict(self, data, params=None):
        return [len(image) for image in data["image"]]


def ask(watched, images):
    for image in images:
        watched.predict(pd.DataFrame({"image": [image]}))
        watched.settle()


def test_a_drift_is_said_once_and_again_after_it_has_gone(reference, caplog):
    said = []
    params = DriftParams(window=100, max_drift=0.1)
    watched = Watched(Model(), reference, params, lambda text: said.append(text) or len(said) > 1)
    rng = np.random.default_rng(3)
    like, dark = ([encoded(photograph(rng, light=light)) for _ in range(100)] for light in (1, 0.5))
    ask(watched, like)
    assert said == []
    ask(watched, [*dark[:99], b"no image", dark[99]])  # which does not end the watching
    assert len(said) == 1
    assert said[0].startswith("serving sees other images: drift of brightness 0.")
    assert "drift: image bytes: expected a JPEG" in caplog.text
    ask(watched, dark)
    assert len(said) == 2  # the first was not taken
    ask(watched, dark)
    assert len(said) == 2
    ask(watched, [*like, *dark])
    assert len(said) == 3
    assert watched.metadata == "of the model"


def test_a_busy_server_waits_for_nothing(reference):
    watched = Watched(Model(), reference, DriftParams(window=5, max_drift=0.1), lambda _: True)
    rng = np.random.default_rng(4)
    images = [encoded(photograph(rng))] * 50
    assert watched.predict(pd.DataFrame({"image": images})) == [len(images[0])] * 50
    watched.settle()
    assert watched._num < 50


def test_the_event_is_the_one_that_watch_emits_and_prefect_is_asked_to_take_it(
    monkeypatch, caplog, tmp_path
):
    assert (drift.EVENT, drift.RESOURCE) == (watch.EVENT, watch.RESOURCE)
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    assert drift.want_rebuild("dark")  # nobody is to hear of it
    monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:9/api")
    (tmp_path / "prefect.py").write_text("import sys\nsys.exit(' '.join(sys.argv[1:]))\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with caplog.at_level(logging.ERROR):
        assert not drift.want_rebuild("dark")
    expected = "event emit dav2.rebuild-wanted --resource-id dav2.pipeline --payload"
    assert f'{expected} {{"reason": "dark"}}' in caplog.text


def test_what_is_no_reference_and_a_manifest_without_images_are_refused(tmp_path):
    with pytest.raises(ValueError, match="reference of images: expected edges and shares of bri"):
        Reference({"num_images": 3})
    path = tmp_path / "empty.parquet"
    write_manifest(pd.DataFrame(columns=MANIFEST_SCHEMA.names), path)
    with pytest.raises(ValueError, match=r"empty\.parquet: expected images with statistics"):
        Reference.of_manifest(path)


def test_the_shipped_parameters_fit():
    params = load("drift", DriftParams, SETTINGS)
    assert params.window > 1.95**2 / (1 - params.max_drift) ** 2  # chance does not hide it all
