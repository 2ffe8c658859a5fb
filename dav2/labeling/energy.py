"""Reads how much energy a GPU has taken."""

import torch


class EnergyMeter:
    """The counter of one GPU; silent where there is no GPU, no NVML or no such counter."""

    def __init__(self, device: torch.device) -> None:
        """Finds the GPU by its identity, as CUDA and NVML may number GPUs differently.

        Args:
            device: Where the teacher runs.
        """
        self._handle = None
        if device.type != "cuda":
            return
        try:
            import pynvml
        except ImportError:
            return
        self._nvml = pynvml
        try:
            pynvml.nvmlInit()
            identity = torch.cuda.get_device_properties(device).uuid
            self._handle = pynvml.nvmlDeviceGetHandleByUUID(f"GPU-{identity}")
        except pynvml.NVMLError:
            self._handle = None

    def read_j(self) -> float | None:
        """Returns the joules taken since the driver was loaded; None where nobody counts."""
        if self._handle is None:
            return None
        try:
            return float(self._nvml.nvmlDeviceGetTotalEnergyConsumption(self._handle)) / 1e3
        except self._nvml.NVMLError:
            return None
