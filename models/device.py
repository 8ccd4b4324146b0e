"""The device that a model runs on, and its name."""

from __future__ import annotations

import platform
from collections.abc import Iterator
from pathlib import Path

import torch

from models.errors import ModelError
from models.settings import check_choice

DEVICES = ("auto", "cpu", "cuda")


class DeviceError(ModelError):
    """A device that is not there."""


def pick_device(name: str) -> torch.device:
    """Return the device named `auto` (a GPU if there is one), `cpu` or `cuda`.

    Raises `ConfigError` for another name, and `DeviceError` for `cuda` if there is none.
    """
    check_choice("device", name, DEVICES)
    available = torch.cuda.is_available()
    if name == "cuda" and not available:
        raise DeviceError("device cuda is not available here; choose --device cpu, or install a CUDA driver")
    return torch.device("cuda" if available and name != "cpu" else "cpu")


def multiplies_bfloat16() -> bool:
    """Return whether the CPU has instructions for products in bfloat16, which are slow without them."""
    return any({"avx512_bf16", "amx_bf16", "bf16"} & set(line.split()) for line in _cpu_info(("flags", "Features")))


def device_name(device: torch.device) -> str:
    """Return the name that the device's maker gave it."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return next(_cpu_info(("model name",)), "") or platform.processor() or platform.machine()


def _cpu_info(names: tuple[str, ...]) -> Iterator[str]:
    """Yield what Linux says about each core under any of `names`; nothing on other systems."""
    file = Path("/proc/cpuinfo")
    lines = file.read_text().splitlines() if file.exists() else []
    return (line.partition(":")[2].strip() for line in lines if line.startswith(names))
