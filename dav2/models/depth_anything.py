"""Depth Anything V2: an encoder and a head.

Axes: B batch, H height, W width (pixels).
"""

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor, nn

from dav2.models.dpt import DPTHead, head_config
from dav2.models.encoder import PATCH_PX, EncoderName, Version
from dav2.models.encoder_families import AnyEncoder, build_encoder


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """All that decides a model's architecture.

    Raises:
        ValueError: `max_depth_m` is not positive.
    """

    encoder: EncoderName
    max_depth_m: float | None = None
    """Metres at which a metric model saturates; None makes the model relative."""
    version: Version = 2
    """Of Depth Anything, which decides the blocks that the head reads."""

    def __post_init__(self) -> None:
        if self.max_depth_m is not None and not 0 < self.max_depth_m < float("inf"):
            raise ValueError(
                f"ModelConfig: expected max_depth_m above 0 and finite, got {self.max_depth_m}"
            )


class DepthAnything(nn.Module):
    """Predicts depth from one image (Yang et al. 2024, arXiv:2406.09414).

    The authors' weights map onto ours by prefix: their `pretrained.` is `encoder.` here, their
    `depth_head.` is `head.`; in the giant model `mlp.w12` is `mlp.fc1` and `mlp.w3` is `mlp.fc2`.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder: AnyEncoder = build_encoder(config.encoder, version=config.version)
        self.head = DPTHead(
            self.encoder.config.width,
            head_config(config.encoder),
            max_depth_m=config.max_depth_m,
        )

    def forward(self, images: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B H W"]:
        """Returns a depth map for each image.

        Args:
            images: Normalised colours (`dav2.data.transforms.normalise`), sides multiples of 14.

        Returns:
            float32: relative depth (inverse depth up to scale and shift: higher is closer, not
            negative), or metres where the model is metric.

        Raises:
            ValueError: A side is not a multiple of 14.
        """
        return self.forward_with_features(images)[0]

    def forward_with_features(
        self, images: Float[Tensor, "B 3 H W"]
    ) -> tuple[Float[Tensor, "B H W"], Float[Tensor, "B N C"]]:
        """Returns what `forward` returns, and the encoder's final patch tokens.

        The tokens are the ones that feature alignment compares with a frozen encoder's.
        """
        features = self.encoder(images)
        height, width = images.shape[-2:]
        depth = self.head(features, (height // PATCH_PX, width // PATCH_PX))
        return depth, features[-1]
