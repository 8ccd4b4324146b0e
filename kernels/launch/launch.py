"""Starting a Triton kernel, or recording the launch instead, for inspection ahead of time."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Literal

import torch
import triton
from torch import Tensor

Stage = Literal["route", "dispatch", "experts", "combine", "fused"]
"""The part of the operation that a launch computes."""


@dataclass(frozen=True)
class Launch:
    """One kernel start: its part, the Triton function, its grid, its arguments by name, and how it is compiled."""

    stage: Stage
    kernel: Any
    grid: tuple[int, ...]
    arguments: dict[str, Any]
    warps: int
    stages: int


_records: ContextVar[list[Launch] | None] = ContextVar("records", default=None)
_name_stage: Callable[[str], AbstractContextManager[object]] = nullcontext


@contextmanager
def recording() -> Iterator[list[Launch]]:
    """Collect the launches made inside in the list given and run none; tensors may be on the meta device."""
    records: list[Launch] = []
    token = _records.set(records)
    try:
        yield records
    finally:
        _records.reset(token)


def name_stages(name_stage: Callable[[str], AbstractContextManager[object]]) -> None:
    """Run every later launch inside `name_stage(stage)`, so that a profiler shows the stages by name."""
    global _name_stage
    _name_stage = name_stage


def launch(
    stage: Stage,
    kernel: Any,
    grid: tuple[int, ...],
    arguments: dict[str, Any],
    *,
    warps: int = 4,
    stages: int = 1,
) -> None:
    """Run `kernel` on the device of its tensors, or record it inside `recording`.

    Multiply and add are fused: Triton 3.10 stops doing so by default, which halves fp32 products.
    """
    records = _records.get()
    if records is not None:
        records.append(Launch(stage, kernel, grid, arguments, warps, stages))
        return
    tensor = next(value for value in arguments.values() if isinstance(value, Tensor))
    index = tensor.get_device()  # -1 is the CPU
    elsewhere = index >= 0 and index != torch.cuda.current_device()
    with _name_stage(stage), torch.cuda.device(index) if elsewhere else nullcontext():
        kernel[grid](**arguments, num_warps=warps, num_stages=stages, enable_fp_fusion=True)


def runs_anywhere() -> bool:
    """Return whether launches need no GPU now: they are recorded, or interpreted."""
    return _records.get() is not None or bool(triton.knobs.runtime.interpret)


def require_device(**tensors: Tensor) -> None:
    """Raise ValueError unless all `tensors` share one device on which a kernel can run now."""
    devices = {tensor.device for tensor in tensors.values()}
    if len(devices) > 1:
        placed = ", ".join(f"{name} on {tensor.device}" for name, tensor in tensors.items())
        raise ValueError(f"all tensors must be on one device, but found {placed}")
    if not runs_anywhere() and devices.pop().type != "cuda":
        name, tensor = next(iter(tensors.items()))
        raise ValueError(
            f"{name} is on {tensor.device}: Triton needs CUDA tensors, or TRITON_INTERPRET=1 from the start"
        )
