import pytest

from dav2.models.checkpoints import save
from tests.fixtures.prediction import make_model


@pytest.fixture(scope="session")
def model():
    return make_model()


@pytest.fixture(scope="session")
def weights(tmp_path_factory, model):
    path = tmp_path_factory.mktemp("weights") / "relative.safetensors"
    save(model, path, {"short_side_px": 42})
    return path


@pytest.fixture(scope="session")
def metric_weights(tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "metric.safetensors"
    save(make_model(max_depth_m=20.0), path, {"short_side_px": 42})
    return path
