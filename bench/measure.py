"""Measuring a group: every form of one shape, checked first, then sampled interleaved with its counterfactual steps.

Letters: N rows, D input width, E experts, C output width.
"""

from __future__ import annotations

import math
import random
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from statistics import median
from typing import Any, NamedTuple

import torch
from torch import Tensor

from bench import environment
from bench.case_record import case_record
from bench.clock import Call, synchronise
from bench.cold import ColdCaches, Rotation
from bench.equivalence import deviation, head_reference
from bench.errors import BenchError, told
from bench.forms import Form, Runner, form
from bench.forms.steps import Steps
from bench.gpu_watch import GpuWatch
from bench.memory import peak_memory
from bench.operators import count_operators
from bench.peers.empty import nothing
from bench.precision import exact_float32
from bench.reference import Reference
from bench.result import Outcome
from bench.sampling import Progress, Sampled, Timed, sample
from bench.skew import unsteerable
from bench.stage_times import stage_times
from bench.stopwatch import captured
from bench.unmeasurable import UnmeasurableError, unmeasurable
from bench.workloads import Case, Part, Shape, Subject, input_rows, working_set
from models.classifier import Classifier
from models.config import SparseConfig
from models.cost import flops
from models.dense import DenseHead
from models.heads import Head
from reports.record import Group, Status, Step

MEMORY_SHARE = 0.6
"""Share of the free memory that a case may be expected to take."""
COPIES = 3
"""Copies of the rows among which a case with cold caches changes."""
REFERENCE_FLOPS, LEAST_CHECKED = 2e11, 16
"""Operations of the float64 reference beyond which it computes a sample of the rows, of so many at least."""


class Measured(NamedTuple):
    """What became of the cases of a group and of their steps, and how the group was sampled."""

    outcomes: list[Outcome]
    group: Group


@dataclass(frozen=True)
class _Input:
    """What the measured part takes, features or images, the features behind it, and the logits they must give.

    These are known of the `checked` rows (n,), or of all N where that is None.
    """

    x: Tensor
    features: Tensor  # (N, D)
    expected: Reference
    checked: Tensor | None


@dataclass(frozen=True)
class _Prepared:
    """A runner found right, the call that is timed, and its counterfactuals, replays of graphs where it can be one.

    `spent` is the seconds of its preparation; `before`, untimed, precedes every timed call where it is given.
    """

    runner: Runner
    call: Call
    fields: dict[str, Any]
    spent: float
    before: Call | None = None
    steps: dict[Step, Call] = field(default_factory=dict)
    operators: dict[Step, int] = field(default_factory=dict)


@dataclass
class _Entry:
    """A case, or one step of it, being timed."""

    case: Case
    step: Step
    timed: Timed
    fields: dict[str, Any]


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
    also timed in its form's counterfactuals, in the same blocks; with `traces` the seconds of its stages and, on a GPU,
    its energy are taken in passes of their own.
    """
    exact_float32()
    start, shape = time.perf_counter(), cases[0].shape
    shared = {"group_id": uuid.uuid4().hex[:12], "suite": suite, **environment.snapshot(shape.device)}
    split = shape.part == "head" and shape.cache == "warm" and shape.rows > 0
    cold = ColdCaches(shape.device) if shape.cache == "cold" else None
    outcomes: list[Outcome] = []
    entries: list[_Entry] = []
    inputs: dict[Subject, _Input] = {}
    rotations: list[Rotation] = []
    cold_start = 0.0
    runs = _by_runner(cases)
    for number, clocked in enumerate(runs):
        progress(0.5 * number / len(runs))
        case = clocked[0]
        try:
            if case.subject not in inputs:
                inputs[case.subject] = _inputs(case.subject, shape, seed)
            given = inputs[case.subject]
            prepared = _prepare(case, given)
        except UnmeasurableError as reason:
            outcomes += [Outcome(case_record(one, shared, **reason.fields)) for one in clocked]
            continue
        cold_start += prepared.spent
        if steps and split:
            prepared = _split(case, prepared, given.features)
        if traces and split:
            prepared.fields.update(_traced(case, prepared, given.features))
        if cold is not None:
            rotations.append(Rotation([given.x.clone() for _ in range(COPIES)]))
            prepared = _chilled(case, prepared, cold, rotations[-1])
        for one in clocked:
            entries += _entries(one, prepared, shared)
    sampled = sample(
        [entry.timed for entry in entries], seconds, random.Random(seed), lambda share: progress(0.5 + 0.5 * share)
    )
    unproven = _unproven(cold, rotations)
    if traces and split:
        _add_energy(entries)
    after = {**environment.gpu_state(shape.device), "stopped_by": sampled.stopped_by}
    outcomes += [_finished(entry, after, unproven) for entry in entries]
    return Measured(outcomes, _group(shared["group_id"], sampled, outcomes, cold_start, time.perf_counter() - start))


def _group(group_id: str, sampled: Sampled, outcomes: Sequence[Outcome], cold_start: float, wall: float) -> Group:
    return Group(
        group_id=group_id,
        anchor=sampled.anchor,
        throttled=sampled.throttled,
        clock_mhz=sampled.clock_mhz,
        power_w=sampled.power_w,
        wall=wall,
        sampling=sum(sum(outcome.samples) for outcome in outcomes),
        cold_start=cold_start,
    )


def _by_runner(cases: Sequence[Case]) -> list[list[Case]]:
    """Return the cases that differ in nothing but the clock, together."""
    runs: dict[tuple[Subject, str], list[Case]] = {}
    for case in cases:
        runs.setdefault((case.subject, case.form), []).append(case)
    return list(runs.values())


def _inputs(subject: Subject, shape: Shape, seed: int) -> _Input:
    """Return the rows that every form of the subject gets; raises `UnmeasurableError` where memory is too small."""
    needed = working_set(subject.head, shape.rows, shape.dtype)
    free = environment.available_memory(shape.device)
    if needed > MEMORY_SHARE * free:
        raise UnmeasurableError(
            Status.SKIPPED,
            f"{shape.rows:,} rows may need {needed / 2**30:.1f} GiB and {free / 2**30:.1f} GiB are free",
        )
    if shape.skew and (reason := unsteerable(subject.head)):
        raise UnmeasurableError(Status.UNAVAILABLE, reason)
    with _failures(), torch.inference_mode():
        model = subject.on(shape.device, shape.dtype)
        if shape.part == "head":
            features = x = input_rows(subject, shape, seed).to(shape.device, shape.dtype)
        else:
            images = torch.rand(shape.rows, *subject.images.shape, generator=torch.Generator().manual_seed(seed))
            x = images.to(shape.device, shape.dtype)
            features = model.features(x)
        checked = _checked(subject.head, features)
        return _Input(
            x, features, head_reference(model.head, features if checked is None else features[checked]), checked
        )


def _checked(head: Head, features: Tensor) -> Tensor | None:
    """Return which rows (n,) of features (N, D) the reference computes, None for all.

    A sample of them where all would take it minutes and no row's logits depend on another's.
    """
    N, config = len(features), head.config
    coupled = isinstance(config, SparseConfig) and config.batch_coupled
    rows = int(REFERENCE_FLOPS / max(1, flops(config, 1).total))
    if coupled or rows >= N:
        return None
    chosen: Tensor = torch.linspace(0, N - 1, max(LEAST_CHECKED, rows), device=features.device).long().unique()
    return chosen


def _prepare(case: Case, given: _Input) -> _Prepared:
    """Make a case ready: available, prepared, equal to the reference, its memory known."""
    chosen, shape = form(case.form), case.shape
    model = case.subject.on(shape.device, shape.dtype)
    head: Head = model.head
    reason = chosen.unavailable(head.config, shape.device, shape.dtype) or chosen.untimeable(shape.device)
    if reason is not None:
        raise UnmeasurableError(Status.UNAVAILABLE, reason)
    with _failures(), torch.inference_mode():
        start = time.perf_counter()
        runner, reused_s = _runner(case.subject, chosen, head, given.features)
        call = _call(runner, model, given.x, shape.part)
        logits = call()
        synchronise(shape.device)
        spent = time.perf_counter() - start
        rows_per_expert = _rows_per_expert(head, given.features)
        fields: dict[str, Any] = {
            "cold_start": spent + reused_s,
            "runs_on": runner.runs_on,
            "rows_per_expert": rows_per_expert,
            **_check(logits, given),
            **(runner.work(rows_per_expert) if runner.work and shape.part == "head" else {}),
        }
        if chosen.memory_seen:
            fields["peak_memory"] = peak_memory(call, shape.device)
        return _Prepared(runner, call, fields, spent)


def _runner(subject: Subject, chosen: Form, head: Head, features: Tensor) -> tuple[Runner, float]:
    """Return the form's runner for as many rows, and the seconds of its preparation that were paid before."""
    key = (chosen.name, *features.shape, features.dtype, features.device)
    if key in subject.runners:
        return subject.runners[key]
    start = time.perf_counter()
    runner = chosen.prepare(head, features)
    subject.runners[key] = runner, time.perf_counter() - start + runner.reused_s
    return runner, runner.reused_s


def _split(case: Case, whole: _Prepared, features: Tensor) -> _Prepared:
    """Add the counterfactuals of the case's form, with the operators of each; where they fail the call has none.

    On a GPU they are replays of CUDA graphs, and so are the whole call and an empty kernel, if nothing in them waits
    for the device; otherwise all stay calls.
    """
    chosen, device = form(case.form), case.shape.device
    head = case.subject.on(device, case.shape.dtype).head
    try:
        with torch.inference_mode():
            steps: Steps = chosen.steps(head, features) if chosen.steps else {}
        calls: dict[Step, Call] = {name: _inferring(step) for name, step in steps.items()}
        operators = {name: count_operators(call) for name, call in calls.items()}
        if calls:
            operators[""] = count_operators(whole.call)
        graphs = _graphs({**calls, "graph": whole.call, "replay": _nothing}) if device.type == "cuda" else None
    except Exception as error:
        return _told(whole, "steps", error)
    return replace(whole, steps=graphs or calls, operators=operators)


def _told(prepared: _Prepared, what: str, error: Exception) -> _Prepared:
    """Say in what the runner ran on why there is none of `what`; the case itself goes on."""
    runs_on = {**prepared.fields["runs_on"], what: f"none: {told(error)}"}
    return replace(prepared, fields={**prepared.fields, "runs_on": runs_on})


def _graphs(calls: dict[Step, Call]) -> dict[Step, Call] | None:
    """Return replays of the calls captured in CUDA graphs, or None where one of them waits for the device."""
    waits = torch.cuda.get_sync_debug_mode()
    torch.cuda.set_sync_debug_mode("error")
    try:
        for call in calls.values():
            call()
    except RuntimeError:
        return None
    finally:
        torch.cuda.set_sync_debug_mode(waits)
    return {name: captured(_silent(call)).replay for name, call in calls.items()}


def _nothing() -> None:
    nothing[(1,)](torch.empty(0, device="cuda"))


def _silent(call: Call) -> Callable[[], None]:
    def run() -> None:
        call()

    return run


def _inferring(step: Callable[[], object]) -> Call:
    def call() -> Any:
        with torch.inference_mode():
            return step()

    return call


def _traced(case: Case, prepared: _Prepared, features: Tensor) -> dict[str, Any]:
    """Return what a profiled pass shows of the stages; where it fails the case goes on without."""
    head = case.subject.on(case.shape.device, case.shape.dtype).head
    try:
        found = stage_times(form(case.form), prepared.runner, head, features)
    except Exception as error:
        return {"runs_on": {**prepared.fields["runs_on"], "trace": f"none: {told(error)}"}}
    return {"traced": found.seconds, "traced_by": found.by}


def _add_energy(entries: Sequence[_Entry]) -> None:
    """Add the energy that a GPU takes for the fastest form of each subject, in a pass of its own."""
    whole = [entry for entry in entries if not entry.step and entry.timed.samples and not entry.timed.failure]
    for subject in dict.fromkeys(entry.case.subject for entry in whole):
        own = [entry for entry in whole if entry.case.subject is subject]
        best = min(own, key=lambda entry: median(entry.timed.samples))
        shape = best.case.shape
        best.fields["joules_per_thousand_rows"] = GpuWatch(shape.device).energy(best.timed.call, shape.rows)


def _entries(case: Case, prepared: _Prepared, shared: dict[str, Any]) -> list[_Entry]:
    """Return the case and its steps, ready to be timed."""
    device, fields = case.shape.device, {**shared, **prepared.fields}
    whole = Timed(prepared.call, case.clock, device, prepared.before)
    entries = [_Entry(case, "", whole, {**fields, "operators": prepared.operators.get("")})]
    told_once = ("traced", "traced_by", "peak_memory", "cold_start", "launches", "executed_flops", "requested_bytes")
    fields = {name: value for name, value in fields.items() if name not in told_once}
    for step, counterfactual in prepared.steps.items():
        item = Timed(counterfactual, case.clock, device)
        entries.append(_Entry(case, step, item, {**fields, "operators": prepared.operators.get(step)}))
    return entries


def _chilled(case: Case, warm: _Prepared, cold: ColdCaches, rotation: Rotation) -> _Prepared:
    """Return the case with cold caches, on other copies of the same rows in turn."""
    model, part = case.subject.on(case.shape.device, case.shape.dtype), case.shape.part

    def before() -> None:
        rotation.turn()
        cold.evict()

    def call() -> Tensor:
        return _call(warm.runner, model, rotation.now(), part)()

    return replace(warm, call=call, before=before)


def _unproven(cold: ColdCaches | None, rotations: Sequence[Rotation]) -> str:
    """Return why the caches cannot be called cold; "" where they can."""
    try:
        if cold is not None:
            cold.check()
        for rotation in rotations:
            rotation.check()
    except BenchError as error:
        return str(error)
    return ""


@contextmanager
def _failures() -> Iterator[None]:
    """Turn what a library raises into a case that failed or did not fit, so that the others go on."""
    try:
        yield
    except UnmeasurableError:
        raise
    except Exception as error:
        raise unmeasurable(error) from error


def _call(runner: Runner, model: Classifier, x: Tensor, part: Part) -> Callable[[], Tensor]:
    """Return the call that is timed: the head on features, or backbone and head on images."""
    if part == "head":
        return lambda: runner(x)

    def classify() -> Tensor:
        with torch.inference_mode():
            features = model.features(x)
        return runner(features)

    return classify


def _check(logits: Tensor, given: _Input) -> dict[str, Any]:
    """Return the fields of the equivalence gate; raises `UnmeasurableError` for wrong logits."""
    features = given.features
    if given.checked is not None:
        logits, features = logits[given.checked], features[given.checked]
    found = deviation(logits, given.expected, features)
    fields = {
        "checked_rows": None if given.checked is None else len(given.checked),
        "error": found.error if math.isfinite(found.error) else None,
        "tolerance": found.tolerance,
        "ambiguous_rows": found.ambiguous_rows,
    }
    if found.acceptable:
        return fields
    reason = (
        f"logits deviate by {found.error:.2g} where {found.tolerance:.2g} is allowed, "
        f"with {found.ambiguous_rows} of {found.rows} rows too close to call"
    )
    raise UnmeasurableError(Status.WRONG, reason, **fields)


def _rows_per_expert(head: Head, features: Tensor) -> list[int]:
    """Return how many assignments each expert gets (E,), nothing for a dense head."""
    if isinstance(head, DenseHead):
        return []
    return head.routing(features).load().tolist()


def _finished(entry: _Entry, after: dict[str, Any], unproven: str) -> Outcome:
    failure = entry.timed.failure or unproven
    if failure:
        return Outcome(case_record(entry.case, entry.fields, entry.step, status=Status.FAILED, reason=failure))
    done = {**entry.fields, **after, "blocks": entry.timed.blocks, "status": Status.MEASURED}
    return Outcome(case_record(entry.case, done, entry.step), tuple(entry.timed.samples))
