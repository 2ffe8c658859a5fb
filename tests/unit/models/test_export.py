import json
import sys
from pathlib import Path

import jaxtyping
import onnxruntime
import pytest
import torch

from dav2.models import encoder, exported
from dav2.models.checkpoints import save
from dav2.models.depth_anything import DepthAnything, ModelConfig
from dav2.models.export import export, main
from dav2.models.exported import LIMIT, check_depth, describe
from dav2.models.tracing import _traceable
from tests.fixtures.transformers import random_model

SIZES = [(1, 168, 168), (2, 140, 196), (1, 196, 126), (3, 42, 56), (2, 518, 70)]
FORMATS = {"onnx": "m.onnx", "pt2": "m.pt2"}


@pytest.fixture(autouse=True, scope="module")
def unchecked_shapes():
    """Sizes are symbols while a model is traced; pytest's checks of annotations expect numbers."""
    before = jaxtyping.config.jaxtyping_disable
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", before)


@pytest.fixture(scope="module")
def small():
    return random_model(ModelConfig("vit64x4"))


@pytest.fixture(scope="module")
def folder(small, tmp_path_factory):
    """All exports of one model, as the command writes them."""
    path = tmp_path_factory.mktemp("exports")
    save(small, path / "m.safetensors", {})
    with pytest.MonkeyPatch.context() as patched:
        # These take longest.
        patched.setattr(exported, "traced", once(exported.traced))
        patched.setattr(torch.onnx, "export", once(torch.onnx.export))
        for kind, name in [*FORMATS.items(), ("onnx", "m")]:
            command(path, kind, path / name)
    return path


def once(function):
    """The first call's result for all calls."""
    results = []

    def call(*arguments, **options):
        if not results:
            results.append(function(*arguments, **options))
        return results[0]

    return call


def command(path, kind, out):
    main(["--weights", str(path / "m.safetensors"), "--format", kind, "--out", str(out)])


def onnx_session(path):
    return onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])


def run_onnx(session, images):
    return torch.from_numpy(session.run(["depth"], {"images": images.numpy()})[0])


def difference(model, run, size):
    images = torch.randn(size[0], 3, *size[1:], generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected, found = model(images), run(images)
    assert expected.shape == found.shape == size
    assert expected.std() > 1e-3 * expected.abs().max()  # not a constant, which proves nothing
    return float((expected - found).abs().max() / (expected.max() - expected.min()))


GRIDS = [(12, 12), (37, 37), (12, 14), (40, 37), (10, 14), (5, 50), (1, 1), (3, 90)]


@pytest.mark.parametrize("name", ["vit64x4", "vits", "vits_reg"])
@pytest.mark.parametrize("offset", ["its own", 0.0])
def test_positions_of_the_graph_are_the_encoders(name, offset):
    model = random_model(ModelConfig(name))
    if offset == 0.0:
        model.encoder.position_offset = offset
    twin = _traceable(model)
    side = model.encoder.config.native_px // encoder.PATCH_PX
    largest = float(model.encoder.pos_embed.detach().abs().max())
    with torch.no_grad():
        for grid in GRIDS:
            ours, expected = twin.encoder._positions(*grid), model.encoder._positions(*grid)
            # A step of float32 at place 37 of the axis is 4e-6.
            limit = 0.0 if grid == (side, side) else 1e-5 * largest
            assert float((ours - expected).abs().max()) <= limit, grid


def test_a_traceable_model_shares_the_weights(small):
    twin = _traceable(small)
    assert twin.encoder.blocks[0].attn.qkv.weight.data_ptr() == (
        small.encoder.blocks[0].attn.qkv.weight.data_ptr()
    )
    assert small.encoder.blocks[0].attn.qkv.weight.requires_grad


def test_an_export_says_what_it_is(small):
    told = describe(small)
    assert (told["encoder"], told["version"], told["native_px"]) == ("vit64x4", "2", "168")
    assert told["depth"] == "relative, higher is closer"
    assert json.loads(told["image_mean"]) == [0.485, 0.456, 0.406]
    assert json.loads(told["image_deviation"]) == [0.229, 0.224, 0.225]
    assert (told["side_multiple_px"], told["least_side_px"]) == ("14", "42")
    assert "max_depth_m" not in told
    metric = describe(DepthAnything(ModelConfig("vit64x4", 7.5)))
    assert (metric["depth"], metric["max_depth_m"]) == ("metric, metres", "7.5")


def test_the_check_measures_each_size_as_a_share_of_the_range(small):
    def run(images):
        depth = small(images).detach()
        depth[-1, 3, 5] += 0.5 * LIMIT * (depth.max() - depth.min())
        return depth

    found = check_depth(small, run, name="m")
    assert list(found) == [(1, 168, 168), (2, 140, 196), (1, 196, 126), (3, 56, 224)]
    assert list(found.values()) == pytest.approx([0.5 * LIMIT] * 4, rel=0.1)


@pytest.mark.parametrize(
    ("run", "got"),
    [
        (lambda depth: depth[:, :-1], "inf"),
        (lambda depth: depth * torch.nan, "nan"),
        (lambda depth: depth + 2 * LIMIT * (depth.max() - depth.min()), "0.0002"),
    ],
)
def test_the_check_refuses_other_depth(small, run, got):
    with pytest.raises(
        RuntimeError, match=f"m: expected depth within 0.0001 .*, got {got} for 1 x"
    ):
        check_depth(small, lambda images: run(small(images)), name="m")


@pytest.mark.parametrize("library", ["onnx", "onnxscript", "onnxruntime"])
def test_a_missing_library_is_one_line(small, tmp_path, monkeypatch, library):
    monkeypatch.setitem(sys.modules, library, None)
    save(small, tmp_path / "m.safetensors", {})
    with pytest.raises(SystemExit, match=f"^export: .*m.onnx: ONNX needs {library}, .*pip install"):
        command(tmp_path, "onnx", tmp_path / "m.onnx")
    assert [path.name for path in tmp_path.iterdir()] == ["m.safetensors"]


def test_what_cannot_be_written_is_refused_first(small, tmp_path, monkeypatch):
    monkeypatch.setattr(exported, "LARGEST_FILE_BYTES", 10)
    with pytest.raises(ValueError, match=r"m.onnx: expected a folder, .* more than 10 bytes"):
        export(small, tmp_path / "m.onnx", "onnx")
    with pytest.raises(ValueError, match=r"m.pth: expected a name that ends in .pt2, got '.pth'"):
        export(small, tmp_path / "m.pth", "pt2")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_depth_is_the_models_at_any_size_and_batch(small, folder):
    session = onnx_session(folder / "m.onnx")
    program = torch.export.load(folder / "m.pt2").module()  # just written by ourselves
    for size in SIZES:
        assert difference(small, lambda images: run_onnx(session, images), size) < 2e-5
        assert difference(small, program, size) < 2e-5


@pytest.mark.slow
def test_files_name_inputs_and_hold_what_describes_them(small, folder):
    session = onnx_session(folder / "m.onnx")
    (images,), (depth,) = session.get_inputs(), session.get_outputs()
    assert (images.name, images.shape) == ("images", ["batch", 3, "height", "width"])
    assert (depth.name, depth.shape) == ("depth", ["batch", "height", "width"])
    assert session.get_modelmeta().custom_metadata_map == describe(small)
    extra = {"dav2.json": ""}
    torch.export.load(folder / "m.pt2", extra_files=extra)
    assert json.loads(extra["dav2.json"]) == describe(small)


@pytest.mark.slow
@pytest.mark.parametrize("name", FORMATS.values())
def test_a_file_names_no_path_of_this_machine(folder, name):
    content = (folder / name).read_bytes()
    for told in (str(Path.cwd()), str(folder), "site-packages", "encoder.py"):
        assert told.encode() not in content


@pytest.mark.slow
def test_a_name_without_onnx_is_a_folder_with_the_weights_beside(folder):
    content = {path.name: path for path in (folder / "m").iterdir()}
    assert content.keys() == {"model.onnx", "model.onnx.data"}
    assert (
        content["model.onnx"].stat().st_size < 100_000 < content["model.onnx.data"].stat().st_size
    )
    images = torch.randn(2, 3, 56, 70)
    depths = [
        run_onnx(onnx_session(path), images) for path in (folder / "m.onnx", content["model.onnx"])
    ]
    assert torch.equal(*depths)


@pytest.mark.slow
def test_a_metric_model_with_registers_is_exported(tmp_path, monkeypatch, caplog):
    evenly, with_registers = encoder._evenly, encoder._with_registers
    monkeypatch.setattr(encoder, "_evenly", lambda name: with_registers(evenly(name)))
    model = random_model(ModelConfig("vit64x4", 20.0, version=1))
    assert model.encoder.config.num_registers == 4
    save(model, tmp_path / "m.safetensors", {})
    with caplog.at_level("INFO", logger="dav2"):
        command(tmp_path, "pt2", tmp_path / "m.pt2")
    assert "2 x 3 x 140 x 196: differs by" in caplog.text
    assert "m.pt2: vit64x4, 20 m, computes the model's depth but for rounding" in caplog.text
    program = torch.export.load(tmp_path / "m.pt2").module()
    for size in SIZES:
        assert difference(model, program, size) < 2e-5


@pytest.mark.slow
def test_positions_resized_otherwise_are_noticed_and_leave_nothing(
    small, folder, tmp_path, monkeypatch
):
    program = torch.export.load(folder / "m.pt2")
    monkeypatch.setattr(exported, "traced", lambda model: program)
    other = random_model(small.config)
    other.encoder.position_offset = 0.0
    (tmp_path / "m.pt2").write_bytes(b"an earlier export")
    # The native size passes: there positions are not resized.
    with pytest.raises(RuntimeError, match=r"m.pt2: expected depth .* for 2 x 3 x 140 x 196"):
        export(other, tmp_path / "m.pt2", "pt2")
    assert [path.name for path in tmp_path.iterdir()] == ["m.pt2"]
    assert (tmp_path / "m.pt2").read_bytes() == b"an earlier export"


@pytest.mark.slow
def test_other_weights_are_noticed_and_leave_nothing(small, folder, tmp_path, monkeypatch):
    content = (folder / "m.onnx").read_bytes()
    monkeypatch.setattr(exported, "_save_onnx", lambda model, path, **_: path.write_bytes(content))
    other = random_model(small.config)
    with torch.no_grad():
        other.encoder.blocks[2].mlp.fc1.bias.add_(0.01)
    with pytest.raises(RuntimeError, match=r"m.onnx: expected depth .* for 1 x 3 x 168 x 168"):
        export(other, tmp_path / "m.onnx", "onnx")
    assert list(tmp_path.iterdir()) == []
