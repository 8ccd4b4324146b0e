"""Measuring a group: every case checked first, then sampled interleaved with its counterfactual steps.

Letters: N rows, D input width.
"""

from __future__ import annotations

import math
import random
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from statistics import median
from typing import Any, NamedTuple

from torch import Tensor

from bench.cases.case import Case, Shape
from bench.cases.counterfactuals import Split, add_stages, split
from bench.cases.prepare import Check, Input, Prepared, check_possible, inputs, prepare, replay_of
from bench.cases.record import case_record
from bench.cases.result import Outcome
from bench.cases.unmeasurable import UnmeasurableError
from bench.errors import BenchError
from bench.subjects.subject import Subject
from bench.timing import environment
from bench.timing.clock import Call
from bench.timing.eviction import ColdCaches, Rotation
from bench.timing.gpu_watch import GpuWatch
from bench.timing.precision import exact_float32
from bench.timing.sampling import Progress, Sampled, Timed, sample
from reports.records.record import Group, Status, Step

COPIES = 3
"""Copies of the rows among which a case with cold caches changes."""


class Measured(NamedTuple):
    """What became of the cases of a group and of their steps, and how the group was sampled."""

    outcomes: list[Outcome]
    group: Group


@dataclass
class _Entry:
    """A case, or one step of it, being timed; `check` is that of a whole call's output."""

    case: Case
    step: Step
    timed: Timed
    fields: dict[str, Any]
    check: Check | None = None


@dataclass
class _Plan:
    """What is done with the cases of a group, and what has become of them so far."""

    shared: dict[str, Any]  # fields of every record
    seed: int
    steps: bool
    traces: bool
    deadline: float
    cold: ColdCaches | None
    rotations: list[Rotation] = field(default_factory=list)
    entries: list[_Entry] = field(default_factory=list)
    outcomes: list[Outcome] = field(default_factory=list)
    given: dict[tuple[Subject, Shape], Input] = field(default_factory=dict)
    cold_start: float = 0.0


def measure_group(
    cases: Sequence[Case],
    suite: str,
    seconds: float,
    seed: int,
    progress: Progress,
    *,
    steps: bool = True,
    traces: bool = True,
    deadline: float = math.inf,
) -> Measured:
    """Return what became of every case of a group, on one device; those that can be timed are timed interleaved.

    `seconds` is the time for sampling per case; preparing and checking come on top. With `steps` a warm head alone is
    also timed in its form's counterfactuals, in the same blocks; with `traces` a call's peak memory, the seconds of its
    stages and, on a GPU, its energy are taken in passes of their own. A form whose preparation is not expected to end
    before `deadline`, a moment of `time.monotonic`, is left out.
    """
    exact_float32()
    start, device = time.perf_counter(), cases[0].shape.device
    shared = {"group_id": uuid.uuid4().hex[:12], "suite": suite, **environment.snapshot(device)}
    cold = ColdCaches(device) if any(case.shape.cache == "cold" for case in cases) else None
    plan = _Plan(shared, seed, steps, traces, deadline, cold)
    runs = _by_runner(cases)
    for number, run in enumerate(runs):
        progress(0.5 * number / len(runs))
        _make_ready(plan, run)
    timed = [entry.timed for entry in plan.entries]
    sampled = sample(timed, seconds, random.Random(seed), lambda share: progress(0.5 + 0.5 * share))
    unproven = _unproven(plan)
    if plan.traces:
        _add_energy(plan.entries)
    after = {**environment.gpu_state(device), "stopped_by": sampled.stopped_by}
    plan.outcomes += [_finished(entry, after, unproven) for entry in plan.entries]
    return Measured(plan.outcomes, _group(plan, sampled, time.perf_counter() - start))


def _make_ready(plan: _Plan, run: Sequence[Case]) -> None:
    """Prepare cases that differ in nothing but clock and caches, and add what is to be timed of them to the plan."""
    case = run[0]
    try:
        given = _given(plan, case)
        prepared = prepare(case, given, memory=plan.traces)
    except UnmeasurableError as reason:
        plan.outcomes += [Outcome(case_record(one, plan.shared, **reason.fields)) for one in run]
        return
    plan.cold_start += prepared.spent
    divisible = any(_divisible(one) for one in run)
    parts = split(case, prepared, given.features) if plan.steps and divisible else Split()
    if plan.traces and divisible:
        add_stages(case, prepared, given.features)
    for one in run:
        fields = {**plan.shared, **prepared.fields}
        try:
            timed = _timed(plan, one, prepared, given.x)
        except UnmeasurableError as reason:
            plan.outcomes.append(Outcome(case_record(one, {**fields, **reason.fields})))
            continue
        own = parts if _divisible(one) else Split()
        whole = _Entry(one, "", timed, {**fields, "operators": own.operators.get("")}, prepared.check)
        plan.entries += [whole, *_steps(one, own, fields)]


def _given(plan: _Plan, case: Case) -> Input:
    """Return the rows of a case, the same for all forms; raises `UnmeasurableError` without a reason to make them."""
    check_possible(case, plan.deadline)
    key = case.subject, replace(case.shape, cache="warm")
    if key not in plan.given:
        plan.given[key] = inputs(case.subject, case.shape, plan.seed)
    return plan.given[key]


def _divisible(case: Case) -> bool:
    """Return whether the parts of a case can be timed and traced: of a warm head alone, and not as one graph."""
    return case.shape.part == "head" and case.shape.cache == "warm" and case.shape.rows > 0 and case.clock != "graph"


def _timed(plan: _Plan, case: Case, prepared: Prepared, x: Tensor) -> Timed:
    """Return the call of a case as it is timed: as it is or as a replay, with cold caches on copies of x in turn."""

    def call(x: Tensor) -> Call:
        return replay_of(case, prepared, x) if case.clock == "graph" else partial(prepared.run, x)

    if case.shape.cache == "warm":
        return Timed(call(x), case.clock, case.shape.device)
    rotation, cold = Rotation([x.clone() for _ in range(COPIES)], call), plan.cold
    assert cold is not None
    plan.rotations.append(rotation)

    def before() -> None:
        rotation.turn()
        cold.evict()

    return Timed(rotation.call, case.clock, case.shape.device, before)


def _steps(case: Case, parts: Split, fields: dict[str, Any]) -> list[_Entry]:
    """Return the counterfactuals of a case, ready to be timed."""
    told_once = ("traced", "traced_by", "peak_memory", "cold_start", "launches", "executed_flops", "requested_bytes")
    fields = {name: value for name, value in fields.items() if name not in told_once}
    return [
        _Entry(
            case, step, Timed(call, case.clock, case.shape.device), {**fields, "operators": parts.operators.get(step)}
        )
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
    """Return the cases that differ in nothing but clock and caches, together."""
    runs: dict[tuple[Subject, str, Shape], list[Case]] = {}
    for case in cases:
        runs.setdefault((case.subject, case.form, replace(case.shape, cache="warm")), []).append(case)
    return list(runs.values())


def _unproven(plan: _Plan) -> str:
    """Return why the caches cannot be called cold; "" if they can."""
    try:
        if plan.cold is not None:
            plan.cold.check()
        for rotation in plan.rotations:
            rotation.check()
    except BenchError as error:
        return str(error)
    return ""


def _add_energy(entries: Sequence[_Entry]) -> None:
    """Add the energy that a GPU takes for the fastest form of each subject, in a pass of its own."""
    whole = [entry for entry in entries if not entry.step and entry.timed.samples and not entry.timed.failure]
    for subject in dict.fromkeys(entry.case.subject for entry in whole):
        own = [entry for entry in whole if entry.case.subject is subject]
        best = min(own, key=lambda entry: median(entry.timed.samples))
        shape = best.case.shape
        best.fields["joules_per_thousand_rows"] = GpuWatch(shape.device).energy(best.timed.call, shape.rows)


def _finished(entry: _Entry, after: dict[str, Any], unproven: str) -> Outcome:
    """Return what became of a case or a step, once what its last timed call gave is found right again."""
    failure = entry.timed.failure or (unproven if entry.timed.before else "")
    if failure:
        return Outcome(case_record(entry.case, entry.fields, entry.step, status=Status.FAILED, reason=failure))
    try:
        if entry.check is not None:
            entry.check(entry.timed.output)
    except UnmeasurableError as reason:
        wrong = {**entry.fields, **reason.fields, "reason": f"after the timing, {reason}"}
        return Outcome(case_record(entry.case, wrong, entry.step))
    done = {**entry.fields, **after, "blocks": entry.timed.blocks, "status": Status.MEASURED}
    return Outcome(case_record(entry.case, done, entry.step), tuple(entry.timed.samples))
