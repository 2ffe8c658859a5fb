"""Depth of photographs: `predict` from Python, `python -m dav2.predict` from the command line.

docs/predict.md explains both. The command line lives in `dav2.prediction`, which this module only
imports when it is run: what evaluation computes depends on `predict` alone. torch and numpy are
imported where they are used, so that `--help` answers at once.

Axes: H height, W width (pixels).
"""

import sys
from collections import defaultdict
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    import torch
    from jaxtyping import Float32, UInt8

    from dav2.data.preparation import Preparation
    from dav2.models.depth_anything import DepthAnything


def predict(
    model: "DepthAnything",
    images: "Sequence[UInt8[np.ndarray, '_H _W 3']]",
    *,
    short_side_px: int | None = None,
    size_px: tuple[int, int] | None = None,
    preparation: "Preparation" = "authors",
    align_corners: bool = True,
    batch_size: int = 8,
    dtype: "torch.dtype | None" = None,
) -> "list[Float32[np.ndarray, '_H _W']]":
    """Predicts a depth map for each image, on the model's device.

    As it stands it is the authors' `infer_image` for several images. They are resized so that the
    short side is `short_side_px` and both are multiples of 14; those of one size go through the
    model together; maps come back at the images' own resolution, bilinear with aligned corners.

    Args:
        model: On any device, in any precision (`dav2.models.inference.prepare` chooses the fastest
            one). Left in the mode (training or evaluation) it came in.
        images: Upright RGB of any sizes, 0 to 255, as `dav2.data.images.decode_image` returns them.
            All are held at once: pass as many as memory allows.
        short_side_px: Size at which the model sees an image; 2 or 4 times 518 gives the released
            weights finer edges (appendix of arXiv:2406.09414). None: the size of the encoder's
            positions, which is 518 for those.
        size_px: Height and width at which the model sees every image, multiples of 14, whatever
            its aspect; None: as `short_side_px` says.
        preparation: How images are resized: `antialiased` for models trained by this project.
        align_corners: As torch's, of the way back; False: centres of pixels are aligned.
        batch_size: Most images at once.
        dtype: Precision for autocast (`torch.bfloat16`); None computes as the weights are.

    Returns:
        Maps in the order of `images`, each of its image's height and width: relative depth (inverse
        depth up to scale and shift: higher is closer, no unit), or metres along the optical axis
        where `model.config.max_depth_m` is set.

    Raises:
        ValueError: `batch_size` or a side is below 1.
    """
    from dav2.data.preparation import prepared_size

    if short_side_px is None:
        short_side_px = model.encoder.config.native_px
    if batch_size < 1:
        raise ValueError(f"predict: expected batch_size >= 1, got {batch_size}")
    by_size = defaultdict(list)
    for index, image in enumerate(images):
        height, width = image.shape[:2]
        size = size_px or prepared_size(
            height, width, short_side_px=short_side_px, preparation=preparation
        )
        by_size[size].append(index)
    maps: dict[int, Float32[np.ndarray, "_H _W"]] = {}
    was_training = model.training
    model.eval()
    try:
        for size, indices in by_size.items():
            for start in range(0, len(indices), batch_size):
                batch = indices[start : start + batch_size]
                chosen = [images[index] for index in batch]
                found = _predict_batch(model, chosen, size, preparation, align_corners, dtype)
                maps.update(zip(batch, found, strict=True))
    finally:
        model.train(was_training)
    return [maps[index] for index in range(len(images))]


def _predict_batch(
    model: "DepthAnything",
    images: "Sequence[UInt8[np.ndarray, '_H _W 3']]",
    size: tuple[int, int],
    preparation: "Preparation",
    align_corners: bool,
    dtype: "torch.dtype | None",
) -> "list[Float32[np.ndarray, '_H _W']]":
    import numpy as np
    import torch
    import torch.nn.functional as F

    from dav2.data.preparation import prepared_image
    from dav2.data.transforms import normalise

    weights = next(model.parameters())
    resized = np.stack([prepared_image(image, size, preparation=preparation) for image in images])
    with torch.inference_mode():
        inputs = normalise(torch.from_numpy(resized).to(weights.device)).to(weights.dtype)
        with torch.autocast(weights.device.type, dtype, enabled=dtype is not None):
            maps = model(inputs)[:, None, None]
        own = [
            F.interpolate(depth, size=image.shape[:2], mode="bilinear", align_corners=align_corners)
            for depth, image in zip(maps, images, strict=True)
        ]
        return [depth[0, 0].float().cpu().numpy() for depth in own]


if __name__ == "__main__":
    from dav2.prediction.command import main

    sys.exit(main(sys.argv[1:]))
