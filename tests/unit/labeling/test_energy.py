"""The energy of a GPU is read through NVML where it can be, else it is unknown."""

import sys
from types import SimpleNamespace

import pytest
import torch

from dav2.labeling.energy import EnergyMeter


class NVMLError(Exception):
    pass


@pytest.fixture
def nvml(monkeypatch):
    """NVML with one GPU that has taken 5000 mJ."""
    made = SimpleNamespace(
        NVMLError=NVMLError,
        nvmlInit=lambda: None,
        nvmlDeviceGetHandleByUUID=lambda identity: identity,
        nvmlDeviceGetTotalEnergyConsumption=lambda handle: {"GPU-abc": 5000}[handle],
    )
    monkeypatch.setitem(sys.modules, "pynvml", made)
    properties = SimpleNamespace(uuid="abc")
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: properties)
    return made


def refuse(*arguments):
    raise NVMLError("not supported")


def test_joules_are_thousandths_of_what_nvml_counts(nvml):
    assert EnergyMeter(torch.device("cuda")).read_j() == 5.0


@pytest.mark.parametrize(
    "name", ["nvmlInit", "nvmlDeviceGetHandleByUUID", "nvmlDeviceGetTotalEnergyConsumption"]
)
def test_a_gpu_that_does_not_count_is_unknown(nvml, name):
    setattr(nvml, name, refuse)
    assert EnergyMeter(torch.device("cuda")).read_j() is None


def test_without_nvml_or_without_a_gpu_it_is_unknown(nvml, monkeypatch):
    assert EnergyMeter(torch.device("cpu")).read_j() is None
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert EnergyMeter(torch.device("cuda")).read_j() is None
