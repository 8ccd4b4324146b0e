"""A profiling pass of a form, written as a trace that TensorBoard's profiler plugin and Perfetto open.

The pass is its own and no time of it counts. Letters: N rows, D input width.
"""

from __future__ import annotations

import os
import socket
import time
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor
from torch.profiler import ProfilerActivity, profile, record_function, schedule

from bench.breakdown import Breakdown, Operator, breakdown
from bench.clock import synchronise
from bench.errors import BenchError
from bench.forms import Form, Runner
from bench.stages import CALL, named_stages
from models.heads import Head

WAIT, WARMUP = 1, 3


@dataclass(frozen=True)
class Profile:
    """A form's trace and what it shows; `nodes` are those of an engine with a profile of its own, longest first."""

    trace: Path
    breakdown: Breakdown
    nodes: tuple[Operator, ...] = ()


def profile_form(form: Form, head: Head, x: Tensor, out_dir: Path, *, name: str, steps: int = 10) -> Profile:
    """Profile `steps` calls of `form` on x (N, D), on x's device, into a trace in `out_dir / name`.

    Raises `BenchError` when the form cannot run the head there or the profiler sees nothing of the device.
    """
    if steps < 1:
        raise BenchError(f"a profile needs at least one step, not {steps}")
    if reason := form.unavailable(head.config, x.device, x.dtype):
        raise BenchError(f"form {form.name} cannot run here: {reason}")
    path = write_trace(form.prepare(head, x), x, out_dir / name, steps)
    seen = breakdown(path)
    if x.is_cuda and len(x) and not any(operator.where == "gpu" for operator in seen.operators):
        raise BenchError(
            f"the profiler saw no kernel of form {form.name} on {x.device}; stop other profilers and retry"
        )
    return Profile(path, seen, form.nodes(head, x, steps) if form.nodes else ())


def write_trace(runner: Runner, x: Tensor, folder: Path, steps: int) -> Path:
    """Write a trace of `steps` calls of `runner` on x (N, D) into `folder`, a run of TensorBoard's log directory.

    Every call is a step of the profiler and a range named `CALL`, which ends when the device has finished.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{socket.gethostname()}_{os.getpid()}.{time.time_ns()}.pt.trace.json.gz"
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if x.is_cuda else [])]
    with (
        named_stages(),
        profile(
            activities=activities,
            schedule=schedule(wait=WAIT, warmup=WARMUP, active=steps, repeat=1),
            on_trace_ready=lambda profiler: profiler.export_chrome_trace(str(path)),
            acc_events=True,  # one cycle only; torch 2.11 warns where it is not said what becomes of the events
        ) as profiler,
    ):
        for _ in range(WAIT + WARMUP + steps):
            with record_function(CALL):
                runner(x)
                synchronise(x.device)
            profiler.step()
    return path
