"""An evaluated model becomes a version that MLflow alone can load, with all it came from."""

import base64
import hashlib
import json
import subprocess
import sys
from io import BytesIO
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from dav2.data.images import decode_image
from dav2.labeling.codec import decode_label
from dav2.models.checkpoints import load
from dav2.predict import predict
from stages import fetch_weights, lineage, serve
from stages.register import main, register
from stages.registry import CHALLENGER, CHAMPION, aliases, connect, model_uri, registered_name
from tests.fixtures import bombs
from tests.fixtures.registry import MODEL, NAME, TRAINING, write_lock, write_project, write_tables

WEIGHTS = Path(f"models/{MODEL}.safetensors")


def ask_twice(patch, name):
    """Does what MLflow's client does where a server is lost before it answers."""
    from mlflow.store.model_registry.sqlalchemy_store import SqlAlchemyStore

    ask = getattr(SqlAlchemyStore, name)

    def twice(*arguments, **options):
        ask(*arguments, **options)
        return ask(*arguments, **options)

    patch.setattr(SqlAlchemyStore, name, twice)


@pytest.fixture(scope="module")
def registered(tmp_path_factory, empty_store):
    """A project whose model was registered once, through the command line's function."""
    root = tmp_path_factory.mktemp("registered")
    with pytest.MonkeyPatch.context() as patch:
        ask_twice(patch, "create_registered_model")  # that of the lock too
        ask_twice(patch, "create_model_version")
        patch.setattr(sys, "path", list(sys.path))  # as below
        patch.chdir(root)
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        write_project(root)
        (root / "mlflow.db").write_bytes(empty_store)
        main(MODEL)
    return root


@pytest.fixture
def project(registered, monkeypatch):
    monkeypatch.chdir(registered)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return connect()


@pytest.fixture(scope="module")
def served(registered):
    import mlflow

    with pytest.MonkeyPatch.context() as patch:
        # MLflow puts the version's own modules first, and later tests' processes would find those.
        patch.setattr(sys, "path", list(sys.path))
        patch.chdir(registered)
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        connect()
        limits = {"max_pixels": 50_000, "max_bytes": 20_000, "max_images": 2, "max_aspect": 8}
        return mlflow.pyfunc.load_model(f"models:/{NAME}@{CHALLENGER}", model_config=limits)


def png(height: int, width: int) -> bytes:
    rng = np.random.default_rng(height)
    stream = BytesIO()
    Image.fromarray(rng.integers(0, 255, (height, width, 3), np.uint8)).save(stream, "PNG")
    return stream.getvalue()


def asked(served, *images, **params):
    return served.predict(pd.DataFrame({"image": list(images)}), params=params)


def test_a_version_carries_hashes_commit_parameters_gates_and_metrics(project):
    tags = project.get_model_version(NAME, "1").tags
    md5 = hashlib.md5(WEIGHTS.read_bytes()).hexdigest()
    commit = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True).stdout
    assert tags["weights.md5"] == tags[f"dvc.in.{WEIGHTS}"] == md5
    assert tags["git.commit"] == commit.strip()
    assert tags["git.has_lock"] == "true"
    assert (tags["gate.release"], tags["gate.pseudo"]) == ("passed", "passed")
    assert json.loads(tags["params.train_student"]) == TRAINING
    assert json.loads(tags["metrics.photos"])["delta1"] == pytest.approx(0.5, abs=0.02)
    assert json.loads(tags["metrics.da2k"]) == {"all": 0.5}
    assert len(tags["dvc.in.data/gated/unlabelled.parquet"]) == 32
    assert aliases(project, NAME) == {CHALLENGER: "1"}


def test_a_version_that_was_asked_for_twice_is_there_once(project):
    (found,) = project.search_model_versions(f"name = '{NAME}'")
    assert int(found.version) == 1
    assert [model.name for model in project.search_registered_models()] == [NAME]  # no lock


def test_the_card_names_licences_and_shows_pictures(project):
    run_id = project.get_model_version(NAME, "1").tags["evidence.run_id"]
    card = Path(project.download_artifacts(run_id, "card"))
    text = (card / "README.md").read_text()
    assert "| photos | CC0 | a walk |" in text
    assert "Started from given weights: dinov2.safetensors." in text
    assert "Gates: pseudo passed, release passed." in text
    assert "![photos: image and depth, near is bright](photos.png)" in text
    assert decode_image(card / "photos.png").shape == (30, 80, 3)


def test_a_version_knows_what_the_images_of_its_training_were_like(project, caplog):
    manifest = Path("data/gated/unlabelled.parquet")
    shipped = serve._reference(model_uri(f"{NAME}@challenger"), None)
    assert shipped.num_images == 1
    assert shipped.as_json() == serve._reference("", manifest).as_json()
    assert serve._reference(model_uri(f"{NAME}/99"), None) is None
    assert "no images.json, so drift of images is not seen" in caplog.text


def test_no_pickle_is_in_a_version(project):
    import mlflow

    folder = Path(mlflow.artifacts.download_artifacts(f"models:/{NAME}/1"))
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert {path.suffix for path in files} <= {
        "", ".json", ".md", ".png", ".py", ".safetensors", ".txt", ".yaml"
    }  # fmt: skip
    assert not (folder / "code" / "dav2" / "training").exists()
    pins = (folder / "requirements.txt").read_text().split()
    assert all("==" in pin for pin in pins)


def test_the_same_bytes_keep_their_version_and_new_evidence_reaches_it(project, registered):
    before = project.get_model_version(NAME, "1").tags
    assert register(MODEL) == (NAME, "1")
    assert project.get_model_version(NAME, "1").tags == before
    write_tables(registered / "reports/evaluation" / MODEL, delta1=0.7)
    write_lock(registered)
    assert register(MODEL) == (NAME, "1")
    after = project.get_model_version(NAME, "1").tags
    assert json.loads(after["metrics.da2k"]) == {"all": 0.7}
    assert after["evidence.run_id"] != before["evidence.run_id"]
    assert after["git.has_lock"] == "false"


def test_an_evaluation_by_another_protocol_reaches_the_version(project):
    before = project.get_model_version(NAME, "1").tags["evaluation.hash"]
    lock = Path("dvc.lock").read_text()
    Path("dvc.lock").write_text(lock.replace("num_pairs: 20", "num_pairs: 22"))
    assert register(MODEL) == (NAME, "1")
    assert project.get_model_version(NAME, "1").tags["evaluation.hash"] != before
    Path("dvc.lock").write_text(lock)
    register(MODEL)
    assert project.get_model_version(NAME, "1").tags["evaluation.hash"] == before


def test_a_registration_that_was_killed_half_way_is_completed(project):
    whole = project.get_model_version(NAME, "1").tags
    project.delete_model_version_tag(NAME, "1", "evidence.md5")  # the last that is set
    project.delete_model_version_tag(NAME, "1", "gate.release")
    assert register(MODEL) == (NAME, "1")
    again = project.get_model_version(NAME, "1").tags
    assert again == whole | {"evidence.run_id": again["evidence.run_id"]}


def test_answers_what_predict_answers(served, registered):
    picture = png(30, 40)
    (answer,) = asked(served, picture)
    network, _ = load(registered / WEIGHTS)
    (wanted,) = predict(
        network, [decode_image(picture)], short_side_px=28, preparation="antialiased"
    )
    found = decode_label(
        base64.b64decode(answer["depth_png"]),
        minimum=answer["minimum"],
        maximum=answer["maximum"],
    )
    assert (answer["height"], answer["width"], answer["unit"]) == (30, 40, "relative")
    np.testing.assert_allclose(found, wanted, atol=float(np.ptp(wanted)) / 1e5)
    (numbers,) = asked(served, picture, format="array")
    np.testing.assert_allclose(numbers["depth"], wanted, rtol=1e-6)


@pytest.mark.parametrize(
    ("image", "why"),
    [
        (b"no image at all", "expected a JPEG, PNG or WebP image"),
        (b"", "got an empty file"),
        (png(30, 40)[:900], "truncated or damaged"),
        (png(10, 90), "sides of at most 8:1, got 90 x 10"),
        (bytes(20_001), "at most 20000 bytes, got 20001 bytes"),
        (bombs.jpeg_header(), "1 to 50000 pixels, got 65535 x 65535"),
    ],
)
def test_what_is_no_good_image_is_the_clients_error(served, image, why):
    from mlflow.exceptions import MlflowException

    with pytest.raises(MlflowException, match=f"image 0: .*{why}") as refused:
        asked(served, image)
    assert refused.value.get_http_status_code() == 400
    assert "\n" not in refused.value.message


def test_formats_and_numbers_of_images_are_limited(served):
    from mlflow.exceptions import MlflowException

    with pytest.raises(MlflowException, match="expected 1 to 2 images, got 3"):
        asked(served, *[png(30, 40)] * 3)
    with pytest.raises(MlflowException, match="expected one of png16, array, got 'jpeg'"):
        asked(served, png(30, 40), format="jpeg")


def test_lineage_leads_from_metrics_to_data_and_back(project, capsys):
    lineage.main(f"{NAME}/1")
    shown = capsys.readouterr().out
    tags = project.get_model_version(NAME, "1").tags
    data = tags["dvc.in.data/gated/unlabelled.parquet"]
    for part in (f"{NAME} version 1 challenger", "delta1", tags["weights.md5"], data,
                 tags["git.commit"], tags["evidence.run_id"], "release  passed"):  # fmt: skip
        assert part in shown
    for start in (data[:8], tags["git.commit"][:8], tags["evidence.run_id"]):
        lineage.main(start)
        assert f"{NAME} version 1: " in capsys.readouterr().out


def test_lineage_knows_the_run_that_wrote_the_weights(project, capsys):
    from stages.tracking import EXPERIMENT

    experiment = project.get_experiment_by_name(EXPERIMENT).experiment_id
    md5 = project.get_model_version(NAME, "1").tags["weights.md5"]
    run = project.create_run(experiment, tags={f"dvc.out.{WEIGHTS}": md5})
    lineage.main(f"{NAME}@challenger")
    assert f"training  {run.info.run_id}" in capsys.readouterr().out
    lineage.main(run.info.run_id)
    assert f"{NAME} version 1: weights.md5 {md5}" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("what", "why"),
    [
        (f"{NAME}@champion", "expected one of challenger"),
        (f"{NAME}/9", "expected a registered version"),
        ("other@champion", f"expected a registered model, got {NAME}"),
        (f"{NAME}/x", "expected <registered model>@<alias>"),
        ("abc", "at least 7 characters"),
        ("0" * 40, "expected a hash or run that led to a version"),
    ],
)
def test_lineage_of_what_is_not_there_is_one_line(project, what, why):
    with pytest.raises(ValueError, match=why):
        lineage.main(what)


def test_weights_come_back_by_alias_and_what_is_not_there_is_one_line(project, tmp_path):
    fetch_weights.main(f"{NAME}@challenger", str(tmp_path / "w.safetensors"))
    assert (tmp_path / "w.safetensors").read_bytes() == WEIGHTS.read_bytes()
    with pytest.raises(ValueError, match="expected a registered model, got"):
        fetch_weights.main(f"{NAME}@{CHAMPION}", str(tmp_path / "w.safetensors"))
    with pytest.raises(ValueError, match="expected <registered model>@<alias>"):
        model_uri("models:/x")
    with pytest.raises(ValueError, match="expected a registered model, got"):
        serve.main([f"{NAME}@{CHAMPION}"])


def test_a_metric_model_belongs_to_the_family_of_its_domain(tmp_path):
    from dav2.models import checkpoints
    from dav2.models.depth_anything import DepthAnything, ModelConfig

    network = DepthAnything(ModelConfig("vit64x4", max_depth_m=20.0))
    checkpoints.save(network, tmp_path / "m.safetensors", {"domain": "indoor"})
    assert registered_name(tmp_path / "m.safetensors") == "depth-metric-indoor-vit64x4"
    checkpoints.save(network, tmp_path / "m.safetensors", {})
    with pytest.raises(ValueError, match="expected a metric model with a domain"):
        registered_name(tmp_path / "m.safetensors")


@pytest.mark.soak
def test_a_version_loads_in_a_folder_without_this_project(registered, tmp_path):
    script = f"""
import mlflow, pandas as pd, sys
mlflow.set_tracking_uri("sqlite:///{registered / "mlflow.db"}")
model = mlflow.pyfunc.load_model("models:/{NAME}/1")
answer = model.predict(pd.DataFrame({{"image": [sys.stdin.buffer.read()]}}))
assert "/artifacts/code/dav2/" in sys.modules["dav2"].__file__.replace("\\\\", "/")
print(answer[0]["height"], answer[0]["width"])
"""
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, input=png(30, 40), capture_output=True
    )
    assert done.stdout.split()[-2:] == [b"30", b"40"], done.stderr.decode()
