"""How long each stage of a form takes by a second method: the profiler's ranges, or the engine's own profile.

Letters: N rows, D input width.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Literal, NamedTuple

from torch import Tensor

from bench.breakdown import OTHER, Operator, breakdown
from bench.clock import timed
from bench.forms import Form, Runner
from bench.trace import write_trace
from models.heads import Head

LEAST_CALLS, MOST_CALLS = 3, 11
SECONDS = 0.15
"""Time of the profiled calls, of which the one in the middle counts, within those limits."""
OPERATORS = {
    "experts": ("Gemm", "MatMul", "mm", "Relu", "Gelu", "Sigmoid"),
    "route": ("TopK", "Softmax", "sort", "topk", "softmax"),
    "combine": ("Scatter", "Mul", "Add", "Sum", "scatter", "index_add", "index_put"),
    "dispatch": ("NonZero", "Gather", "Equal", "nonzero", "index", "gather"),
}
"""What the names of the operators of each stage hold, the first that fits, for forms whose profile knows no stages.

A router's product has the name of an expert's, so it counts among the experts.
"""


class StageTimes(NamedTuple):
    """Seconds per call by stage, "other" the rest of the profiled call, and what the stages were told by."""

    seconds: dict[str, float]
    by: Literal["", "ranges", "names"]


def stage_times(form: Form, runner: Runner, head: Head, x: Tensor) -> StageTimes:
    """Return how long each stage of `runner`, prepared from `head` by `form`, takes on x (N, D).

    With ranges of its stages a form is attributed by these, on a CPU by time in them and on a GPU by the work that
    they launched; a form without by the names of its operators, on a GPU of its kernels. Nothing where a GPU's
    profiler saw no kernel.
    """
    calls = max(LEAST_CALLS, min(MOST_CALLS, int(SECONDS / timed(lambda: runner(x), "wall", x.device))))
    if form.nodes is not None and not x.is_cuda:  # on a GPU a node takes the host's time to launch it
        return StageTimes(by_name(form.nodes(head, x, calls)), "names")
    with tempfile.TemporaryDirectory() as folder:
        seen = breakdown(write_trace(runner, x, Path(folder), calls), middle=True)
    stages = {name: part.seconds for name, part in seen.parts.items() if part.seconds}
    if x.is_cuda and not any(operator.where == "gpu" for operator in seen.operators):
        return StageTimes({}, "")
    if set(stages) - {OTHER}:
        return StageTimes(stages, "ranges")
    found = by_name(seen.operators)
    return StageTimes({**found, OTHER: found.get(OTHER, 0.0) + seen.gap}, "names")


def by_name(operators: Iterable[Operator]) -> dict[str, float]:
    """Return the seconds of `operators` by the stage that their names tell, "other" where they tell none."""
    seconds: dict[str, float] = {}
    for operator in operators:
        stage = next(
            (stage for stage, parts in OPERATORS.items() if any(part in operator.name for part in parts)), OTHER
        )
        seconds[stage] = seconds.get(stage, 0.0) + operator.seconds
    return seconds
