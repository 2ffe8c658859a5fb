"""Which weights move at which rate."""

from dav2.models.depth_anything import DepthAnything
from dav2.models.encoder_families import AnyEncoder
from dav2.models.masked_image_model import MaskedImageModel


def parameter_groups(
    model: DepthAnything | MaskedImageModel,
    *,
    encoder_lr: float,
    decoder_lr: float,
    layer_decay: float,
) -> list[dict[str, object]]:
    """Returns groups for an optimiser: the encoder from its top down, then the head.

    Layer-wise rates as in BEiT (Bao et al. 2021, arXiv:2106.08254, section 3.2), but for where the
    count starts: here the top block keeps the encoder's rate, there it is the head.

    Args:
        model: Whose weights.
        encoder_lr: Of the final norm and the top block.
        decoder_lr: Of the head.
        layer_decay: Each block's rate is that of the block above times this; embeddings and tokens
            lie below the lowest block. 1 puts the whole encoder in one group.
    """
    head: dict[str, object] = {"params": list(model.head.parameters()), "lr": decoder_lr}
    if layer_decay == 1:
        return [{"params": list(model.encoder.parameters()), "lr": encoder_lr}, head]
    by_distance: dict[int, list[object]] = {}
    for name, parameter in model.encoder.named_parameters():
        by_distance.setdefault(_blocks_above(name, model.encoder), []).append(parameter)
    groups = [
        {"params": by_distance[distance], "lr": encoder_lr * layer_decay**distance}
        for distance in sorted(by_distance)
    ]
    return [*groups, head]


def _blocks_above(name: str, encoder: AnyEncoder) -> int:
    """Returns how many blocks separate a parameter from the top one."""
    first, *rest = name.split(".")
    if first == "norm":
        return 0
    depth: int = encoder.config.depth
    return depth - 1 - int(rest[0]) if first == "blocks" else depth
