"""Chooses the device that a model runs on."""

import torch


def chosen_device(asked: str, *, where: str) -> str:
    """Returns torch's word for the device that is asked for, once this machine has it.

    Args:
        asked: `cpu`, `cuda`, `mps`, or `auto`: a CUDA device where there is one.
        where: Parameter or option that asks, for the message.

    Raises:
        ValueError: If there is no such device on this machine.
    """
    has_cuda = torch.cuda.is_available()
    if asked == "cuda" and not has_cuda:
        raise ValueError(f"{where}: expected a CUDA device, got none on this machine")
    if asked == "mps" and not torch.backends.mps.is_available():
        raise ValueError(f"{where}: expected an Apple GPU, got none on this machine")
    if asked == "auto":
        return "cuda" if has_cuda else "cpu"
    return asked
