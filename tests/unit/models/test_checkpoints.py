import json

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from dav2.models.checkpoints import load, load_encoder_weights, save, save_encoder
from dav2.models.depth_anything import DepthAnything, ModelConfig


def make_model(encoder="vit64x4", max_depth_m=None, seed=0):
    torch.manual_seed(seed)
    return DepthAnything(ModelConfig(encoder, max_depth_m))


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "model.safetensors"
    save(make_model(), path, {"domain": "indoor", "fingerprint": "0123"})
    return path


def rewritten(path, folder, *, drop=(), add=(), described=None):
    """A copy of a checkpoint with weights taken away, added, or another description."""
    weights = {name: value for name, value in load_file(path).items() if name not in drop}
    with safe_open(path, "pt") as file:
        text = file.metadata()["dav2"]
    copy = folder / "copy.safetensors"
    text = json.dumps(described) if described is not None else text
    save_file(weights | dict(add), copy, metadata={"dav2": text})
    return copy


@pytest.mark.parametrize("max_depth_m", [None, 80.0])
def test_load_returns_the_saved_model_bit_for_bit(tmp_path, max_depth_m):
    model = make_model(max_depth_m=max_depth_m).eval()
    save(model, tmp_path / "m.safetensors", {"domain": "outdoor", "px": [84, 112]})
    loaded, metadata = load(tmp_path / "m.safetensors")
    assert metadata == {"domain": "outdoor", "px": [84, 112]}
    assert loaded.config == model.config
    assert not loaded.training
    assert loaded.state_dict().keys() == model.state_dict().keys()
    for name, value in model.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], value), name
    images = torch.randn(1, 3, 42, 28)
    with torch.no_grad():
        assert torch.equal(loaded(images), model(images))
    trained = [name for name, value in model.named_parameters() if value.requires_grad]
    assert [name for name, value in loaded.named_parameters() if value.requires_grad] == trained


def test_equal_models_give_equal_bytes_in_one_metadata_key(tmp_path):
    for name, metadata in (("a", {"x": 1, "b": 2}), ("b", {"b": 2, "x": 1})):
        save(make_model(), tmp_path / name, metadata)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    with safe_open(tmp_path / "a", "pt") as file:
        document = file.metadata()
    assert list(document) == ["dav2"]
    assert json.loads(document["dav2"]) == {
        "metadata": {"b": 2, "x": 1},
        "model": {
            "encoder": "vit64x4",
            "head": "relative",
            "max_depth_m": None,
            "version": 2,
        },
    }


def test_loading_draws_no_random_number(saved):
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    load(saved)
    assert torch.equal(torch.rand(1), expected)


def test_a_model_in_bfloat16_is_saved_as_float32(tmp_path):
    model = make_model().to(torch.bfloat16)
    save(model, tmp_path / "m", {})
    loaded, _ = load(tmp_path / "m")
    assert loaded.encoder.cls_token.dtype == torch.float32
    assert torch.equal(loaded.encoder.pos_embed.bfloat16(), model.encoder.pos_embed)


def test_loaded_weights_do_not_change_with_the_file(tmp_path):
    save(make_model(seed=0), tmp_path / "m", {})
    loaded, _ = load(tmp_path / "m")
    before = loaded.encoder.pos_embed.clone()
    (tmp_path / "m").write_bytes(b"\0" * (tmp_path / "m").stat().st_size)
    assert torch.equal(loaded.encoder.pos_embed, before)


@pytest.mark.parametrize("metadata", [{"x": float("nan")}, {"x": {1, 2}}])
def test_save_refuses_metadata_that_is_not_json(tmp_path, metadata):
    with pytest.raises(ValueError, match="expected JSON-able metadata, got"):
        save(make_model(), tmp_path / "m", metadata)
    assert list(tmp_path.iterdir()) == []


def test_load_names_what_is_missing_and_what_is_left_over(saved, tmp_path):
    path = rewritten(
        saved,
        tmp_path,
        drop=["encoder.cls_token"],
        add={
            "extra.weight": torch.zeros(2),
            "head.projects.0.bias": torch.zeros(7),
            "encoder.norm.bias": torch.zeros(64, dtype=torch.float16),
        }.items(),
    )
    with pytest.raises(ValueError, match=r"expected the \d+ weights of the model") as caught:
        load(path)
    message = str(caught.value)
    assert "missing 1 (encoder.cls_token)" in message
    assert "left over 1 (extra.weight)" in message
    assert (
        "of another shape or type 2 (encoder.norm.bias ([64], 'F16') for ([64], 'F32')" in message
    )
    assert "\n" not in message


def test_a_long_list_of_names_is_cut(saved, tmp_path):
    path = rewritten(saved, tmp_path, drop=[f"encoder.blocks.{i}.norm1.bias" for i in range(4)])
    with pytest.raises(ValueError, match=r"missing 4 \(.*blocks.2.norm1.bias, \.\.\.\), left"):
        load(path)


def test_load_refuses_a_truncated_file(saved, tmp_path):
    for size in (0, 5, 2000, saved.stat().st_size - 1):
        (tmp_path / "m").write_bytes(saved.read_bytes()[:size])
        with pytest.raises(ValueError, match="expected a whole safetensors file, got"):
            load(tmp_path / "m")


def test_load_refuses_a_file_of_another_kind(tmp_path):
    torch.save({"weight": torch.zeros(3)}, tmp_path / "m.pth")
    with pytest.raises(
        ValueError, match=r"m\.pth: expected weights of Depth Anything, .* got 1 \(weight"
    ):
        load(tmp_path / "m.pth")


def test_load_refuses_safetensors_of_another_program(tmp_path):
    save_file({"weight": torch.zeros(3)}, tmp_path / "m")
    with pytest.raises(ValueError, match=r"expected weights of Depth Anything, .* got 1 \(weight"):
        load(tmp_path / "m")


@pytest.mark.parametrize(
    "described",
    [
        [],
        {"metadata": {}},
        {"metadata": {}, "model": {"encoder": "vit64x4"}},
        {"metadata": {}, "model": {"encoder": "resnet", "head": "metric", "max_depth_m": 1.0}},
        {"metadata": {}, "model": {"encoder": "vit64x4", "head": "metric", "max_depth_m": "a"}},
        {"metadata": {}, "model": {"encoder": "vit64x4", "head": "metric", "max_depth_m": -1.0}},
        {"metadata": {}, "model": {"encoder": "vit64x4", "head": "relative", "max_depth_m": 1.0}},
        {"metadata": {}, "model": {"encoder": "vit64x4", "head": "metric", "max_depth_m": None}},
        {"metadata": 3, "model": {"encoder": "vit64x4", "head": "metric", "max_depth_m": 1.0}},
    ],
)
def test_load_refuses_a_description_it_does_not_know(saved, tmp_path, described):
    path = rewritten(saved, tmp_path, described=described)
    with pytest.raises(ValueError, match="expected metadata of a dav2 model, got") as caught:
        load(path)
    assert "\n" not in str(caught.value)


def test_load_refuses_a_path_without_a_file(tmp_path):
    with pytest.raises(FileNotFoundError, match="expected a checkpoint, got no file"):
        load(tmp_path / "nothing")


@pytest.mark.parametrize("with_head", [False, True])
def test_encoder_weights_start_a_metric_model(saved, with_head):
    student, metric = make_model(), make_model(max_depth_m=20.0, seed=1)
    before = {name: value.clone() for name, value in metric.state_dict().items()}
    load_encoder_weights(metric, saved, with_head=with_head)
    for name, value in metric.state_dict().items():
        taken = with_head or name.startswith("encoder.")
        assert torch.equal(value, student.state_dict()[name] if taken else before[name]), name


def test_encoder_weights_of_another_size_are_refused_and_nothing_changes(saved):
    model = make_model("vit128x6")
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(ValueError, match=r"missing 28 \(encoder.blocks.4") as caught:
        load_encoder_weights(model, saved)
    assert "head." not in str(caught.value)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


@pytest.fixture
def alone(tmp_path):
    """An encoder without a head, and its file."""
    encoder = make_model(seed=4).encoder
    path = tmp_path / "encoder.safetensors"
    save_encoder(encoder, path, name="vit64x4", metadata={"fingerprint": "0123"})
    return encoder, path


@pytest.mark.parametrize("max_depth_m", [None, 20.0])
def test_an_encoder_alone_starts_a_model_and_leaves_its_head(alone, max_depth_m):
    encoder, path = alone
    model = make_model(max_depth_m=max_depth_m)
    head = {name: weight.clone() for name, weight in model.head.state_dict().items()}
    load_encoder_weights(model, path)
    for name, weight in encoder.state_dict().items():
        assert torch.equal(model.encoder.state_dict()[name], weight), name
    for name, weight in head.items():
        assert torch.equal(model.head.state_dict()[name], weight), name


def test_an_encoder_alone_is_no_model(alone):
    with pytest.raises(ValueError, match="expected a whole model, got an encoder alone"):
        load(alone[1])
    with pytest.raises(ValueError, match="expected a whole model, got an encoder alone"):
        load_encoder_weights(make_model(), alone[1], with_head=True)


def test_an_encoder_alone_of_another_size_is_refused(alone):
    with pytest.raises(ValueError, match=r"encoder\.safetensors: expected"):
        load_encoder_weights(make_model("vit128x6"), alone[1])
