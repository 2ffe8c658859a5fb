"""Batches that every loss on maps must bear."""

import pytest


@pytest.fixture(params=["invalid", "constant pred", "constant target", "one pixel"])
def spoilt_batch(batch, request):
    """The `batch` of a module with an image, its second, that tells nothing."""
    pred, target, valid = (tensor.clone() for tensor in batch)
    match request.param:
        case "invalid":
            valid[1] = False
        case "constant pred":
            pred[1] = 0.4
        case "constant target":
            target[1] = 0.4
        case "one pixel":
            valid[1] = False
            valid[1, 2, 3] = True
    return pred, target, valid
