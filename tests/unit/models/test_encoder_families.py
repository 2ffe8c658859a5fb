import re
from dataclasses import replace

import pytest
import timm
import torch
import torch.nn.functional as F

from dav2.data.transforms import IMAGE_DEVIATION, IMAGE_MEAN
from dav2.models.checkpoints import load, load_encoder_weights, save
from dav2.models.depth_anything import DepthAnything, ModelConfig
from dav2.models.encoder import Encoder, encoder_config
from dav2.models.encoder_families import BeitEncoder, SamEncoder, build_encoder
from dav2.models.export import export
from dav2.models.inference import prepare
from dav2.models.interchange import read_foreign
from dav2.models.masked_image_model import MaskedImageModel
from dav2.training.groups import parameter_groups
from tests.fixtures.encoder_families import BEIT, SMALL, TIMMS, shrink, timms


def timms_features(name, model, images, layers):
    """What timm computes of images that are enlarged and, for BEiT, normalised as it takes them."""
    if name == "beitl":
        mean, deviation = (torch.tensor(it)[:, None, None] for it in (IMAGE_MEAN, IMAGE_DEVIATION))
        images = (images * deviation + mean - 0.5) / 0.5
    height, width = images.shape[-2:]
    larger = F.interpolate(images, size=(height * 16 // 14, width * 16 // 14), mode="bicubic")
    maps = model.forward_intermediates(larger, list(layers), intermediates_only=True)
    return [entry.flatten(2).transpose(1, 2) for entry in maps]


def own_encoder(name, theirs):
    """Ours with timm's weights, made without values, as `load` does."""
    with torch.device("meta"):
        made = {"beitl": BeitEncoder, "saml": SamEncoder}[name](SMALL[name])
    weights = {key: value for key, value in theirs.state_dict().items() if key in made.state_dict()}
    made.load_state_dict(weights, assign=True)
    return made.eval()


def for_grid(beit, rows, columns):
    """timm's BEiT of another grid, whose tables timm resizes; its `set_input_size` spaces them
    otherwise."""
    wide = timms("beitl", BEIT, img_size=(16 * rows, 16 * columns))
    weights = beit.state_dict()
    for key, value in wide.state_dict().items():
        if key.endswith("_table"):
            weights[key] = timm.layers.resize_rel_pos_bias_table_simple(
                weights[key], (rows, columns), value.shape
            )
    wide.load_state_dict(weights)
    return wide


@pytest.fixture
def small(monkeypatch):
    shrink(monkeypatch)


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize("at_native", [True, False])
def test_features_are_timms(name, at_native):
    config = SMALL[name]
    theirs = timms(name, config)
    ours = own_encoder(name, theirs)
    px = config.native_px
    images = torch.randn(2, 3, *((px, px) if at_native else (70, 238)))
    if name == "beitl" and not at_native:
        theirs = for_grid(theirs, 5, 17)
    with torch.no_grad():
        expected = timms_features(name, theirs, images, config.layers)
        found = ours(images)
    assert len(found) == 4
    for own, reference in zip(found, expected, strict=True):
        assert own.shape == reference.shape == (2, images.shape[2] * images.shape[3] // 196, 48)
        assert torch.allclose(own, reference, rtol=1e-4, atol=1e-4)
        assert own.std() > 0.1


@pytest.mark.parametrize("name", TIMMS)
def test_names_and_shapes_are_those_of_timms_published_models(name):
    with torch.device("meta"):
        ours = build_encoder(name)
        theirs = timm.create_model(TIMMS[name], pretrained=False)
    assert not list(ours.buffers())  # they would stay without values where a model is loaded
    left_out = r"(fc_norm|head|neck)\..*"
    expected = {
        key: value.shape
        for key, value in theirs.state_dict().items()
        if not re.fullmatch(left_out, key)
    }
    assert {key: value.shape for key, value in ours.state_dict().items()} == expected
    twin = encoder_config("vitb" if name.endswith("b") else "vitl")
    found = ours.config
    assert (found.width, found.depth, found.num_heads) == (twin.width, twin.depth, twin.num_heads)
    windows = [getattr(block, "window_size", 0) for block in ours.blocks]
    if found.family == "sam":  # those that are read attend to the whole image
        assert windows == [getattr(block, "window_size", 0) for block in theirs.blocks]
        assert tuple(i for i, window in enumerate(windows) if not window) == found.layers


@pytest.mark.parametrize("name", SMALL)
def test_a_file_of_timm_starts_a_model(tmp_path, small, name):
    theirs = timms(name, SMALL[name])
    weights = theirs.state_dict()
    weights["blocks.0.attn.relative_position_index"] = torch.zeros(17, 17, dtype=torch.long)
    if name == "saml":
        del weights["blocks.0.attn.relative_position_index"]
    torch.save(weights, tmp_path / "timm.pth")
    assert read_foreign(tmp_path / "timm.pth").config.encoder == name
    model = DepthAnything(ModelConfig(name)).eval()
    load_encoder_weights(model, tmp_path / "timm.pth")
    images = torch.randn(1, 3, 56, 28)
    save(model, tmp_path / "own.safetensors", {})
    again, _ = load(tmp_path / "own.safetensors")
    assert again.config == model.config
    with torch.no_grad():
        depth = again(images)
        assert torch.equal(depth, model(images))
        expected = own_encoder(name, theirs)(images)
        for ours, reference in zip(model.encoder(images), expected, strict=True):
            assert torch.equal(ours, reference)
    assert depth.shape == (1, 56, 28)
    assert depth.std() > 0


@pytest.mark.parametrize(
    ("name", "changed", "message"),
    [
        (
            "beitl",
            {"img_size": 96},
            "48 channels, 8 blocks, 36 positions, .* in timm's layout of BEiT$",
        ),
        (
            "saml",
            {"img_size": 96},
            "48 channels, 8 blocks, 36 positions, .* in timm's layout of SAM$",
        ),
        ("beitl", {"use_shared_rel_pos_bias": True}, r"left over 1 \(rel_pos_bias\."),
        ("saml", {"qk_norm": True}, r"left over 32 \(blocks\.0\.attn\.k_norm"),
    ],
)
def test_a_file_of_another_layout_is_one_line(tmp_path, small, name, changed, message):
    config = SMALL[name]
    if "img_size" in changed:
        config, changed = replace(config, native_px=changed["img_size"] * 14 // 16), {}
    torch.save(timms(name, config, **changed).state_dict(), tmp_path / "m.pth")
    with pytest.raises(ValueError, match=message) as caught:
        load_encoder_weights(DepthAnything(ModelConfig(name)), tmp_path / "m.pth")
    assert "\n" not in str(caught.value)


def test_a_file_of_another_family_is_one_line(tmp_path, small):
    for name, other in (("beitl", "saml"), ("saml", "vits"), ("vits", "beitl")):
        model = DepthAnything(ModelConfig(other))
        save(model, tmp_path / "own.safetensors", {})
        with pytest.raises(ValueError, match=r"missing .* left over"):
            load_encoder_weights(DepthAnything(ModelConfig(name)), tmp_path / "own.safetensors")
    torch.save(timms("beitl", BEIT).state_dict(), tmp_path / "beit.pth")
    with pytest.raises(ValueError, match="expected weights of saml, got those of beitl"):
        load_encoder_weights(DepthAnything(ModelConfig("saml")), tmp_path / "beit.pth")
    torch.save({"blocks.0.attn.relative_position_bias_table": torch.zeros(())}, tmp_path / "m.pth")
    with pytest.raises(ValueError, match="0 channels, 1 blocks, 0 positions"):
        load_encoder_weights(DepthAnything(ModelConfig("beitl")), tmp_path / "m.pth")


@pytest.mark.parametrize("name", SMALL)
def test_every_weight_gets_a_gradient_which_recomputing_leaves_as_it_is(small, name):
    torch.manual_seed(2)
    model = DepthAnything(ModelConfig(name))
    weights = timms(name, SMALL[name]).state_dict()
    model.encoder.load_state_dict({key: weights[key] for key in model.encoder.state_dict()})
    images = torch.randn(2, 3, 42, 70)
    gradients, calls = [], []
    model.encoder.blocks[2].register_forward_pre_hook(lambda *_: calls.append(1))
    for recomputed in (False, True):
        model.zero_grad()
        calls.clear()
        model.encoder.set_grad_checkpointing(recomputed)
        sum((feature**2).mean() for feature in model.encoder(images)).backward()
        assert len(calls) == (2 if recomputed else 1)
        gradients.append({key: it.grad.clone() for key, it in model.encoder.named_parameters()})
    for key, gradient in gradients[0].items():
        assert gradient.abs().max() > 0, key
        assert torch.equal(gradient, gradients[1][key]), key


@pytest.mark.parametrize("name", SMALL)
def test_layers_have_their_rates(small, name):
    model = DepthAnything(ModelConfig(name))
    groups = parameter_groups(model, encoder_lr=1.0, decoder_lr=10.0, layer_decay=0.5)
    assert [group["lr"] for group in groups] == [*(0.5**index for index in range(9)), 10.0]
    embeddings = {"patch_embed.proj.weight", "patch_embed.proj.bias"}
    embeddings |= {"cls_token"} if name == "beitl" else {"pos_embed"}
    lowest = {id(parameter) for parameter in groups[8]["params"]}
    found = {key for key, it in model.encoder.named_parameters() if id(it) in lowest}
    assert found == embeddings


@pytest.mark.parametrize("name", SMALL)
def test_what_these_encoders_cannot_do_is_one_line(tmp_path, small, name):
    model = DepthAnything(ModelConfig(name))
    for kind, message in (
        ("upstream", f"authors' code knows, got {name}"),
        ("transformers", f"expected an encoder of DINOv2's kind without registers .*, got {name}"),
        ("onnx", f"{name}: expected an encoder of DINOv2's kind, .*, got one of"),
        ("pt2", f"{name}: expected an encoder of DINOv2's kind, .*, got one of"),
    ):
        with pytest.raises(ValueError, match=message):
            export(model, tmp_path / f"m.{kind}", kind)
    export(model, tmp_path / "m.safetensors", "safetensors")
    assert [entry.name for entry in tmp_path.iterdir()] == ["m.safetensors"]
    with pytest.raises(ValueError, match="masked images"):
        MaskedImageModel(name)
    with pytest.raises(ValueError, match="multiples of 14 px, got 28 x 32"):
        model(torch.zeros(1, 3, 28, 32))


def test_the_family_decides_the_class():
    with torch.device("meta"):
        assert type(build_encoder("vits", version=1)) is Encoder
        assert type(build_encoder("samb", version=1)) is SamEncoder
        assert build_encoder("beitb", version=1).config.layers == (8, 9, 10, 11)


@pytest.mark.parametrize("name", SMALL)
def test_bfloat16_predicts_nearly_the_same(small, name):
    torch.manual_seed(3)
    model = DepthAnything(ModelConfig(name)).eval()
    images = torch.randn(1, 3, 56, 42)
    with torch.no_grad():
        expected = model(images)
        prepare(model, device="cpu", precision="bfloat16")
        found = model(images.bfloat16())
    assert model.encoder.blocks[0].attn.qkv.weight.dtype == torch.bfloat16
    assert found.dtype == torch.float32
    assert (found - expected).abs().max() < 0.1 * (expected.max() - expected.min())
