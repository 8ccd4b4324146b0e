"""Start a Triton kernel, or record the launch instead, to compile it ahead of time."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Literal

import torch
import triton
from torch import Tensor

from kernels.launch.chain import next_place

Stage = Literal["route", "dispatch", "experts", "combine", "fused"]
"""The part of the operation that a launch computes."""


@dataclass(frozen=True)
class Launch:
    """One start of a kernel: its stage, Triton function, grid, arguments by name, warps and stages of its loop.

    Attributes:
        early: Whether it may start before the launch before it has ended (`kernels.launch.chain`).
    """

    stage: Stage
    kernel: Any
    grid: tuple[int, ...]
    arguments: dict[str, Any]
    warps: int
    stages: int
    early: bool = False


_recorder: ContextVar[Callable[[Launch], object] | None] = ContextVar("recorder", default=None)
_anywhere: ContextVar[bool] = ContextVar("anywhere", default=False)
_nothing = nullcontext()
_name_stage: Callable[[str], AbstractContextManager[object]] | None = None


@contextmanager
def noting(recorder: Callable[[Launch], object]) -> Iterator[None]:
    """Hand every launch made inside to `recorder`; none runs."""
    token = _recorder.set(recorder)
    try:
        yield
    finally:
        _recorder.reset(token)


@contextmanager
def recording() -> Iterator[list[Launch]]:
    """Yield a list that collects the launches made inside; none runs, so tensors may be on the meta device."""
    records: list[Launch] = []
    with anywhere(), noting(records.append):
        yield records


@contextmanager
def anywhere() -> Iterator[None]:
    """Let checks inside accept tensors on any device."""
    token = _anywhere.set(True)
    try:
        yield
    finally:
        _anywhere.reset(token)


def name_stages(name_stage: Callable[[str], AbstractContextManager[object]]) -> None:
    """Run every later launch inside `name_stage(stage)`, so that a profiler shows the stages by name."""
    global _name_stage
    _name_stage = name_stage


def launch(
    stage: Stage, kernel: Any, grid: tuple[int, ...], arguments: dict[str, Any], *, warps: int = 4, stages: int = 1
) -> None:
    """Run `kernel` on the device of its tensors, or hand it over inside `noting` or `recording`.

    A kernel with a parameter `chained` is part of the chain around it, if there is one.
    """
    early = False
    if "chained" in kernel.arg_names:
        place = next_place()
        arguments, early = {**arguments, "chained": place is not None}, bool(place)
    recorder = _recorder.get()
    if recorder is not None:
        recorder(Launch(stage, kernel, grid, arguments, warps, stages, early))
        return
    tensor = next(value for value in arguments.values() if isinstance(value, Tensor))
    with on_device(tensor.get_device()):
        starter(stage, kernel, grid, warps, stages, early)(*in_order(kernel, arguments))


def in_order(kernel: Any, arguments: dict[str, Any]) -> list[Any]:
    """Return the arguments of a kernel in the order of its parameters."""
    return [arguments[name] for name in kernel.arg_names]


def on_device(index: int) -> AbstractContextManager[object]:
    """Make the CUDA device `index` the current one inside; -1 is the CPU."""
    return _nothing if index < 0 or index == torch.cuda.current_device() else torch.cuda.device(index)


def starter(
    stage: Stage, kernel: Any, grid: tuple[int, ...], warps: int, stages: int, early: bool
) -> Callable[..., None]:
    """Return a function that runs `kernel` on the current device and takes its arguments in order.

    Multiply and add are fused on request: from Triton 3.10 on they are not by default, and fp32 products take twice
    the time.
    """
    options = {"num_warps": warps, "num_stages": stages, "enable_fp_fusion": True}
    if early:
        options["launch_pdl"] = True

    def start(*arguments: Any) -> None:
        with _nothing if _name_stage is None else _name_stage(stage):
            kernel[grid](*arguments, **options)

    return start


def is_noted() -> bool:
    """Return whether launches are handed over, and do not run."""
    return _recorder.get() is not None


def runs_anywhere() -> bool:
    """Return whether launches need no GPU, because they are recorded or interpreted."""
    return _anywhere.get() or bool(triton.knobs.runtime.interpret)


def require_device(**tensors: Tensor | None) -> None:
    """Raise ValueError unless all `tensors` that are not None share one device on which a kernel can run now."""
    devices = {name: tensor.device for name, tensor in tensors.items() if tensor is not None}
    if len(set(devices.values())) > 1:
        placed = ", ".join(f"{name} on {device}" for name, device in devices.items())
        raise ValueError(f"all tensors must be on one device, but found {placed}")
    name, device = next(iter(devices.items()))
    if not runs_anywhere() and device.type != "cuda":
        raise ValueError(f"{name} is on {device}: Triton needs CUDA tensors, or TRITON_INTERPRET=1 from the start")
