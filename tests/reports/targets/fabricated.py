"""Fabricated cases of a run of targets, of planted durations."""

from pathlib import Path

import numpy as np

from reports.reading.load import MeasuredCase, record_of
from reports.records.record import CaseRecord, Status
from reports.targets.run import TargetRun, layer_of

BLOCKS = 12
SIZES = {
    "paper": {"features": 512, "hidden": 64, "experts": 8, "k": 2, "classes": 10, "activation": "relu"},
    "e128": {"features": 2048, "hidden": 768, "experts": 128, "k": 8, "classes": 2048, "activation": "swiglu"},
}


def case(group, form, seconds=None, *, head="sparse", layer="paper", rows=256, routing="balanced", clock="graph",
         cache="warm", noise=0.002, seed=0, **more):  # fmt: skip
    """A case of a group whose samples lie around `seconds`, three in each block, or one without a time."""
    rng = np.random.default_rng((seed, len(group), len(form), ord(cache[0])))
    timed = seconds is not None
    record = CaseRecord(**{
        "case_id": f"{layer}-{head}-{form}-{rows}-{routing}-{cache}-{clock}", "group_id": group, "suite": "targets",
        "status": Status.MEASURED if timed else Status.SKIPPED, "reason": "" if timed else "no time left",
        "checkpoint": f"{layer}-{head}", "weights": "initialised", "data": "", "head": head, "form": form,
        "part": "head", "backbone": "identity", "rows": rows, "dtype": "bfloat16", "device": "cuda", "clock": clock,
        "cache": cache, "routing": routing, "parameters": 1, "flops": 0, "least_bytes": 0,
        "measured_at": "2026-01-01T00:00:00+00:00", "device_name": "a GPU", "cpu": "a CPU", "threads": 2,
        **SIZES[layer], **more,
    })  # fmt: skip
    if not timed:
        return record
    samples = seconds * (1 + noise * rng.standard_normal(3 * BLOCKS))
    return MeasuredCase(record, samples, np.repeat(np.arange(BLOCKS), 3), Path("targets.json"))


def run(*cases, kind="measured"):
    """A run of these cases, those of one group together."""
    groups = {}
    for entry in cases:
        groups.setdefault(record_of(entry).group_id, []).append(entry)
    assert all(layer_of(record_of(entry)) in SIZES for entry in cases)
    return TargetRun(kind, {"device_name": "a GPU"}, ["a layer"], groups)
