"""Measuring a group: every form of one shape, checked first, then sampled interleaved with its counterfactual steps.

Letters: N rows, D input width.
"""

from __future__ import annotations

import random
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from statistics import median
from typing import Any, NamedTuple

from torch import Tensor

from bench.cases.counterfactuals import Split, add_stages, split
from bench.cases.prepare import Input, Prepared, call_of, inputs, prepare
from bench.cases.record import case_record
from bench.cases.result import Outcome
from bench.cases.unmeasurable import UnmeasurableError
from bench.errors import BenchError
from bench.subjects.workloads import Case, Subject
from bench.timing import environment
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
    """A case, or one step of it, being timed."""

    case: Case
    step: Step
    timed: Timed
    fields: dict[str, Any]


@dataclass
class _Plan:
    """What is done with the cases of a group, and what has become of them so far."""

    shared: dict[str, Any]  # fields of every record
    seed: int
    steps: bool
    traces: bool
    memory: bool
    cold: ColdCaches | None
    rotations: list[Rotation] = field(default_factory=list)
    entries: list[_Entry] = field(default_factory=list)
    outcomes: list[Outcome] = field(default_factory=list)
    given: dict[Subject, Input] = field(default_factory=dict)
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
) -> Measured:
    """Return what became of every case of one shape; those that can be timed are timed interleaved.

    `seconds` is the time for sampling per case; preparing and checking come on top. With `steps` a warm head alone is
    also timed in its form's counterfactuals, in the same blocks; with `traces` a call's peak memory, the seconds of its
    stages and, on a GPU, its energy are taken in passes of their own.
    """
    exact_float32()
    start, shape = time.perf_counter(), cases[0].shape
    shared = {"group_id": uuid.uuid4().hex[:12], "suite": suite, **environment.snapshot(shape.device)}
    divisible = shape.part == "head" and shape.cache == "warm" and shape.rows > 0
    cold = ColdCaches(shape.device) if shape.cache == "cold" else None
    plan = _Plan(shared, seed, steps and divisible, traces and divisible, traces, cold)
    runs = _by_runner(cases)
    for number, clocked in enumerate(runs):
        progress(0.5 * number / len(runs))
        _make_ready(plan, clocked)
    timed = [entry.timed for entry in plan.entries]
    sampled = sample(timed, seconds, random.Random(seed), lambda share: progress(0.5 + 0.5 * share))
    unproven = _unproven(plan)
    if plan.traces:
        _add_energy(plan.entries)
    after = {**environment.gpu_state(shape.device), "stopped_by": sampled.stopped_by}
    plan.outcomes += [_finished(entry, after, unproven) for entry in plan.entries]
    return Measured(plan.outcomes, _group(plan, sampled, time.perf_counter() - start))


def _make_ready(plan: _Plan, clocked: Sequence[Case]) -> None:
    """Prepare cases that differ in nothing but the clock, and add what is to be timed of them to the plan."""
    case = clocked[0]
    try:
        if case.subject not in plan.given:
            plan.given[case.subject] = inputs(case.subject, case.shape, plan.seed)
        given = plan.given[case.subject]
        prepared = prepare(case, given, memory=plan.memory)
    except UnmeasurableError as reason:
        plan.outcomes += [Outcome(case_record(one, plan.shared, **reason.fields)) for one in clocked]
        return
    plan.cold_start += prepared.spent
    parts = split(case, prepared, given.features) if plan.steps else Split()
    if plan.traces:
        add_stages(case, prepared, given.features)
    if plan.cold is not None:
        plan.rotations.append(Rotation([given.x.clone() for _ in range(COPIES)]))
        prepared = _chilled(case, prepared, plan.cold, plan.rotations[-1])
    for one in clocked:
        plan.entries += _entries(one, prepared, parts, plan.shared)


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
    """Return the cases that differ in nothing but the clock, together."""
    runs: dict[tuple[Subject, str], list[Case]] = {}
    for case in cases:
        runs.setdefault((case.subject, case.form), []).append(case)
    return list(runs.values())


def _entries(case: Case, prepared: Prepared, parts: Split, shared: dict[str, Any]) -> list[_Entry]:
    """Return the case and its steps, ready to be timed."""
    device, fields = case.shape.device, {**shared, **prepared.fields}
    whole = Timed(prepared.call, case.clock, device, prepared.before)
    entries = [_Entry(case, "", whole, {**fields, "operators": parts.operators.get("")})]
    told_once = ("traced", "traced_by", "peak_memory", "cold_start", "launches", "executed_flops", "requested_bytes")
    fields = {name: value for name, value in fields.items() if name not in told_once}
    for step, counterfactual in parts.calls.items():
        item = Timed(counterfactual, case.clock, device)
        entries.append(_Entry(case, step, item, {**fields, "operators": parts.operators.get(step)}))
    return entries


def _chilled(case: Case, warm: Prepared, cold: ColdCaches, rotation: Rotation) -> Prepared:
    """Return the case with cold caches, on other copies of the same rows in turn."""
    run = call_of(warm.runner, case.subject.on(case.shape.device, case.shape.dtype), case.shape.part)

    def before() -> None:
        rotation.turn()
        cold.evict()

    def call() -> Tensor:
        return run(rotation.now())

    return replace(warm, call=call, before=before)


def _unproven(plan: _Plan) -> str:
    """Return why the caches cannot be called cold; "" where they can."""
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
    failure = entry.timed.failure or unproven
    if failure:
        return Outcome(case_record(entry.case, entry.fields, entry.step, status=Status.FAILED, reason=failure))
    done = {**entry.fields, **after, "blocks": entry.timed.blocks, "status": Status.MEASURED}
    return Outcome(case_record(entry.case, done, entry.step), tuple(entry.timed.samples))
