"""A trace as torch writes it on a GPU: for each call an operator whose launch starts a kernel."""

import gzip
import json
from pathlib import Path
from typing import Any

from bench.execution.stages import CALL

KERNEL = "ampere_sgemm_128x64_tn"
KERNEL_US = 60


def write_gpu_trace(path: Path, calls: int) -> Path:
    """Write a trace of `calls` of 140 us each, with one kernel in each."""
    device = {"id": 0, "name": "Some GPU", "numSms": 132, "maxThreadsPerMultiprocessor": 2048, "warpSize": 32}
    events = [event for call in range(calls) for event in _call(call)]
    content = {"schemaVersion": 1, "deviceProperties": [device], "traceEvents": events}
    path.write_bytes(gzip.compress(json.dumps(content).encode()))
    return path


def _call(number: int) -> list[dict[str, Any]]:
    start, first = 1000 + 200 * number, 10 * number
    operator, launch = {"External id": first + 3}, {"correlation": first + 4}
    kernel = {
        "device": 0, "context": 1, "stream": 7, "grid": [8, 1, 1], "block": [128, 1, 1], "registers per thread": 32,
        "shared memory": 0, "blocks per SM": 0.1, "warps per SM": 0.4, "est. achieved occupancy %": 3,
    }  # fmt: skip
    flow = {"cat": "ac2g", "name": "ac2g", "id": first + 4}
    return [
        _event(f"ProfilerStep#{number}", "user_annotation", start, 150, {"External id": first + 1}),
        _event(CALL, "user_annotation", start + 1, 140, {"External id": first + 2}),
        _event("aten::mm", "cpu_op", start + 5, 10, operator),
        _event("cudaLaunchKernel", "cuda_runtime", start + 8, 4, operator | launch),
        {"ph": "s", **flow, "pid": 1, "tid": 1, "ts": start + 8},
        {"ph": "f", "bp": "e", **flow, "pid": 0, "tid": 7, "ts": start + 20},
        {**_event(KERNEL, "kernel", start + 20, KERNEL_US, operator | launch | kernel), "pid": 0, "tid": 7},
    ]


def _event(name: str, category: str, start: int, length: int, args: dict[str, Any]) -> dict[str, Any]:
    return {"ph": "X", "cat": category, "name": name, "pid": 1, "tid": 1, "ts": start, "dur": length, "args": args}
