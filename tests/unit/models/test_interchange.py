import json
import pickle
import re

import pytest
import timm
import torch
from safetensors.torch import load_file, save_file

from dav2.models.checkpoints import load, load_encoder_weights, save
from dav2.models.depth_anything import DepthAnything, ModelConfig
from dav2.models.encoder import Encoder, encoder_config
from dav2.models.export import export, main, transformers_difference
from dav2.models.interchange import (
    read_foreign,
    upstream_weights,
    write_transformers,
    write_upstream,
)
from dav2.models.layouts import DINOV2, TRANSFORMERS, UPSTREAM, for_size

BLOCK = ["norm1", "attn.qkv", "attn.proj", "norm2"]
MLP = {False: ["mlp.fc1", "mlp.fc2"], True: ["mlp.w12", "mlp.w3"]}


def authors_names(depth, *, swiglu=False):
    """All names of a released `.pth`, written out from the authors' modules."""
    names = ["pretrained." + name for name in ("cls_token", "pos_embed", "mask_token")]
    modules = ["pretrained.patch_embed.proj", "pretrained.norm"]
    for index in range(depth):
        block = f"pretrained.blocks.{index}"
        names += [f"{block}.ls1.gamma", f"{block}.ls2.gamma"]
        modules += [f"{block}.{part}" for part in BLOCK + MLP[swiglu]]
    modules += [f"depth_head.projects.{index}" for index in range(4)]
    modules += [f"depth_head.resize_layers.{index}" for index in (0, 1, 3)]
    names += [f"depth_head.scratch.layer{index}_rn.weight" for index in (1, 2, 3, 4)]
    for index in (1, 2, 3, 4):
        fusion = f"depth_head.scratch.refinenet{index}"
        modules += [f"{fusion}.out_conv"]
        modules += [f"{fusion}.resConfUnit{unit}.conv{n}" for unit in (1, 2) for n in (1, 2)]
    modules += [f"depth_head.scratch.{part}" for part in ("output_conv1", "output_conv2.0")]
    modules += ["depth_head.scratch.output_conv2.2"]
    return {*names, *(f"{name}.{kind}" for name in modules for kind in ("weight", "bias"))}


def randomised(config, seed=0):
    """A model whose every weight differs from its initial value, also those that start at 0."""
    torch.manual_seed(seed)
    model = DepthAnything(config).eval()
    with torch.no_grad():
        for name, value in model.state_dict().items():
            # Large layers would saturate the head.
            value.add_(0.02 * torch.randn_like(value) + (0.5 if "gamma" in name else 0.0))
    return model


@pytest.fixture(scope="module")
def small():
    return randomised(ModelConfig("vits"))


def assert_equal(first, second):
    assert first.config == second.config
    assert first.state_dict().keys() == second.state_dict().keys()
    for name, value in first.state_dict().items():
        assert torch.equal(second.state_dict()[name], value), name


def on_meta(encoder):
    with torch.device("meta"):
        return DepthAnything(ModelConfig(encoder)).state_dict()


@pytest.mark.parametrize("encoder", ["vits", "vitb", "vitl", "vitg"])
def test_names_are_those_of_the_released_files(encoder):
    config = encoder_config(encoder)
    names_of = for_size(UPSTREAM, encoder).names_of
    theirs = [part for name in on_meta(encoder) for part in names_of(name)]
    assert len(theirs) == len(set(theirs))
    assert set(theirs) == authors_names(config.depth, swiglu=config.swiglu)


@pytest.mark.parametrize(
    ("name", "config"),
    [
        ("depth_anything_v2_vits.pth", ModelConfig("vits")),
        ("depth_anything_vits14.pth", ModelConfig("vits", version=1)),
        ("depth_anything_v2_metric_hypersim_vits.pth", ModelConfig("vits", 20.0)),
        ("depth_anything_v2_metric_vkitti_vits.pth", ModelConfig("vits", 80.0)),
    ],
)
def test_a_released_file_is_known_by_its_name(small, tmp_path, name, config):
    torch.save(upstream_weights(small), tmp_path / name)
    loaded, metadata = load(tmp_path / name)
    assert loaded.config == config
    assert metadata == {}
    assert not loaded.training
    assert torch.equal(
        loaded.encoder.blocks[3].attn.qkv.weight, small.encoder.blocks[3].attn.qkv.weight
    )
    images = torch.randn(1, 3, 28, 42)
    with torch.no_grad():
        assert loaded(images).shape == (1, 28, 42)


def test_what_a_trainer_saves_beside_the_weights_is_left_aside(small, tmp_path):
    weights = {f"module.{name}": value for name, value in upstream_weights(small).items()}
    torch.save({"model": weights, "optimizer": {"state": {}}, "epoch": 3}, tmp_path / "latest.pth")
    assert_equal(small, load(tmp_path / "latest.pth")[0])
    assert load(tmp_path / "latest.pth", max_depth_m=80.0)[0].config.max_depth_m == 80.0


def test_a_file_names_what_it_lacks_and_what_is_left_over(small, tmp_path):
    weights = upstream_weights(small)
    del weights["depth_head.projects.2.bias"]
    weights["depth_head.extra"] = torch.zeros(1)
    weights["pretrained.norm.bias"] = torch.zeros(5)
    torch.save(weights, tmp_path / "m.pth")
    with pytest.raises(
        ValueError, match="expected the 239 weights of the model, got 239"
    ) as caught:
        load(tmp_path / "m.pth")
    message = str(caught.value)
    assert "missing 1 (depth_head.projects.2.bias)" in message
    assert "left over 1 (depth_head.extra)" in message
    assert re.search(
        r"another shape or type 1 \(pretrained.norm.bias \(5,\) for \(384,\)\)", message
    )
    assert "\n" not in message


def test_a_truncated_file_is_one_line(small, tmp_path):
    torch.save(upstream_weights(small), tmp_path / "m.pth")
    whole = (tmp_path / "m.pth").read_bytes()
    (tmp_path / "m.pth").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match=r"m\.pth: expected a whole checkpoint, got") as caught:
        load(tmp_path / "m.pth")
    assert "\n" not in str(caught.value)


class Harmful:
    def __reduce__(self):
        return (print, ("code of a stranger ran",))


def test_code_in_a_pickle_is_never_run(tmp_path, capsys):
    torch.save({"model": Harmful()}, tmp_path / "m.pth")
    (tmp_path / "old.pth").write_bytes(pickle.dumps(Harmful(), protocol=2))
    for name in ("m.pth", "old.pth"):
        with pytest.raises(ValueError, match="expected a whole checkpoint, got"):
            load(tmp_path / name)
    assert "stranger" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([1, 2], "expected weights by name, got list"),
        ({"fc.weight": torch.zeros(2)}, r"of Depth Anything, DINOv2 or timm, got 1 \(fc.weight\)"),
        ({"backbone.embeddings.cls_token": torch.zeros(1)}, "expected the folder of a model"),
        (
            {"pretrained.pos_embed": torch.zeros(1, 5, 7)},
            "got 7 channels, 0 blocks, 4 positions, 0 registers",
        ),
    ],
)
def test_a_file_of_no_known_layout_is_one_line(tmp_path, content, message):
    torch.save(content, tmp_path / "m.pth")
    with pytest.raises(ValueError, match=message) as caught:
        load(tmp_path / "m.pth")
    assert "\n" not in str(caught.value)


def test_nothing_at_the_path_is_one_line(tmp_path):
    with pytest.raises(FileNotFoundError, match="expected a checkpoint, got no file"):
        load(tmp_path / "m.pth")


def test_features_of_timms_weights_are_timms(tmp_path):
    torch.manual_seed(0)
    theirs = timm.create_model("vit_small_patch14_dinov2", pretrained=False, init_values=1.0).eval()
    torch.save(theirs.state_dict(), tmp_path / "timm.pth")
    model = DepthAnything(ModelConfig("vits")).eval()
    load_encoder_weights(model, tmp_path / "timm.pth")
    images = torch.randn(1, 3, 518, 518)
    with torch.no_grad():
        expected = theirs.forward_intermediates(
            images, [2, 5, 8, 11], norm=True, output_fmt="NLC", intermediates_only=True
        )
        found = model.encoder(images)
    for ours, reference in zip(found, expected, strict=True):
        assert torch.allclose(ours, reference, atol=1e-5)
    assert not model.encoder.mask_token.any()


@pytest.mark.parametrize("encoder", ["vits", "vits_reg"])
def test_an_encoder_of_dinov2_starts_a_model(tmp_path, encoder):
    source = randomised(ModelConfig(encoder)).encoder
    weights = {
        name.replace("reg_token", "register_tokens"): value
        for name, value in source.state_dict().items()
    }
    torch.save(weights, tmp_path / "dinov2.pth")
    model = DepthAnything(ModelConfig(encoder)).eval()
    head = model.head.projects[0].weight.clone()
    load_encoder_weights(model, tmp_path / "dinov2.pth")
    images = torch.randn(1, 3, 42, 56)
    with torch.no_grad():
        for ours, reference in zip(model.encoder(images), source(images), strict=True):
            assert torch.equal(ours, reference)
    assert torch.equal(model.head.projects[0].weight, head)
    with pytest.raises(ValueError, match="whole model, got an encoder alone in DINOv2's layout"):
        load(tmp_path / "dinov2.pth")
    with pytest.raises(ValueError, match=f"expected weights of vit64x4, got those of {encoder}"):
        load_encoder_weights(DepthAnything(ModelConfig("vit64x4")), tmp_path / "dinov2.pth")


def test_a_giants_names_at_dinov2():
    names_of = for_size(DINOV2, "vitg").names_of
    assert names_of("encoder.blocks.7.mlp.fc1.bias") == ("blocks.7.mlp.w12.bias",)
    assert names_of("encoder.blocks.39.mlp.fc2.weight") == ("blocks.39.mlp.w3.weight",)


def test_registers_take_part_in_attention_and_are_no_patches():
    torch.manual_seed(0)
    encoder = Encoder("vits_reg").eval()
    images = torch.randn(1, 3, 28, 42)
    with torch.no_grad():
        before = encoder(images)
        encoder.reg_token.add_(torch.randn_like(encoder.reg_token))
        after = encoder(images)
    assert after[0].shape == (1, 6, 384)
    assert not torch.allclose(before[0], after[0], atol=1e-4)


def test_version_1_reads_the_last_four_blocks():
    assert encoder_config("vitl", version=1).layers == (20, 21, 22, 23)
    assert encoder_config("vitl").layers == (4, 11, 17, 23)


@pytest.mark.parametrize("max_depth_m", [None, 20.0])
@pytest.mark.parametrize("kind", ["safetensors", "upstream", "transformers"])
def test_exports_read_back_equal(tmp_path, kind, max_depth_m):
    model = randomised(ModelConfig("vits", max_depth_m))
    export(model, tmp_path / "out", kind)
    told = {"max_depth_m": max_depth_m} if kind == "upstream" else {}
    assert_equal(model, load(tmp_path / "out", **told)[0])


def test_an_export_that_reads_back_otherwise_leaves_nothing(small, tmp_path):
    with pytest.raises(RuntimeError, match="expected to read back"):
        export(small, tmp_path / "a_metric_vkitti.pth", "upstream")  # would be taken for metric
    assert list(tmp_path.iterdir()) == []


def test_two_exports_are_the_same_bytes(small, tmp_path):
    for name in ("a", "b"):
        write_transformers(small, tmp_path / name)
    for file in ("model.safetensors", "config.json", "preprocessor_config.json"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


def test_formats_refuse_what_they_cannot_hold(tmp_path):
    with pytest.raises(ValueError, match="authors' code knows, got vit64x4"):
        write_upstream(randomised(ModelConfig("vit64x4")), tmp_path / "m.pth")
    with pytest.raises(ValueError, match=r"whole metres, got vit64x4 and 7.5 m"):
        write_transformers(randomised(ModelConfig("vit64x4", 7.5)), tmp_path / "m")
    with pytest.raises(ValueError, match=r"without registers .*, got vits_reg"):
        write_transformers(randomised(ModelConfig("vits_reg")), tmp_path / "m")
    assert list(tmp_path.iterdir()) == []


def test_the_command_exports_and_says_what_differs(tmp_path, caplog):
    save(randomised(ModelConfig("vit64x4", 20.0)), tmp_path / "m.safetensors", {})
    source, out = str(tmp_path / "m.safetensors"), tmp_path / "folder"
    with caplog.at_level("INFO"):
        main(["--weights", source, "--format", "transformers", "--out", str(out)])
    assert "vit64x4, 20 m, reads back equal" in caplog.text
    assert "as ours at 168 x 168, at 140 x 196 other by up to" in caplog.text
    assert json.loads((out / "config.json").read_text())["max_depth"] == 20
    with pytest.raises(SystemExit, match=r"^export: .*expected a checkpoint, got no file"):
        main(["--weights", str(tmp_path / "no"), "--format", "upstream", "--out", str(out)])


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"model_type": "dpt"}, "ValueError: model_type 'dpt'"),
        ({"backbone_config": {"hidden_size": 64}}, "KeyError: 'out_indices'"),
        (
            {"backbone_config": {"hidden_size": 7, "out_indices": [1, 2, 3, 4]}},
            r"got 7 channels, 12 blocks, layers \[0, 1, 2, 3\]",
        ),
    ],
)
def test_a_folder_of_another_model_is_one_line(tmp_path, changed, message):
    write_transformers(randomised(ModelConfig("vit64x4")), tmp_path / "m")
    path = tmp_path / "m" / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changed))
    with pytest.raises(ValueError, match=message) as caught:
        load(tmp_path / "m")
    assert "\n" not in str(caught.value)
    path.unlink()
    with pytest.raises(FileNotFoundError, match="expected the configuration, got no file"):
        load(tmp_path / "m")


def test_a_folder_with_other_weights_names_them(tmp_path):
    write_transformers(randomised(ModelConfig("vit64x4")), tmp_path / "m")
    path = tmp_path / "m" / "model.safetensors"
    weights = load_file(path)
    del weights["neck.fusion_stage.layers.0.projection.bias"]
    save_file(weights, path)
    with pytest.raises(ValueError, match=r"missing 1 \(neck.fusion_stage.layers.0.projection.bias"):
        read_foreign(tmp_path / "m")


@pytest.mark.parametrize("encoder", ["vits", "vitg"])
def test_each_weight_has_a_name_of_its_own_at_transformers(encoder):
    names_of = for_size(TRANSFORMERS, encoder).names_of
    theirs = [part for name in on_meta(encoder) for part in names_of(name)]
    assert len(theirs) == len(set(theirs))
    assert not [name for name in theirs if name.startswith(("encoder.", "head.scratch"))]


def test_the_difference_to_transformers_is_none_at_the_native_size():
    model = randomised(ModelConfig("vit64x4"))
    assert 0 < transformers_difference(model) < 0.2
    assert model.encoder.position_offset == 0.1
