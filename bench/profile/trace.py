"""A profiling pass of a form, written as a trace that TensorBoard's profiler plugin and Perfetto open.

No time of such a pass counts as measured. Letters: N rows, D input width.
"""

from __future__ import annotations

import gzip
import json
import os
import socket
import time
import warnings
from pathlib import Path

from torch import Tensor
from torch.profiler import ProfilerActivity, profile, record_function, schedule

from bench.errors import BenchError
from bench.execution.stages import CALL, named_stages
from bench.forms import Form, Runner
from bench.profile.breakdown import breakdown
from bench.timing.clock import synchronise
from bench.timing.graphs import captured, waits_for_device
from models.heads.heads import Head
from reports.records.files import make_folder, write
from reports.records.profile import Profile

WAIT, WARMUP = 1, 3
STEPS = 10


def profile_form(
    form: Form, head: Head, x: Tensor, out_dir: Path, *, name: str, steps: int = STEPS, graph: bool = False
) -> Profile:
    """Profile `steps` calls of `form` on x (N, D), on x's device, into traces in `out_dir / name`.

    The traces are torch's and, if the engine has its own profiler, the engine's. On a CPU the engine's nodes are the
    operators of the profile; on a GPU they are its `nodes`, in the host's time. With `graph` the calls are replays of a
    CUDA graph of the form. Raises `BenchError` if the form cannot run the head there, no graph can hold it, or the
    profiler sees nothing of the device.
    """
    if steps < 1:
        raise BenchError(f"a profile needs at least one step, not {steps}")
    if reason := form.unavailable(head.config, x.device, x.dtype):
        raise BenchError(f"form {form.name} cannot run here: {reason}")
    from torch._inductor import config

    with config.patch({"cpp.enable_kernel_profile": True}):  # so a trace has its kernels for a CPU
        runner = form.prepare(head, x)
    trace = write_trace(_replayed(form, runner, x) if graph else runner, x, out_dir / name, steps)
    engine = None if graph else write_engine_trace(form, head, x, out_dir / name, steps)
    means = breakdown(trace if engine is None or x.is_cuda else engine)
    if x.is_cuda and len(x) and not any(operator.where == "gpu" for operator in means.operators):
        raise BenchError(
            f"the profiler saw no kernel of form {form.name} on {x.device}; stop other profilers and retry"
        )
    return Profile(
        form=form.name,
        rows=len(x),
        graph=graph,
        nodes=breakdown(engine).operators if engine is not None and x.is_cuda else (),
        traces=tuple(str(path.relative_to(out_dir)) for path in (trace, engine) if path is not None),
        **{field: getattr(means, field) for field in Profile.model_fields if hasattr(means, field)},
    )


def _replayed(form: Form, runner: Runner, x: Tensor) -> Runner:
    """Return a runner that replays a CUDA graph of a form on x (N, D); raises `BenchError` if none can hold it."""
    if not x.is_cuda:
        raise BenchError("a CPU has no graph to replay")
    if not form.memory_seen:
        raise BenchError(f"no graph of torch can hold form {form.name}, which runs in another engine")
    if waits_for_device(lambda: runner(x)):
        raise BenchError(f"no graph can hold form {form.name}: its call waits for the device")
    graph = captured(lambda: runner(x))

    def replay(x: Tensor) -> Tensor:
        graph.replay()
        return x

    return Runner(replay, runner.runs_on)


def write_trace(runner: Runner, x: Tensor, folder: Path, steps: int) -> Path:
    """Write a trace of `steps` calls of `runner` on x (N, D) into `folder`, a run of TensorBoard's log directory.

    Every call is a step of the profiler and a range named `CALL`, which ends when the device has finished.
    """
    path = make_folder(folder) / f"{_worker()}.pt.trace.json.gz"
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if x.is_cuda else [])]
    profiled = profile(
        activities=activities,
        schedule=schedule(wait=WAIT, warmup=WARMUP, active=steps, repeat=1),
        on_trace_ready=lambda profiler: profiler.export_chrome_trace(str(path)),
    )
    with warnings.catch_warnings(), named_stages():
        warnings.filterwarnings("ignore", ".*Profiler clears events")  # torch 2.11, though there is only one cycle
        with profiled as profiler:
            for _ in range(WAIT + WARMUP + steps):
                with record_function(CALL):
                    runner(x)
                    synchronise(x.device)
                profiler.step()
    return path


def write_engine_trace(form: Form, head: Head, x: Tensor, folder: Path, steps: int) -> Path | None:
    """Write the own profile of the form's engine on `steps` calls of x (N, D) beside torch's trace in `folder`.

    TensorBoard's plugin ignores a file of this name; Perfetto opens it. Returns None and writes nothing if the form has
    no such engine or the engine ran nothing.
    """
    events = form.events(head, x, steps) if form.events else []
    if not events:
        return None
    path = make_folder(folder) / f"{_worker()}.{form.name}.trace.json.gz"
    process = {"ph": "M", "name": "process_name", "pid": events[0]["pid"], "args": {"name": form.name}}
    content = {"schemaVersion": 1, "displayTimeUnit": "ms", "traceEvents": [process, *events]}
    write(path, gzip.compress(json.dumps(content).encode()))
    return path


def _worker() -> str:
    """Return this process and now, as torch's own handler names a trace."""
    return f"{socket.gethostname()}_{os.getpid()}.{time.time_ns()}"
