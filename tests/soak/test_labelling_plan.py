"""The formula for the work of an image, against PyTorch's count in our own models."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from dav2.models.depth_anything import DepthAnything, ModelConfig
from stages.labelling_plan import gigaflop

pytestmark = pytest.mark.soak


@pytest.mark.parametrize("encoder", ["vits", "vitb"])
def test_the_work_of_an_image_is_what_pytorch_counts_in_our_model(encoder):
    model = DepthAnything(ModelConfig(encoder, None)).eval()
    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        model(torch.zeros(1, 3, 126, 168))
    assert gigaflop(encoder, 126, 168) == pytest.approx(counter.get_total_flops() / 1e9, rel=0.02)
