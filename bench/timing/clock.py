"""Clocks: how one call is timed, in seconds."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Literal

import torch

ClockName = Literal["wall", "device"]
Call = Callable[[], object]


def clocks(device: torch.device) -> tuple[ClockName, ...]:
    """Return the clocks that `device` offers: `wall` everywhere, `device` on a GPU."""
    return ("wall", "device") if device.type == "cuda" else ("wall",)


def timed(call: Call, clock: ClockName, device: torch.device) -> float:
    """Return the seconds that one `call` takes on `clock`.

    `wall` is what the caller waits, from before the call until its result is there. `device` is the time between two
    events on the GPU's stream around the call, gaps in which the GPU waits for the host included.
    """
    return _device(call) if clock == "device" else _wall(call, device)


def _wall(call: Call, device: torch.device) -> float:
    synchronise(device)
    start = time.perf_counter()
    call()
    synchronise(device)
    return time.perf_counter() - start


def _device(call: Call) -> float:
    start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    torch.cuda.synchronize()
    start.record()
    call()
    end.record()
    end.synchronize()
    return float(start.elapsed_time(end)) / 1e3


def synchronise(device: torch.device) -> None:
    """Wait until the GPU has done what was asked of it; a CPU has, always."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
