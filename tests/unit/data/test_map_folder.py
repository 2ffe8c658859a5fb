"""Maps of other programs, found by the path of their image."""

import numpy as np
import pytest
from PIL import Image

from dav2.data.map_folder import read_map

SIZE = (3, 5)
VALUES = np.arange(15, dtype=np.float32).reshape(SIZE)


@pytest.mark.parametrize("suffix", ["npy", "npz", "png"])
def test_a_map_in_any_format_is_divided_by_its_unit(tmp_path, suffix):
    path = tmp_path / "street" / f"a.b.{suffix}"
    path.parent.mkdir()
    if suffix == "npy":
        np.save(path, (1000 * VALUES).astype(np.int32))
    elif suffix == "npz":
        np.savez(path, 1000 * VALUES)
    else:
        Image.fromarray((1000 * VALUES).astype(np.uint16)).save(path)
    found = read_map(tmp_path, "street/a.b.jpg", size=SIZE, values_per_unit=1000.0)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, VALUES)


def test_a_missing_second_wrong_or_infinite_map_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"a: expected a map \(\.npy, \.npz, \.png\)"):
        read_map(tmp_path, "a.jpg", size=SIZE)
    np.save(tmp_path / "a.npy", VALUES)
    with pytest.raises(ValueError, match=r"a\.npy: expected 5 x 3"):
        read_map(tmp_path, "a.jpg", size=(5, 3))
    np.savez(tmp_path / "a.npz", VALUES)
    with pytest.raises(ValueError, match=r"expected one map, got a\.npy, a\.npz"):
        read_map(tmp_path, "a.jpg", size=SIZE)
    np.save(tmp_path / "b.npy", np.where(VALUES == 3, np.inf, VALUES))
    with pytest.raises(ValueError, match="expected finite values"):
        read_map(tmp_path, "b.jpg", size=SIZE)
