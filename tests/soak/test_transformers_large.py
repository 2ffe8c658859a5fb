"""The larger models against Transformers' implementation; the giant needs 16 GB of memory."""

import pytest

from dav2.models.depth_anything import ModelConfig
from tests.fixtures.transformers import relative_error


@pytest.mark.soak
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("side", [(140, 196), (518, 518)])
@pytest.mark.parametrize("encoder", ["vitb", "vitl", "vitg"])
def test_larger_models_agree(tmp_path, encoder, side):
    height, width = side
    assert relative_error(ModelConfig(encoder), tmp_path / "m", height=height, width=width) < 1e-5
