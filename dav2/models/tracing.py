"""A model as one graph of operations for images of any size, which exports are written from.

Axes: B batch, H height, W width (pixels), L length of a side of the grid of patches, S that of the
stored grid, T class token and patches, C channels.
"""

from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor

from dav2.models.depth_anything import DepthAnything
from dav2.models.encoder import PATCH_PX, Encoder

if TYPE_CHECKING:
    from torch.export import ExportedProgram

LEAST_SIDE_PX = 3 * PATCH_PX
"""Least height and width of a graph: at two patches the head's coarsest map has a side of one, for
which PyTorch would write another graph."""

_EXAMPLE = (2, 3, 4 * PATCH_PX, 5 * PATCH_PX)
"""Shape from which all others are generalised: no two sides the same, nor any of them 1."""


def traced(model: DepthAnything) -> "ExportedProgram":
    """Returns a program from `images` (B x 3 x H x W) to depth (B x H x W).

    B, H and W are free; H and W are multiples of 14 from `LEAST_SIDE_PX`. It holds no path and no
    line of the source it was traced from: the same model gives the same program.

    Args:
        model: On the CPU; left as it is. The program holds its weights, not copies.
    """
    from torch.export import Dim, export

    least = LEAST_SIDE_PX // PATCH_PX
    height, width = (PATCH_PX * Dim(side, min=least) for side in ("rows", "columns"))
    program = export(
        _traceable(model),
        (torch.zeros(_EXAMPLE),),
        dynamic_shapes={"images": {0: Dim("batch", min=1), 2: height, 3: width}},
    )
    for module in program.graph_module.modules():
        assert isinstance(module, torch.fx.GraphModule)
        for node in module.graph.nodes:
            for told in ("stack_trace", "nn_module_stack", "source_fn_stack", "from_node"):
                node.meta.pop(told, None)
    # Sizes come out of a set, whose order differs from process to process.
    limits = sorted(program.range_constraints.items(), key=lambda item: str(item[0]))
    program.range_constraints.clear()
    program.range_constraints.update(limits)
    return program


class _TraceableEncoder(Encoder):
    """Resizes positions by two matrix products, whose weights are computed from the grid's sides.

    `interpolate` would compute with the sizes of the image it was traced with, or, in ONNX, leave
    out DINOv2's offset. The numbers are the eager encoder's but for rounding, and bit for bit at
    the native size.
    """

    def _positions(self, rows: int, columns: int) -> Float[Tensor, "1 T C"]:
        side = self.config.native_px // PATCH_PX
        stored: Tensor = self.pos_embed.float()
        row, column = (torch.arange(size, dtype=torch.float32) for size in (rows, columns))
        num_rows, num_columns = row[-1] + 1, column[-1] + 1
        # Sizes as numbers of the graph, so that it does not depend on the one it is traced with.
        native = (num_rows == side) & (num_columns == side)
        offset = torch.where(native, 0.0, self.position_offset)
        antialias = self.config.antialias_positions
        over_rows = _resizing(row, side / (num_rows + offset), side, antialias=antialias)
        over_columns = _resizing(column, side / (num_columns + offset), side, antialias=antialias)
        resized = (over_rows @ stored[0, 1:].reshape(side, -1)).reshape(rows, side, -1)
        grid = (over_columns @ resized).reshape(1, rows * columns, -1)
        return torch.cat([stored[:, :1], grid], dim=1)


def _traceable(model: DepthAnything) -> DepthAnything:
    """Returns a model that shares the weights of another and can be traced."""
    with torch.device("meta"):
        twin = DepthAnything(model.config)
        twin.encoder = _TraceableEncoder(model.config.encoder, version=model.config.version)
    twin.encoder.position_offset = model.encoder.position_offset
    weights = {name: value.contiguous() for name, value in model.state_dict().items()}
    twin.load_state_dict(weights, assign=True)
    return twin.eval().requires_grad_(False)


def _resizing(
    index: Float[Tensor, " L"], step: Float[Tensor, ""], side: int, *, antialias: bool
) -> Float[Tensor, "L S"]:
    """Weights of PyTorch's bicubic `interpolate` along one axis, corners not aligned.

    Keys 1981 (doi:10.1109/TASSP.1981.1163711): four taps with a = -0.75, those outside of the axis
    repeating its ends; with antialiasing a = -0.5, a kernel as wide as `step` if that is above 1,
    and weights outside left out.

    Args:
        index: 0, 1 ... of the resized axis.
        step: Stored patches per resized one.
        side: Length of the stored axis.
        antialias: As `interpolate` takes it.
    """
    stored = torch.arange(side, dtype=torch.float32)
    centre = (index + 0.5) * step - 0.5
    if antialias:
        weights = _cubic((stored - centre[:, None]) / step.clamp(min=1), -0.5)
        return weights / weights.sum(dim=1, keepdim=True)
    first = centre.floor()
    weights = torch.zeros(1, side)
    for tap in (-1, 0, 1, 2):
        at = first + tap
        weight = _cubic(centre - at, -0.75)[:, None]
        weights = weights + torch.where(at.clamp(0, side - 1)[:, None] == stored, weight, 0.0)
    return weights


def _cubic(distance: Tensor, a: float) -> Tensor:
    x = distance.abs()
    near = ((a + 2) * x - (a + 3)) * x * x + 1
    far = ((a * x - 5 * a) * x + 8 * a) * x - 4 * a
    return torch.where(x <= 1, near, torch.where(x < 2, far, 0.0))
