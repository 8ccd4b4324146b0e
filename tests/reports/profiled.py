"""Synthetic profiles: files as `moegap profile` writes them, with numbers that add up by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

STAGES = ("route", "dispatch", "experts", "combine", "fused", "other")
PARTS = {"route": 100, "dispatch": 150, "experts": 400, "combine": 100, "other": 250}  # us of 1,000


def profile(form: str = "loop", rows: int = 256, scale: float = 1.0, **changes: Any) -> dict[str, Any]:
    """Return one profile of a call of 1,000 us, times `scale`, of which 800 are busy."""
    us = 1e-6 * scale
    return {
        "form": form, "rows": rows, "graph": False, "calls": 10, "told_by": "ranges",
        "seconds": 1000 * us, "busy": 800 * us, "gap": 200 * us, "host": 200 * us, "overlap": 0.0, "launches": 42.0,
        "parts": {name: {"seconds": PARTS.get(name, 0) * us, "launches": 7.0} for name in STAGES},
        "operators": [
            {"name": "aten::mm", "where": "cpu", "seconds": 500 * us, "count": 16.0},
            {"name": "aten::index", "where": "cpu", "seconds": 300 * us, "count": 2.5},
        ],
        "nodes": [], "traces": [f"sparse-{form}-n{rows}-float32-cpu/host_1.2.pt.trace.json.gz"], **changes,
    }  # fmt: skip


def content(*profiles: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """Return a file of these profiles."""
    environment = {
        "measured_at": "2026-11-25T20:50:58+00:00", "device": "Some CPU", "device_name": "Some CPU", "cpu": "Some CPU",
        "threads": 2, "thread_wait": "PASSIVE", "load_1m": 0.5, "commit": "0123456789abcdef", "dirty": True,
    }  # fmt: skip
    return {
        "format": 1, "kind": "profile", "command": "moegap profile sparse", "checkpoint": "sparse", "head": "sparse",
        "policy": "top_k", "dtype": "float32", "runs_on": "cpu", "versions": {"torch": "2.15.0"},
        "environment": environment, "profiles": list(profiles or [profile()]), "left_out": [], **changes,
    }  # fmt: skip


def on_a_gpu() -> dict[str, Any]:
    """Return a file of a GPU: a call, the replay of its graph, and an engine with nodes."""
    kernels = [{"name": f"gemm{'<x>' * 60}", "where": "gpu", "seconds": 800e-6, "count": 8.0}]
    nodes = [{"name": "Gemm", "where": "CUDAExecutionProvider", "seconds": 30e-6, "count": 9.0}]
    gpu = {"operators": kernels, "host": 900e-6, "overlap": 600e-6}
    profiles = [
        profile("triton", **gpu),
        profile("triton", **gpu | {"graph": True, "told_by": "names", "host": 20e-6, "overlap": 0.0}),
        profile("onnxruntime", **gpu | {"told_by": "names", "nodes": nodes}),
    ]
    left_out = [{"form": "loop", "rows": rows, "graph": True, "reason": "its call waits"} for rows in (32, 256)]
    environment = content()["environment"] | {"device": "Some GPU", "driver": "999.1"}
    return content(*profiles, runs_on="cuda", environment=environment, left_out=left_out)


def write(path: Path, found: dict[str, Any]) -> Path:
    """Write a file."""
    path.write_text(json.dumps(found))
    return path
