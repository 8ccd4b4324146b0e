"""Measuring a group: check every case, then sample all of them interleaved, with their counterfactual steps.

Letters: N rows, D input width.
"""

from __future__ import annotations

import math
import random
import time
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from statistics import median
from typing import Any, NamedTuple

import torch
from torch import Tensor

from bench.cases.case import Case, Shape
from bench.cases.counterfactuals import Split, add_stages, split
from bench.cases.prepare import (
    Check,
    Input,
    Prepared,
    UnmeasurableError,
    check_possible,
    copies_of,
    make_input,
    prepare,
    replay_of,
)
from bench.cases.record import case_record
from bench.cases.result import DIGITS, Outcome
from bench.errors import BenchError
from bench.subjects.subject import Subject
from bench.timing import environment
from bench.timing.caches import ColdCaches, Rotation
from bench.timing.clock import Call
from bench.timing.gpu_watch import GpuWatch
from bench.timing.precision import exact_float32
from bench.timing.sampling import OnProgress, Sampled, Timed, part_of, rounded, sample
from reports.records.record import Group, Status, Step

OF_WHOLE_CALLS = (
    "traced", "traced_by", "peak_memory", "cold_start", "launches", "executed_flops", "requested_bytes",
)  # fmt: skip
"""Fields that the record of a step does not have."""
COPIES = 3
"""A case with cold caches takes one of so many copies of its rows in turn."""


class Measured(NamedTuple):
    """The outcomes of a group's cases and steps, and how the group was sampled."""

    outcomes: list[Outcome]
    group: Group


@dataclass
class _Entry:
    """A case or one of its steps while it is timed; `check` checks the output of a whole call."""

    case: Case
    step: Step
    timed: Timed
    fields: dict[str, Any]
    check: Check | None = None


@dataclass
class _Plan:
    """A group under way: how it is measured, what is to be timed, and the outcomes so far."""

    shared: dict[str, Any]  # fields of every record
    seed: int
    steps: bool
    traces: bool
    deadline: float
    cold: ColdCaches | None
    rotations: list[Rotation] = field(default_factory=list)
    entries: list[_Entry] = field(default_factory=list)
    outcomes: list[Outcome] = field(default_factory=list)
    inputs: dict[tuple[Subject, Shape], Input] = field(default_factory=dict)
    cold_start: float = 0.0


def measure_group(
    cases: Sequence[Case],
    suite: str,
    seconds: float,
    seed: int,
    progress: OnProgress,
    *,
    steps: bool = True,
    traces: bool = True,
    deadline: float = math.inf,
) -> Measured:
    """Return the outcome of every case of a group on one device; all that can be timed are timed interleaved.

    `seconds` is the sampling time per case; preparing and checking come on top. With `steps` a warm head alone is also
    timed in its form's counterfactual steps, in the same blocks. With `traces` peak memory, the seconds of the stages
    and, on a GPU, energy are measured in separate passes. A form is left out if its preparation is not expected to end
    before `deadline`, a value of `time.monotonic`.
    """
    exact_float32()
    start, device = time.perf_counter(), cases[0].shape.device
    shared = _shared(suite, device)
    cold = ColdCaches(device) if any(case.shape.cache == "cold" for case in cases) else None
    plan = _Plan(shared, seed, steps, traces, deadline, cold)
    runs = _by_runner(cases)
    for number, run in enumerate(runs):
        progress(0.5 * number / len(runs))
        _make_ready(plan, run)
    timed = [entry.timed for entry in plan.entries]
    sampled = sample(timed, seconds, random.Random(seed), part_of(progress, 0.5, 0.5))
    unproven = _unproven(plan)
    if plan.traces:
        _add_energy(plan.entries)
    after = {**GpuWatch(device).state(), "stopped_by": sampled.stopped_by}
    plan.outcomes += [_finished(entry, after, unproven) for entry in plan.entries]
    return Measured(plan.outcomes, _group(plan, sampled, time.perf_counter() - start))


def skipped(reasons: Iterable[tuple[Case, str]], suite: str, group: Group | None = None) -> list[Outcome]:
    """Return cases on one device, each skipped for its reason, in `group` or a new one; the next run tries them."""
    cases = list(reasons)
    shared = _shared(suite, cases[0][0].shape.device) if cases else {}
    if group is not None:
        shared["group_id"] = group.group_id
    return [Outcome(case_record(case, shared, status=Status.SKIPPED, reason=reason)) for case, reason in cases]


def _shared(suite: str, device: torch.device) -> dict[str, Any]:
    """Return what all records of a new group have in common."""
    return {"group_id": uuid.uuid4().hex[:12], "suite": suite, **environment.snapshot(device)}


def _make_ready(plan: _Plan, run: Sequence[Case]) -> None:
    """Prepare cases that differ only in clock and caches, and add what can be timed to the plan."""
    case = run[0]
    try:
        rows = _input(plan, case)
        prepared = prepare(case, rows, memory=plan.traces)
    except UnmeasurableError as reason:
        plan.outcomes += [Outcome(case_record(one, plan.shared, **reason.fields)) for one in run]
        return
    plan.cold_start += prepared.spent
    divisible = any(_divisible(one) for one in run)
    split_call = split(case, prepared, rows.features) if plan.steps and divisible else Split()
    if plan.traces and divisible:
        add_stages(case, prepared, rows.features)
    for one in run:
        fields = {**plan.shared, **prepared.fields}
        try:
            timed = _timed(plan, one, prepared, rows.x)
        except UnmeasurableError as reason:
            plan.outcomes.append(Outcome(case_record(one, {**fields, **reason.fields})))
            continue
        parts = split_call if _divisible(one) else Split()
        whole = _Entry(one, "", timed, {**fields, "operators": parts.operators.get("")}, prepared.check)
        plan.entries += [whole, *_steps(one, parts, fields)]


def _input(plan: _Plan, case: Case) -> Input:
    """Return the rows of a case, the same for all forms; raises `UnmeasurableError` if the case cannot run."""
    check_possible(case, plan.deadline)
    key = case.subject, replace(case.shape, cache="warm")
    if key not in plan.inputs:
        plan.inputs[key] = make_input(case.subject, case.shape, plan.seed)
    return plan.inputs[key]


def _divisible(case: Case) -> bool:
    """Return whether a case is split into parts: a warm forward pass of a head alone, not replayed as one graph."""
    shape = case.shape
    whole = shape.part != "head" or shape.training or case.clock == "graph"
    return not whole and shape.cache == "warm" and shape.rows > 0


def _timed(plan: _Plan, case: Case, prepared: Prepared, x: Tensor) -> Timed:
    """Return a case's call ready for its clock: plain or a replay, alone, after a flush, or on copies in turn."""
    shape, graph = case.shape, case.clock == "graph"
    if shape.cache == "cold":
        return _flushed(plan, case, prepared, x)
    plain: Call = partial(prepared.run, x)
    rotation = copies_of(case, x) if shape.cache == "rotated" else None
    if graph:
        one, longer = replay_of(case, prepared, rotation.calls if rotation else [plain])
        return Timed(one, case.clock, shape.device, longer=longer)
    if rotation is None:
        return Timed(plain, case.clock, shape.device)
    plan.rotations.append(rotation)
    return Timed(rotation.call, case.clock, shape.device, rotation.turn)


def _flushed(plan: _Plan, case: Case, prepared: Prepared, x: Tensor) -> Timed:
    """Return a case's call on copies of x in turn, each after a flush of the caches."""

    def call(x: Tensor) -> Call:
        plain = partial(prepared.run, x)
        return replay_of(case, prepared, [plain])[0] if case.clock == "graph" else plain

    rotation, cold = Rotation([x.clone() for _ in range(COPIES)], call), plan.cold
    assert cold is not None
    plan.rotations.append(rotation)

    def before() -> None:
        rotation.turn()
        cold.evict()

    return Timed(rotation.call, case.clock, case.shape.device, before)


def _steps(case: Case, parts: Split, fields: dict[str, Any]) -> list[_Entry]:
    """Return the counterfactuals of a case, ready to be timed."""
    fields = {name: value for name, value in fields.items() if name not in OF_WHOLE_CALLS}
    operators, device = parts.operators, case.shape.device
    return [
        _Entry(case, step, Timed(call, case.clock, device), {**fields, "operators": operators.get(step)})
        for step, call in parts.calls.items()
    ]


def _group(plan: _Plan, sampled: Sampled, wall: float) -> Group:
    return Group(
        group_id=plan.shared["group_id"],
        anchor=sampled.anchor,
        throttled=sampled.throttled,
        clock_mhz=sampled.clock_mhz,
        power_w=sampled.power_w,
        wall=wall,
        sampling=sum(sum(outcome.samples) for outcome in plan.outcomes),
        cold_start=plan.cold_start,
    )


def _by_runner(cases: Sequence[Case]) -> list[list[Case]]:
    """Return the cases in lists, those together that differ only in clock and caches."""
    runs: dict[tuple[Subject, str, Shape], list[Case]] = {}
    for case in cases:
        runs.setdefault((case.subject, case.form, replace(case.shape, cache="warm")), []).append(case)
    return list(runs.values())


def _unproven(plan: _Plan) -> str:
    """Return why the caches were not cold for sure; "" if they were."""
    try:
        if plan.cold is not None:
            plan.cold.check()
        for rotation in plan.rotations:
            rotation.check()
    except BenchError as error:
        return str(error)
    return ""


def _add_energy(entries: Sequence[_Entry]) -> None:
    """Add the energy that a GPU takes for the fastest form of each subject, measured in a separate pass."""
    whole = [entry for entry in entries if not entry.step and entry.timed.samples and not entry.timed.failure]
    for subject in dict.fromkeys(entry.case.subject for entry in whole):
        forms = [entry for entry in whole if entry.case.subject is subject]
        best = min(forms, key=lambda entry: median(entry.timed.samples))
        shape = best.case.shape
        best.fields["joules_per_thousand_rows"] = GpuWatch(shape.device).energy(best.timed.call, shape.rows)


def _finished(entry: _Entry, after: dict[str, Any], unproven: str) -> Outcome:
    """Return the outcome of a case or a step, after a check of the output of its last timed call."""
    failure = entry.timed.failure or (unproven if entry.timed.before else "")
    if failure:
        return Outcome(case_record(entry.case, entry.fields, entry.step, status=Status.FAILED, reason=failure))
    try:
        if entry.check is not None:
            entry.check(entry.timed.output)
    except UnmeasurableError as reason:
        wrong = {**entry.fields, **reason.fields, "reason": f"after the timing, {reason}"}
        return Outcome(case_record(entry.case, wrong, entry.step))
    timed = entry.timed
    if timed.longer is not None:
        graphs = {"further_calls": timed.longer.further, "replay_offsets": rounded(timed.offsets, DIGITS)}
        entry.fields.update(graphs)
    done = {**entry.fields, **after, "blocks": timed.blocks, "status": Status.MEASURED}
    return Outcome(case_record(entry.case, done, entry.step), tuple(entry.timed.samples))
