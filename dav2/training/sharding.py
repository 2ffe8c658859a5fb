"""Weights of which each rank holds a share (FSDP2), and the same weights whole.

Every function here that gathers is called by all ranks, or it waits for ever.
"""

import copy
from collections.abc import Mapping
from typing import Any, TypeVar

from torch import Tensor
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import fully_shard, register_fsdp_forward_method
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.optim import Optimizer

from dav2.models.depth_anything import DepthAnything
from dav2.models.masked_image_model import MaskedImageModel

ModelT = TypeVar("ModelT", DepthAnything, MaskedImageModel)


def shard(model: DepthAnything | MaskedImageModel, mesh: DeviceMesh) -> None:
    """Leaves each rank its share of a model's weights, rows of each tensor.

    The encoder's blocks and the head are each gathered for as long as they compute, the rest of the
    encoder for the whole of a step. Names of weights stay.

    Args:
        model: Whole, the same on all ranks; changed.
        mesh: Of one axis, all ranks.
    """
    for weight in model.parameters():
        weight.data = weight.data.contiguous()  # the head's are not, and rows of such are refused
    for part in (*model.encoder.blocks, model.head):
        fully_shard(part, mesh=mesh)
    fully_shard(model, mesh=mesh)
    if isinstance(model, DepthAnything):
        register_fsdp_forward_method(model, "forward_with_features")


def whole(value: Tensor) -> Tensor:
    """Returns a tensor of which ranks may hold shares, or sums to add up, whole."""
    return value.full_tensor() if isinstance(value, DTensor) else value


def whole_model(sharded: ModelT, shell: ModelT) -> ModelT:
    """Returns a copy of a sharded model that every rank can run alone, on the ranks' device.

    Args:
        sharded: From `shard`.
        shell: The same model as it was before, on the meta device.
    """
    copied = copy.deepcopy(shell)
    weights = {name: whole(weight) for name, weight in sharded.state_dict().items()}
    copied.load_state_dict(weights, assign=True)
    return copied


def whole_state(state: Mapping[Any, Any], *, is_kept: bool) -> dict[Any, Any]:
    """Returns a nested state with what is sharded of it gathered, on the CPU; the rest as it is.

    Args:
        state: Of a module or of an optimiser.
        is_kept: Whether this rank wants it; others get None for what was sharded.
    """
    found: dict[Any, Any] = {}
    for name, value in state.items():
        match value:
            case DTensor():
                gathered = whole(value)  # one at a time: together they may not fit
                found[name] = gathered.cpu() if is_kept else None
            case Mapping():
                found[name] = whole_state(value, is_kept=is_kept)
            case _:
                found[name] = value
    return found


def share_of_state(state: Mapping[str, Any], optimiser: Optimizer) -> dict[str, Any]:
    """Returns the whole state of an optimiser as one of sharded weights loads it; undoes the above.

    Nothing is exchanged: each rank has the whole state and takes its share.

    Args:
        state: As `Optimizer.state_dict` gives it.
        optimiser: Of the weights; where they are not sharded, the state stays as it is.
    """
    weights = [weight for group in optimiser.param_groups for weight in group["params"]]
    shares = {
        index: {name: _share(value, weights[index]) for name, value in entry.items()}
        for index, entry in state["state"].items()
    }
    return {**state, "state": shares}


def _share(value: Any, weight: Tensor) -> Any:
    """Returns a rank's share of what belongs to a weight; the count of steps is everyone's."""
    if not isinstance(weight, DTensor) or value.shape != weight.shape:
        return value
    return distribute_tensor(
        value.to(weight.device), weight.device_mesh, weight.placements, src_data_rank=None
    )
