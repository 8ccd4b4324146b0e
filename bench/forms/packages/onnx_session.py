"""Sessions of ONNX Runtime on a model from `x` (N, D) to `logits` (N, C), both bound to torch's own memory.

On a GPU a session works on a stream of torch's that waits for the caller's stream, and for which that one waits. So no
call waits for the device, and events around it see its kernels. This is tried with stand-ins only.

Letters: N rows, D input width, C output width.
"""

from __future__ import annotations

import json
import math
import tempfile
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import onnxruntime
import torch
from torch import Tensor

from bench.errors import BenchError
from bench.execution.form import Runner
from bench.forms.packages.onnx_graphs import ELEMENT_TYPES

PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}
GRAPH = "1"
"""The number of a session's CUDA graph; 0 is ONNX Runtime's own."""
SHAPE_VALUES = 8
"""The most values of a shape."""


def runner(model: bytes, example: Tensor, C: int, reused_s: float = 0.0, *, graph: bool = False) -> Runner:
    """Return the runner of a model, in a session for as many threads as torch has now.

    With `graph` it takes as many rows as the example alone, replays a CUDA graph of the session, and returns the same
    memory in each call.

    Raises:
        BenchError: Another provider runs the model, or a node of it that computes more than a shape.
    """
    provider = PROVIDERS[example.device.type]
    stream = None
    if example.device.type == "cuda":
        onnxruntime.preload_dlls()
        stream = torch.cuda.Stream(example.device)
    session = _session(model, provider, provider_options(example.device, stream, graph=graph))
    if session.get_providers()[0] != provider:
        raise BenchError(f"ONNX Runtime gave {session.get_providers()[0]} and {provider} was asked for")
    runs_on = {
        "device": str(example.device),
        "provider": provider,
        "library": f"onnxruntime {onnxruntime.__version__}",
        "options": f"{torch.get_num_threads()} threads, no spinning, no TF32{', a CUDA graph' if graph else ''}",
    }
    if len(session.get_providers()) > 1 and example.shape[0]:
        (call,) = profiled(model, provider, example, calls=1)
        runs_on["nodes"] = placement(call[1:], provider)
    run = _replayed(session, example, C, stream) if graph else _bound(session, C, stream)
    return Runner(run, runs_on, reused_s)


def provider_options(
    device: torch.device, stream: torch.cuda.Stream | None = None, *, graph: bool = False
) -> dict[str, str]:
    """Return the options of the device's provider, on a stream of torch's if there is one."""
    if device.type == "cpu":
        return {}
    options = {"device_id": str(device.index or 0), "use_tf32": "0"}
    if stream is None:
        return options
    return {**options, "user_compute_stream": str(stream.cuda_stream), "enable_cuda_graph": str(int(graph))}


def _bound(session: onnxruntime.InferenceSession, C: int, stream: torch.cuda.Stream | None) -> Callable[..., Tensor]:
    binding, options = session.io_binding(), _run_options(stream)

    def run(x: Tensor) -> Tensor:
        x = x.contiguous()
        out = torch.empty(x.shape[0], C, dtype=x.dtype, device=x.device)
        if x.shape[0] == 0:
            return out
        _bind(binding, x, out)
        if stream:
            stream.wait_stream(torch.cuda.current_stream(x.device))
        session.run_with_iobinding(binding, options)
        if stream:
            torch.cuda.current_stream(x.device).wait_stream(stream)
        return out

    return run


def _replayed(
    session: onnxruntime.InferenceSession, example: Tensor, C: int, stream: torch.cuda.Stream | None
) -> Callable[..., Tensor]:
    """Return the call that replays a CUDA graph, captured here; only a replay that works clears the NaN of its output.

    The graph holds addresses, so rows are copied to where it reads them, which belongs to the call.
    """
    assert stream is not None
    rows = example.clone(memory_format=torch.contiguous_format)
    out = torch.empty(rows.shape[0], C, dtype=rows.dtype, device=rows.device)
    binding, options = session.io_binding(), _run_options(stream, GRAPH)
    _bind(binding, rows, out)

    def run(x: Tensor) -> Tensor:
        if x.shape != rows.shape:
            raise BenchError(f"the CUDA graph is captured for {rows.shape[0]} rows, not {x.shape[0]}")
        rows.copy_(x)
        stream.wait_stream(torch.cuda.current_stream(x.device))
        session.run_with_iobinding(binding, options)
        torch.cuda.current_stream(x.device).wait_stream(stream)
        return out

    run(example)
    out.fill_(math.nan)
    return run


def _bind(binding: onnxruntime.IOBinding, x: Tensor, out: Tensor) -> None:
    place = (x.device.type, x.device.index or 0, ELEMENT_TYPES[x.dtype])
    binding.bind_input("x", *place, tuple(x.shape), x.data_ptr())
    binding.bind_output("logits", *place, tuple(out.shape), out.data_ptr())


def _run_options(stream: torch.cuda.Stream | None, graph: str = "") -> onnxruntime.RunOptions | None:
    """Return options with which a call on a GPU does not wait for the device."""
    if stream is None:
        return None
    options = onnxruntime.RunOptions()
    options.add_run_config_entry("disable_synchronize_execution_providers", "1")
    if graph:
        options.add_run_config_entry("gpu_graph_id", graph)
    return options


def _session(
    model: bytes, provider: str, settings: dict[str, str], profile: str | None = None
) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = torch.get_num_threads()
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    if profile is not None:
        options.enable_profiling = True
        options.profile_file_prefix = profile
    return onnxruntime.InferenceSession(model, options, providers=[(provider, settings)])


def profiled(model: bytes, provider: str, x: Tensor, calls: int) -> list[list[dict[str, Any]]]:
    """Return the event of each of `calls` and the events of its nodes, after as many calls to warm up."""
    feed = {"x": x.cpu().numpy()}
    with tempfile.TemporaryDirectory() as folder:
        session = _session(model, provider, provider_options(x.device), profile=str(Path(folder) / "profile"))
        for _ in range(2 * calls):
            session.run(None, feed)
        events = json.loads(Path(session.end_profiling()).read_text())
    runs = sorted((event for event in events if event["name"] == "model_run"), key=lambda run: run["ts"])[calls:]
    nodes = [event for event in events if event.get("args", {}).get("provider")]
    return [[run, *(node for node in nodes if 0 <= node["ts"] - run["ts"] < run["dur"])] for run in runs]


def placement(nodes: Sequence[dict[str, Any]], provider: str) -> str:
    """Return how many of the `nodes` of a profiled call each provider ran.

    ONNX Runtime computes shapes on the CPU by design. Raises `BenchError` naming a node that computes anything else
    outside `provider`.
    """
    counts = Counter(node["args"]["provider"] for node in nodes)
    for node in nodes:
        done = node["args"]
        if done["provider"] != provider and not _is_shape(done["output_type_shape"]):
            name = node["name"].removesuffix("_kernel_time")
            raise BenchError(f"ONNX Runtime ran the node {name} ({done['op_name']}) on {done['provider']}")
    return ", ".join(f"{count} on {name}" for name, count in counts.items())


def _is_shape(outputs: Sequence[dict[str, list[int]]]) -> bool:
    """Return whether a node's outputs, each its type and sizes, are a few integers."""
    each = [(kind, math.prod(sizes)) for output in outputs for kind, sizes in output.items()]
    return all(kind.startswith("int") and number <= SHAPE_VALUES for kind, number in each)
