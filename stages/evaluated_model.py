"""A model to evaluate: ours, the authors', or one of Transformers."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from stages.evaluation_params import Domain, EvaluateParams

if TYPE_CHECKING:
    import torch

    from dav2.data.preparation import Preparation
    from dav2.models.depth_anything import DepthAnything

_PUBLISHED_DOMAINS: dict[float, Domain] = {20.0: "indoor", 80.0: "outdoor"}
"""Of the authors' metric models, by the metres at which they saturate."""


@dataclass(frozen=True, slots=True)
class EvaluatedModel:
    """A model and what is known of its training."""

    network: "DepthAnything"
    domain: Domain | None
    """Of a metric model; None for a relative one."""
    trained_px: int
    """Short side of the images it was trained on."""
    preparation: "Preparation"
    """How those were resized."""

    def prepare(self, params: EvaluateParams) -> "torch.dtype | None":
        """Brings the model to its device, sets threads, and returns the precision of autocast.

        Raises:
            ValueError: If there is no such device.
        """
        import torch

        from dav2.models.device import chosen_device

        torch.set_num_threads(params.num_threads)
        device = chosen_device(params.device, where="evaluate.device")
        self.network.to(device)
        half = params.dtype == "bfloat16" or (params.dtype == "auto" and device == "cuda")
        return torch.bfloat16 if half else None


def load_evaluated(checkpoint: Path) -> EvaluatedModel:
    """Reads a model.

    Args:
        checkpoint: What this project wrote, a `.pth` of the authors, or a folder of Transformers.

    Raises:
        FileNotFoundError: If there is nothing at `checkpoint`.
        ValueError: If it is no model, or a metric one whose domain is not known.
    """
    from dav2.models.checkpoints import load as load_model

    network, metadata = load_model(checkpoint)
    trained_px = int(metadata.get("short_side_px", network.encoder.config.native_px))
    return EvaluatedModel(
        network,
        _metric_domain(network, metadata, checkpoint),
        trained_px,
        # What we trained carries metadata, and saw antialiased images.
        "antialiased" if metadata else "authors",
    )


def _metric_domain(
    model: "DepthAnything", metadata: dict[str, Any], checkpoint: Path
) -> Domain | None:
    """Returns the domain of a metric model, None for a relative one."""
    max_depth_m = model.config.max_depth_m
    if max_depth_m is None:
        return None
    named = metadata.get("domain") if metadata else _PUBLISHED_DOMAINS.get(max_depth_m)
    for domain in get_args(Domain):
        if named == domain:
            return domain  # type: ignore[no-any-return]
    raise ValueError(
        f"{checkpoint}: expected the domain of a metric model to be one of "
        f"{', '.join(get_args(Domain))}, got {named!r}"
    )
