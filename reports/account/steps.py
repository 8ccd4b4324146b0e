"""Parts from steps: a form that can be split was also measured in steps, each doing all of the one before and more.

What a step adds is the median over blocks of its difference, within a block, from the step before. It is kept as it
comes: below zero if noise or another state of the caches made the larger step faster.

`launch and host` separates the cost of launching from the work. On a GPU, steps are replays of CUDA graphs. There it is
the plain call minus its replay, plus the replay of a graph with one empty kernel, which is part of every replay and so
of the first step. A form that cannot be split has only that: the replay of the whole is its single step. On a CPU, and
for a form that no graph can hold, steps are calls. Each of their operators costs the calling thread a known time,
whatever it computes, and that is taken out of the part whose step runs it. On a GPU that is too much if the device is
still busy meanwhile.

Differences are taken within blocks, and each block is one observation of all steps. A disturbance that lasts a block
slows every call in it, so these differences are steadier than differences of medians.

Letters: B blocks, P steps, J parts, of which the last is host work, R resamples.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from itertools import pairwise

import numpy as np

from reports.account import parts
from reports.account.parts import CHOICE, COMBINE, DISPATCH, GATE, GEMM, HOST, IMBALANCE, Part
from reports.numbers import stats
from reports.numbers.stats import CONFIDENCE, LEAST_BLOCKS, RESAMPLES, SEED, Floats
from reports.reading.load import MeasuredCase
from reports.records.record import CaseRecord, Step
from reports.speed.floors import Floor

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
_REPLAYS: tuple[Step, ...] = ("graph", "replay")


@dataclass(frozen=True)
class Added:
    """A measured step: the works and the seconds that it adds to the step before, floors and host work included.

    The replay of an empty kernel is not included. `operators` is how many it adds, None if they were not counted.
    """

    works: tuple[str, ...]
    step: MeasuredCase
    seconds: float
    operators: int | None


@dataclass(frozen=True)
class BySteps:
    """The parts that steps separate, what each step added, and the interval of what parts and floors leave over.

    Nothing is `added` if the replay of the whole call is the only step.
    """

    parts: tuple[Part, ...]
    added: tuple[Added, ...]
    rest: Interval


def by_steps(case: MeasuredCase, steps: Mapping[Step, MeasuredCase], floor: Floor | None) -> BySteps | None:
    """Return the parts of `case` from its `steps`, or None if no step shares a block with it."""
    works = _works(case.record, steps)
    replays = [step for step in _REPLAYS if step in steps]
    if not works and "graph" not in replays:
        return None
    times = block_medians([steps[step] for step in (*works, *replays)] + [case])  # (B, P + 1), and one for each replay
    if not len(times):
        return None
    call = times[:, -1]  # (B,)
    replayed = dict(zip(replays, times[:, len(works) :].T, strict=False))  # (B,) each
    empty = replayed.get("replay", np.zeros_like(call))
    added = np.diff(times[:, : len(works)], prepend=empty[:, None], axis=1)  # (B, P)
    observed = np.column_stack([added, call - replayed.get("graph", call) + empty])  # (B, J)
    counts = [steps[step].record.operators for step in works]
    counted = floor is not None and not replays and None not in counts
    known = _known(case.record, works.values(), counts if counted else [], "replay" in replays, floor)
    ends = _intervals(observed, call, known, floor.seconds if floor else 0.0)
    seconds = (np.median(observed, axis=0) - known).tolist()
    named = [(parts.name(work, floor), work) for work in works.values()]
    if replays or counted:  # then the last column is known to be host work
        named.append((HOST, ()))
    return BySteps(
        parts=tuple(
            Part.of(name, value, *interval, work)
            for (name, work), value, interval in zip(named, seconds, ends, strict=False)
        ),
        added=tuple(
            map(Added, works.values(), map(steps.__getitem__, works), np.median(added, axis=0).tolist(), _added(counts))
        ),
        rest=ends[-1],
    )


def _works(record: CaseRecord, steps: Mapping[Step, MeasuredCase]) -> dict[Step, tuple[str, ...]]:
    """Return the works that each measured step adds, those of unmeasured steps before it included."""
    by_step: dict[Step, tuple[str, ...]] = {}
    new: list[str] = []
    for step, works in _ADDED.items():
        if step == "given" and step not in steps:
            continue
        before = {work for added in by_step.values() for work in added}
        new += [work for work in parts.done_by(record, works) if work not in before and work not in new]
        if step in steps and new:
            by_step[step], new = tuple(new), []
    return by_step


def _added(counts: Sequence[int | None]) -> list[int | None]:
    """Return by how much each count exceeds the one before, None if either is not known."""
    return [None if old is None or new is None else new - old for old, new in pairwise((0, *counts))]


def _known(
    record: CaseRecord, works: Iterable[tuple[str, ...]], counts: Sequence[int | None], empty: bool, floor: Floor | None
) -> Floats:
    """Return the seconds (J,) to take out of what each step adds: its floors and its host work.

    If operators were counted, their host work is in the last place, negative. The floors' launch is there too if
    operators were counted or an `empty` kernel was replayed; otherwise it is in the first step.
    """
    known = np.array([*(parts.floor_within(work, record, floor) for work in works), 0.0])
    if floor is None:
        return known
    if counts:
        total = counts[-1] if record.operators is None else record.operators
        operators = np.array([*counts, total], dtype=np.float64)
        known[:-1] += np.diff(operators[:-1], prepend=0) * floor.ceilings.operator
        known[-1] = -operators[-1] * floor.ceilings.operator
    known[-1 if counts or empty else 0] += floor.launch
    return known


def _intervals(observed: Floats, call: Floats, known: Floats, floor: float) -> list[Interval]:
    """Return the interval of each part, and of what the parts and the `floor` leave of the call.

    `observed` (B, J), `call` (B,) and `known` (J,) are in seconds.
    """
    resampled = resampled_medians(np.column_stack([observed, call]))  # (R, J + 1)
    if resampled is None:
        return [(None, None)] * (len(known) + 1)
    drawn = resampled[:, :-1] - known
    rest = resampled[:, -1] - drawn.sum(axis=1) - floor
    low, high = percentiles(np.column_stack([drawn, rest]))
    return list(zip(low.tolist(), high.tolist(), strict=True))


def block_medians(cases: Sequence[MeasuredCase]) -> Floats:
    """Return the median of each of P `cases` in each block that they all share, (B, P) in seconds."""
    numbers, medians = zip(*(stats.block_medians(case.samples, case.blocks) for case in cases), strict=True)
    shared = reduce(np.intersect1d, numbers)
    return np.column_stack([times[np.isin(blocks, shared)] for blocks, times in zip(numbers, medians, strict=True)])


def resampled_medians(values: Floats) -> Floats | None:
    """Return the median of each column of `values` (B, J) over resampled blocks, (R, J); None with too few blocks.

    The seed is fixed, and all columns share their draws.
    """
    blocks = len(values)
    if blocks < LEAST_BLOCKS:
        return None
    draws = np.random.default_rng(SEED).integers(blocks, size=(RESAMPLES, blocks))
    medians: Floats = np.median(values[draws], axis=1)
    return medians


def percentiles(values: Floats) -> tuple[Floats, Floats]:
    """Return the ends of the interval of each column of `values` (R, J), (J,) and (J,)."""
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(values, [tail, 1 - tail], axis=0)
    return low, high
