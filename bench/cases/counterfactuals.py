"""More views of a prepared case: its form's counterfactual steps, their operators, and its stages by a profiler.

Neither decides about the case: if one fails, the record says so and the case keeps its time.

Letters: N rows, D input width.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from bench.cases.case import Case
from bench.cases.prepare import Prepared
from bench.errors import message
from bench.execution.steps import Steps
from bench.forms import form
from bench.profile.stage_times import stage_times
from bench.timing.clock import Call
from bench.timing.graphs import captured, nothing, waits_for_device
from reports.records.record import Step


@dataclass(frozen=True)
class Split:
    """Calls that do a growing part of a form's work, and the number of operators in each and in the whole call ""."""

    calls: dict[Step, Call] = field(default_factory=dict)
    operators: dict[Step, int] = field(default_factory=dict)


def split(case: Case, whole: Prepared, features: Tensor) -> Split:
    """Return the counterfactuals of the case's form on features (N, D), N > 0.

    On a GPU they are replays of CUDA graphs, beside replays of the whole call and of an empty kernel. If anything in
    them waits for the device, they stay plain calls.
    """
    chosen, device, whole_call = form(case.form), case.shape.device, partial(whole.run, features)
    head = case.subject.on(device, case.shape.dtype).head
    try:
        with torch.inference_mode():
            steps: Steps = chosen.steps(head, features) if chosen.steps else {}
        calls: dict[Step, Call] = {name: _silent(step) for name, step in steps.items()}
        operators = {name: count_operators(call) for name, call in calls.items()}
        if calls:
            operators[""] = count_operators(whole_call)
        captures = device.type == "cuda" and chosen.memory_seen  # another engine's work is in no graph of torch
        graphs = _graphs({**calls, "graph": whole_call, "replay": _nothing}) if captures else None
    except Exception as error:
        _note(whole, "steps", error)
        return Split()
    return Split(graphs or calls, operators)


def add_stages(case: Case, whole: Prepared, features: Tensor) -> None:
    """Add to the case's fields how long its stages take in a profiled pass on features (N, D)."""
    head = case.subject.on(case.shape.device, case.shape.dtype).head
    try:
        times = stage_times(form(case.form), whole.runner, head, features)
    except Exception as error:
        _note(whole, "trace", error)
    else:
        whole.fields.update(traced=times.seconds, traced_by=times.by)


def _note(prepared: Prepared, what: str, error: Exception) -> None:
    """Add to `runs_on` why the record has no `what`."""
    prepared.fields["runs_on"] = {**prepared.fields["runs_on"], what: f"none: {message(error)}"}


def _graphs(calls: dict[Step, Call]) -> dict[Step, Call] | None:
    """Return replays of the calls captured in CUDA graphs, or None if one of them waits for the device."""
    if any(map(waits_for_device, calls.values())):
        return None
    return {name: captured(_silent(call)).replay for name, call in calls.items()}


def _nothing() -> None:
    nothing[(1,)](torch.empty(0, device="cuda"))


def _silent(call: Callable[[], object]) -> Callable[[], None]:
    """Return `call` in inference mode, without its output."""

    def run() -> None:
        with torch.inference_mode():
            call()

    return run


def count_operators(call: Callable[[], object]) -> int:
    """Return the operators that one `call` dispatches, without views, which compute nothing."""
    counter = _Counter()
    with torch.inference_mode(), counter:
        call()
    return counter.count


class _Counter(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(
        self, func: Any, types: object, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        with self:  # a composed operator starts the operators it is made of
            parts = func.decompose(*args, **(kwargs or {}))
        if parts is not NotImplemented:
            return parts
        self.count += not (func.is_view or func is torch.ops.aten._unsafe_view.default)
        return func(*args, **(kwargs or {}))
