"""How long each stage of a form takes by a second method: the profiler's ranges, or the engine's own profile.

Letters: N rows, D input width.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Literal, NamedTuple

from torch import Tensor

from bench.forms import Form, Runner
from bench.forms.stages import OTHER
from bench.profile.breakdown import breakdown
from bench.profile.trace import write_engine_trace, write_trace
from bench.timing.clock import timed
from models.heads.heads import Head

LEAST_CALLS, MOST_CALLS = 3, 11
SECONDS = 0.15
"""Time of the profiled calls, of which the one in the middle counts, within those limits."""


class StageTimes(NamedTuple):
    """Seconds per call by stage, "other" the rest of the profiled call, and what the stages were told by."""

    seconds: dict[str, float]
    by: Literal["", "ranges", "names"]


def stage_times(form: Form, runner: Runner, head: Head, x: Tensor) -> StageTimes:
    """Return how long each stage of `runner`, prepared from `head` by `form`, takes on x (N, D).

    With ranges of its stages a form is attributed by these, on a CPU by time in them and on a GPU by the work that
    they launched; a form without by the names of its operators, on a GPU of its kernels. Nothing where a GPU's
    profiler saw no kernel. An engine's own profile takes its time between nodes, which therefore counts nowhere.
    """
    calls = max(LEAST_CALLS, min(MOST_CALLS, int(SECONDS / timed(lambda: runner(x), "wall", x.device))))
    with tempfile.TemporaryDirectory() as folder:
        own = write_engine_trace(form, head, x, Path(folder), calls) if not x.is_cuda else None
        seen = breakdown(own or write_trace(runner, x, Path(folder), calls), middle=True)
    if x.is_cuda and not any(operator.where == "gpu" for operator in seen.operators):
        return StageTimes({}, "")
    seconds = {name: part.seconds for name, part in seen.parts.items()}
    if own is not None:
        seconds[OTHER] = max(0.0, seconds[OTHER] - seen.gap)
    return StageTimes({name: time for name, time in seconds.items() if time}, seen.told_by)
