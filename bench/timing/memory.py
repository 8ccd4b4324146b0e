"""Peak memory of one call, measured in a separate pass and never while timing."""

from __future__ import annotations

import gzip
import json
import tempfile
from pathlib import Path

import torch

from bench.timing.clock import Call, synchronise


def peak_memory(call: Call, device: torch.device) -> int:
    """Return the greatest number of bytes that torch holds during `call` above what it held before.

    Memory that another library allocates for itself (ONNX Runtime's arena) is not seen.
    """
    if device.type == "cpu":
        return _cpu_peak(call)
    synchronise(device)
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    call()
    synchronise(device)
    return torch.cuda.max_memory_allocated(device) - before


def _cpu_peak(call: Call) -> int:
    """Return the peak of the running sum of allocations and frees in a profile of the call."""
    with torch.profiler.profile(
        activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True, acc_events=True
    ) as profile:
        call()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "memory.json.gz"
        profile.export_chrome_trace(str(path))
        events = json.loads(gzip.decompress(path.read_bytes()))["traceEvents"]
    changes = [(event["ts"], event["args"]["Bytes"]) for event in events if event.get("name") == "[memory]"]
    held = peak = 0
    for _, change in sorted(changes, key=lambda change: change[0]):
        held += change
        peak = max(peak, held)
    return peak
