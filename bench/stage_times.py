"""How long each stage of a form takes by a second method: the profiler's ranges, or the engine's own profile.

Letters: N rows, D input width.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable
from pathlib import Path

from torch import Tensor

from bench.breakdown import OTHER, Operator, breakdown
from bench.clock import timed
from bench.forms import Form, Runner
from bench.trace import write_trace
from models.heads import Head

LEAST_CALLS, MOST_CALLS = 3, 15
SECONDS = 0.3
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


def stage_times(form: Form, runner: Runner, head: Head, x: Tensor) -> dict[str, float]:
    """Return the seconds per call of each stage of `runner`, prepared from `head` by `form`, on x (N, D).

    With ranges of its stages a form is attributed by these, on a CPU by time in them and on a GPU by the work that
    they launched; a form without by the names of its operators. "other" is the rest of the profiled call.
    """
    calls = max(LEAST_CALLS, min(MOST_CALLS, int(SECONDS / timed(lambda: runner(x), "wall", x.device))))
    if form.nodes is not None:
        return by_name(form.nodes(head, x, calls))
    with tempfile.TemporaryDirectory() as folder:
        seen = breakdown(write_trace(runner, x, Path(folder), calls), middle=True)
    stages = {name: part.seconds for name, part in seen.parts.items() if part.seconds}
    if set(stages) - {OTHER}:
        return stages
    found = by_name(seen.operators)
    return {**found, OTHER: found.get(OTHER, 0.0) + seen.gap}


def by_name(operators: Iterable[Operator]) -> dict[str, float]:
    """Return the seconds of `operators` by the stage that their names tell, "other" where they tell none."""
    seconds: dict[str, float] = {}
    for operator in operators:
        stage = next(
            (stage for stage, parts in OPERATORS.items() if any(part in operator.name for part in parts)), OTHER
        )
        seconds[stage] = seconds.get(stage, 0.0) + operator.seconds
    return seconds
