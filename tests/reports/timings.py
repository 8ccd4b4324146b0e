"""Fabricated cases of an older file of timings, of planted durations."""

import numpy as np

from reports.records.record import Status
from reports.records.timing import Timing, TimingRun

BLOCKS = 12


def case(group, peer, seconds=None, *, layer="paper", rows=256, routing="balanced", clock="graph", cache="warm",
         noise=0.002, seed=0, **more):  # fmt: skip
    """A case whose samples lie around `seconds`, three in each block, or one without a time."""
    rng = np.random.default_rng((seed, len(group), len(peer), ord(cache[0])))
    timed = seconds is not None
    samples = list(seconds * (1 + noise * rng.standard_normal(3 * BLOCKS))) if timed else []
    return Timing(**{
        "group": group, "group_id": "one", "layer": layer, "rows": rows, "rows_per_expert": rows / 4,
        "dtype": "bfloat16", "routing": routing, "peer": peer, "clock": clock, "cache": cache,
        "status": Status.MEASURED if timed else Status.SKIPPED, "reason": "" if timed else "no time left",
        "samples": samples, "blocks": [block for block in range(BLOCKS) for _ in range(3)] if timed else [],
        **more,
    })  # fmt: skip


def run(*cases, kind="measured"):
    return TimingRun(kind=kind, command="moegap targets", environment={"device_name": "a GPU"}, notes=["a layer"],
                     timings=list(cases))  # fmt: skip
