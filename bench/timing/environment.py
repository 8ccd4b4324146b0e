"""What a measurement runs on: machine, device, versions, commit, load, clock and power."""

from __future__ import annotations

import os
import platform
import subprocess
from contextlib import suppress
from datetime import UTC, datetime
from functools import cache
from importlib import metadata
from typing import Any

import psutil
import torch

from bench.rooms import ROOT
from bench.timing.gpu_watch import GpuWatch
from models.device import device_name

LIBRARIES = ("torch", "triton", "onnxruntime-gpu", "onnxruntime", "numpy", "pytest-benchmark", "moegap")


def snapshot(device: torch.device) -> dict[str, Any]:
    """Return the present environment as fields of a `CaseRecord`."""
    return {
        "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "device_name": device_name(device),
        "cpu": device_name(torch.device("cpu")),
        "threads": torch.get_num_threads(),
        "thread_wait": os.environ.get("OMP_WAIT_POLICY", ""),
        "load_1m": os.getloadavg()[0],
        "versions": versions(),
        **commit(),
        **GpuWatch(device).state(),
    }


@cache
def versions() -> dict[str, str]:
    """Return the versions of Python and of the libraries that are timed."""
    installed = {"python": platform.python_version()}
    for library in LIBRARIES:
        with suppress(metadata.PackageNotFoundError):
            installed[library] = metadata.version(library)
    return installed


@cache
def commit() -> dict[str, Any]:
    """Return the checkout's commit and whether it has uncommitted changes; empty outside a checkout."""
    try:
        return {"commit": _git("rev-parse", "HEAD"), "dirty": bool(_git("status", "--porcelain"))}
    except (OSError, subprocess.CalledProcessError):
        return {"commit": "", "dirty": None}


def _git(*arguments: str) -> str:
    command = ["git", "-C", str(ROOT), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()  # noqa: S603 - all fixed


def available_memory(device: torch.device) -> int:
    """Return the bytes that an allocation on `device` may still take."""
    if device.type == "cuda":
        cached = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return torch.cuda.mem_get_info(device)[0] + cached
    return int(psutil.virtual_memory().available)
