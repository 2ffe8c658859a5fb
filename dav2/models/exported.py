"""Exports that run without our code: ONNX files and programs of `torch.export`, written and run.

Axes: B batch, H height, W width (pixels).
"""

import importlib
import json
import logging
import warnings
from collections.abc import Callable
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from dav2.data.transforms import IMAGE_DEVIATION, IMAGE_MEAN
from dav2.models.depth_anything import DepthAnything
from dav2.models.encoder import PATCH_PX
from dav2.models.tracing import LEAST_SIDE_PX, traced

Run = Callable[[Float[Tensor, "B 3 H W"]], Float[Tensor, "B H W"]]
"""Computes depth by what was written."""

OPSET = 18
"""Of ONNX: the first whose `Resize` needs no workaround, and the one PyTorch writes itself."""

LARGEST_FILE_BYTES = 2**31 - 2**20
"""Of weights in one ONNX file: protobuf ends at 2 GiB, graph included."""

LIMIT = 1e-4
"""Largest difference from the model that an export may show, as a share of the depth's range.
Rounding alone gives 5e-6, in ONNX 5e-5 at a side of 4000 pixels; positions resized without DINOv2's
offset more than 1e-3."""

_INFORMATION = "dav2.json"

logger = logging.getLogger(__name__)


def write_onnx(model: DepthAnything, path: Path, *, name: str) -> Run:
    """Writes an ONNX file for images of any size, and loads it; the same weights, the same bytes.

    Args:
        model: On the CPU.
        path: Ends in `.onnx`: one file. Else a folder with `model.onnx` and its weights beside it,
            in `model.onnx.data`; all there is for weights above 2 GiB.
        name: What messages call `path`.

    Raises:
        ValueError: The weights need a folder.
        RuntimeError: A library is missing.
    """
    for library in ("onnx", "onnxscript", "onnxruntime"):
        try:
            importlib.import_module(library)
        except ImportError:
            raise RuntimeError(
                f"{name}: ONNX needs {library}, got none: pip install onnx onnxscript onnxruntime"
            ) from None
    size = sum(value.nbytes for value in model.state_dict().values())
    if path.suffix == ".onnx" and size > LARGEST_FILE_BYTES:
        raise ValueError(
            f"{name}: expected a folder, a name without .onnx, since an ONNX file cannot hold "
            f"more than {LARGEST_FILE_BYTES} bytes of weights, got {size}"
        )
    file = path if path.suffix == ".onnx" else path / "model.onnx"
    file.parent.mkdir(exist_ok=True)
    _save_onnx(model, file, external=file != path)
    return _onnx_runner(file)


def write_program(model: DepthAnything, path: Path, *, name: str) -> Run:
    """Writes a program of `torch.export` for images of any size, and loads it.

    The same weights give the same bytes under the same name, which PyTorch writes into the file.

    Args:
        model: On the CPU.
        path: A file that ends in `.pt2`.
        name: What messages call `path`.

    Raises:
        ValueError: `path` ends otherwise.
    """
    if path.suffix != ".pt2":
        raise ValueError(f"{name}: expected a name that ends in .pt2, got {path.suffix!r}")
    information = json.dumps(describe(model), sort_keys=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # on its own internals
        program = traced(model)
        torch.export.save(program, path, extra_files={_INFORMATION: information})
        # A stranger's file is never read so: PyTorch unpickles parts of it. This one is ours.
        module = torch.export.load(path).module()
    return module


def describe(model: DepthAnything) -> dict[str, str]:
    """Returns what an export says of itself; lists are JSON."""
    config = model.config
    metric = config.max_depth_m is not None
    information = {
        "encoder": config.encoder,
        "version": str(config.version),
        "depth": "metric, metres" if metric else "relative, higher is closer",
        "image_mean": json.dumps(IMAGE_MEAN),
        "image_deviation": json.dumps(IMAGE_DEVIATION),
        "native_px": str(model.encoder.config.native_px),
        "side_multiple_px": str(PATCH_PX),
        "least_side_px": str(LEAST_SIDE_PX),
    }
    return information | ({"max_depth_m": f"{config.max_depth_m:g}"} if metric else {})


def check_depth(model: DepthAnything, run: Run, *, name: str) -> dict[tuple[int, int, int], float]:
    """Compares what was written with the model, on noise of several sizes.

    They are the native size, and one each upright, across and larger than native on one side: all
    ways in which positions are resized.

    Args:
        model: What `run` was written from.
        run: Computes depth by what was written.
        name: What messages call what was written.

    Returns:
        By batch, height and width the largest difference, as a share of the range of the depth.

    Raises:
        RuntimeError: A difference is above `LIMIT`.
    """
    native_px = model.encoder.config.native_px
    generator = torch.Generator().manual_seed(0)
    differences = {}
    for size in (
        (1, native_px, native_px),
        (2, 140, 196),
        (1, 196, 126),
        (3, 56, native_px + 56),
    ):
        images = torch.randn(size[0], 3, *size[1:], generator=generator)
        with torch.no_grad():
            expected, found = model(images), run(images)
        difference = _difference(expected, found)
        if not difference <= LIMIT:
            raise RuntimeError(
                f"{name}: expected depth within {LIMIT:g} of its range of the model's, "
                f"got {difference:.2g} for {size[0]} x 3 x {size[1]} x {size[2]}"
            )
        logger.info("%d x 3 x %d x %d: differs by %.1e of the depth's range", *size, difference)
        differences[size] = difference
    return differences


def _difference(expected: Tensor, found: Tensor) -> float:
    if expected.shape != found.shape:
        return float("inf")
    extent = float(expected.max() - expected.min())
    largest = float((expected - found).abs().max())
    return largest / extent if extent else (float("inf") if largest else 0.0)


def _save_onnx(model: DepthAnything, path: Path, *, external: bool) -> None:
    import onnx_ir

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # on its own internals
        program = torch.onnx.export(
            traced(model),
            dynamo=True,
            opset_version=OPSET,
            input_names=["images"],
            output_names=["depth"],
            verbose=False,
        )
    assert program is not None
    graph = program.model.graph
    # Lines of source with their paths, and names of sizes that say nothing.
    for node in graph.all_nodes():
        node.metadata_props.clear()
        node.doc_string = None
        for value in node.outputs:
            value.metadata_props.clear()
            value.shape = None
    for value in (*graph.inputs, *graph.initializers.values()):
        value.metadata_props.clear()
    graph.metadata_props.clear()
    graph.inputs[0].shape = onnx_ir.Shape(["batch", 3, "height", "width"])
    graph.outputs[0].shape = onnx_ir.Shape(["batch", "height", "width"])
    program.model.metadata_props.clear()
    program.model.metadata_props.update(describe(model))
    program.save(path, external_data=external)


def _onnx_runner(path: Path) -> Run:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])

    def run(images: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B H W"]:
        (depth,) = session.run(["depth"], {"images": images.numpy()})
        return torch.from_numpy(depth)

    return run
