"""How long each stage of a form takes by a second method: torch's profiler, or the engine's own.

Letters: N rows, D input width.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Literal, NamedTuple

from torch import Tensor

from bench.execution.stages import OTHER
from bench.forms import Form, Runner
from bench.profile.breakdown import LostWorkError, breakdown
from bench.profile.trace import write_engine_trace, write_trace
from bench.timing.clock import timed
from models.heads.heads import Head

LEAST_CALLS, MOST_CALLS = 3, 11
SECONDS = 0.15
"""Time of the profiled calls, within these limits; only the call of median length counts."""


class StageTimes(NamedTuple):
    """Seconds per call by stage, with the rest of the profiled call as "other", and whether ranges or names decided."""

    seconds: dict[str, float]
    by: Literal["", "ranges", "names"]


def stage_times(form: Form, runner: Runner, head: Head, x: Tensor) -> StageTimes:
    """Return how long each stage of `runner`, prepared from `head` by `form`, takes on x (N, D).

    Ranges of its stages decide, if a form has any: on a CPU by the time in them, on a GPU by the work that they
    launched. Otherwise the names of operators or kernels decide. The result is empty if a GPU's profiler saw no kernel,
    or lost kernels of every call. An engine's own profiler spends its time between nodes, so that time counts nowhere.
    """
    calls = max(LEAST_CALLS, min(MOST_CALLS, int(SECONDS / timed(lambda: runner(x), "wall", x.device))))
    with tempfile.TemporaryDirectory() as folder:
        engine = write_engine_trace(form, head, x, Path(folder), calls) if not x.is_cuda else None
        try:
            seen = breakdown(engine or write_trace(runner, x, Path(folder), calls), middle=True)
        except LostWorkError:
            return StageTimes({}, "")
    if x.is_cuda and not any(operator.where == "gpu" for operator in seen.operators):
        return StageTimes({}, "")
    seconds = {name: part.seconds for name, part in seen.parts.items()}
    if engine is not None:
        seconds[OTHER] = max(0.0, seconds[OTHER] - seen.gap)
    return StageTimes({name: time for name, time in seconds.items() if time}, seen.told_by)
