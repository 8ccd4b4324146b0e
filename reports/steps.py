"""Parts from steps: a form that can be split was also measured in steps, each doing what the one before does and more.

What a step adds is the median over blocks of its difference, within a block, to the one before. It is taken as it
comes, below zero too where noise or another state of the caches made the larger step the faster one.

On a CPU each operator costs the calling thread a known time, whatever it computes. That is taken out of the part whose
step runs the operator and gathered as `launch and host`. On a GPU steps are replays of CUDA graphs, and what the plain
call takes beyond its own replay is `launch and host`. Of a form that no graph can hold, steps are calls too, so the
host's work stays in the parts.

Letters: B blocks, P steps, J parts, of which one may be host work, R resamples.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from reports import parts
from reports.floors import Floor
from reports.load import Case
from reports.paired import Floats, block_medians, percentiles, resampled_medians
from reports.parts import CHOICE, COMBINE, DISPATCH, GATE, GEMM, HOST, IMBALANCE, Draft
from reports.record import CaseRecord, Step

Interval = tuple[float | None, float | None]
_ADDED: dict[Step, tuple[str, ...]] = {  # in the order in which each contains the one before
    "balanced": (GEMM,),
    "products": (IMBALANCE,),
    "dispatched": (DISPATCH,),
    "given": (DISPATCH, COMBINE),
    "gated": (GATE,),
    "routed": (CHOICE,),
    "combined": (COMBINE,),
}


@dataclass(frozen=True)
class Added:
    """A measured step, the works it adds to the one before, and the seconds it adds, floors and host included."""

    works: tuple[str, ...]
    step: Case
    seconds: float


@dataclass(frozen=True)
class BySteps:
    """The parts that steps tell apart, what each step added, and the interval of what parts and floors leave over."""

    drafts: tuple[Draft, ...]
    added: tuple[Added, ...]
    rest: Interval


def by_steps(case: Case, steps: Mapping[Step, Case], floor: Floor | None) -> BySteps | None:
    """Return the parts of `case` from its `steps`, or None where none shares a block with it."""
    works = _works(case.record, steps)
    graph = [steps["graph"]] if "graph" in steps else []
    if not works:
        return None
    times = block_medians([*(steps[step] for step in works), *graph, case])  # (B, P + 1), and one for the graph
    if not len(times):
        return None
    added = np.diff(times[:, : len(works)], prepend=0, axis=1)  # (B, P)
    known = _known(case.record, [(steps[step].record, work) for step, work in works.items()], floor, bool(graph))
    saved = times[:, -1:] - times[:, -2:-1] if graph else np.zeros((len(times), len(known) - len(works)))
    observed = np.hstack([added, saved])  # (B, J)
    values = np.median(observed, axis=0) - known  # (J,)
    ends = _intervals(observed, times[:, -1], known, floor.seconds if floor else 0.0)
    told = [(parts.name(work, floor), work) for work in works.values()] + [(HOST, ())] * saved.shape[1]
    return BySteps(
        drafts=tuple(
            Draft(name, float(value), *interval, work)
            for (name, work), value, interval in zip(told, values, ends[:-1], strict=True)
        ),
        added=tuple(
            Added(work, steps[step], float(seconds))
            for (step, work), seconds in zip(works.items(), np.median(added, axis=0), strict=True)
        ),
        rest=ends[-1],
    )


def _works(record: CaseRecord, steps: Mapping[Step, Case]) -> dict[Step, tuple[str, ...]]:
    """Return what each measured step adds: its own works and those of the steps before it that were not measured."""
    found: dict[Step, tuple[str, ...]] = {}
    new: list[str] = []
    for step, works in _ADDED.items():
        if step == "given" and step not in steps:
            continue
        before = {work for added in found.values() for work in added}
        new += [work for work in parts.done_by(record, works) if work not in before and work not in new]
        if step in steps and new:
            found[step], new = tuple(new), []
    return found


def _known(
    record: CaseRecord, steps: Sequence[tuple[CaseRecord, tuple[str, ...]]], floor: Floor | None, graph: bool
) -> Floats:
    """Return the seconds (J,) that are taken out of what each step adds: its floors, and on a CPU its host work.

    Where host work can be told apart it has the last place: nothing is taken out of what a graph saves, and on a CPU
    all of it stands there, negative, without the launch that the floors count.
    """
    within = np.array([parts.floor_within(works, record, floor) for _, works in steps])
    counts = [step.operators for step, _ in steps]
    if floor is not None and record.device == "cpu" and None not in counts:
        operators = np.array(counts, dtype=np.float64)
        host = np.diff(operators, prepend=0) * floor.ceilings.operator
        total = operators[-1] if record.operators is None else record.operators
        return np.append(within + host, floor.launch - total * floor.ceilings.operator)
    within[0] += floor.launch if floor else 0.0
    return np.append(within, 0.0) if graph else within


def _intervals(observed: Floats, call: Floats, known: Floats, floor: float) -> list[Interval]:
    """Return the interval of each part, and of what parts and `floor` leave of the call.

    `observed` (B, J), `call` (B,) and `known` (J,) in seconds.
    """
    resampled = resampled_medians(np.column_stack([observed, call]))  # (R, J + 1)
    if resampled is None:
        return [(None, None)] * (len(known) + 1)
    found = resampled[:, :-1] - known
    rest = resampled[:, -1] - found.sum(axis=1) - floor
    low, high = percentiles(np.column_stack([found, rest]))
    return list(zip(low.tolist(), high.tolist(), strict=True))
