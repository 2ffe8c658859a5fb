"""Maps that another program wrote, found by the path of their image.

Axes: H height, W width (pixels of the upright image).
"""

from pathlib import Path, PurePosixPath

import numpy as np
from jaxtyping import Float32

from dav2.data.arrays import decode_npy, decode_npz
from dav2.data.png16 import decode_png16

SUFFIXES = (".npy", ".npz", ".png")


def read_map(
    folder: Path, image: str, *, size: tuple[int, int], values_per_unit: float = 1.0
) -> Float32[np.ndarray, "H W"]:
    """Returns the map of an image: `<folder>/<image without suffix>.npy`, `.npz` or `.png`.

    An array is float or integer (of an `.npz` the only one), a PNG is 16-bit greyscale.

    Args:
        folder: Of one model's maps.
        image: POSIX path of the image, below that of all images.
        size: Height and width of the image.
        values_per_unit: Stored values are divided by it: 1000 where they are millimetres.

    Raises:
        FileNotFoundError: If there is no map.
        ValueError: If there are several, or it is of another size or kind, or not finite.
    """
    stem = folder / PurePosixPath(image).with_suffix("")
    found = [path for suffix in SUFFIXES if (path := Path(f"{stem}{suffix}")).is_file()]
    if not found:
        raise FileNotFoundError(f"{stem}: expected a map ({', '.join(SUFFIXES)}), got none")
    if len(found) > 1:
        names = ", ".join(path.name for path in found)
        raise ValueError(f"{stem}: expected one map, got {names}")
    (path,) = found
    data = path.read_bytes()
    if path.suffix == ".npy":
        stored = decode_npy(data, size=size, kinds="fiu", where=str(path))
    elif path.suffix == ".npz":
        stored = decode_npz(data, size=size, kinds="fiu", where=str(path))
    else:
        stored = decode_png16(data, size=size, where=str(path))
    values: Float32[np.ndarray, "H W"] = (stored / values_per_unit).astype(np.float32)
    if not np.isfinite(values).all():
        raise ValueError(f"{path}: expected finite values, got others")
    return values
