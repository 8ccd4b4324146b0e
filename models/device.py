"""Which device a model runs on, and what it is called."""

from __future__ import annotations

import platform
from pathlib import Path

import torch

from models.config import check_choice
from models.errors import ModelError

DEVICES = ("auto", "cpu", "cuda")


class DeviceError(ModelError):
    """A device that is not there."""


def pick_device(name: str) -> torch.device:
    """Return the device named `auto` (a GPU where there is one), `cpu` or `cuda`.

    Raises `ConfigError` for another name, and `DeviceError` for `cuda` where there is none.
    """
    check_choice("device", name, DEVICES)
    available = torch.cuda.is_available()
    if name == "cuda" and not available:
        raise DeviceError("device cuda is not available here; choose --device cpu, or install a CUDA driver")
    return torch.device("cuda" if available and name != "cpu" else "cpu")


def device_name(device: torch.device) -> str:
    """Return the name that the device's maker gave it."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.processor() or platform.machine()
