"""Measuring a group: every form of one shape, interleaved in randomly ordered blocks.

Letters: N rows, D input width, E experts, C output width.
"""

from __future__ import annotations

import gc
import math
import random
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
import torch._dynamo.utils
from torch import Tensor

from bench import environment
from bench.clock import Call, synchronise, timed
from bench.equivalence import deviation, head_reference
from bench.errors import told
from bench.forms import Runner, form
from bench.memory import peak_memory
from bench.precision import exact_float32
from bench.reference import Reference
from bench.result import Outcome
from bench.unmeasurable import UnmeasurableError, unmeasurable
from bench.workloads import Case, Part, Shape, Subject, dtype_name, feature_rows, working_set
from models.classifier import Classifier
from models.config import DenseConfig, HeadConfig, SparseConfig
from models.cost import executed_experts, flops, least_bytes, parameters
from models.dense import DenseHead
from models.heads import Head
from reports.record import CaseRecord, Status

MOST_BLOCKS, LEAST_BLOCKS = 40, 8
MOST_CALLS = 25
"""Timed calls of one case within one block."""
WARM_UP_CALLS = 3
LONG = 0.5
"""Seconds of a call beyond which warming caches no longer matters; one warm-up call is then enough."""
MEMORY_SHARE = 0.6
"""Share of the free memory that a case may be expected to take."""

Progress = Callable[[float], None]
"""Called with the share of a group that is done, 0 to 1."""


@dataclass
class _Timed:
    """A case ready to be timed, and its samples so far."""

    case: Case
    call: Call
    fields: dict[str, Any]
    samples: list[float] = field(default_factory=list)
    blocks: list[int] = field(default_factory=list)
    quickest: float = float("inf")
    failure: str = ""


def measure_group(cases: Sequence[Case], suite: str, seconds: float, seed: int, progress: Progress) -> list[Outcome]:
    """Return what became of every case of one shape; those that can be timed are timed interleaved.

    `seconds` is the time for sampling per case; preparing and checking come on top.
    """
    exact_float32()
    shape = cases[0].shape
    shared = {"group_id": uuid.uuid4().hex[:12], "suite": suite, **environment.snapshot(shape.device)}
    outcomes: list[Outcome] = []
    ready: list[_Timed] = []
    inputs: dict[Subject, _Input] = {}
    runs = _by_runner(cases)
    for number, clocked in enumerate(runs):
        progress(0.5 * number / len(runs))
        subject = clocked[0].subject
        try:
            if subject not in inputs:
                inputs[subject] = _inputs(subject, shape, seed)
            prepared = _prepare(clocked[0], inputs[subject])
        except UnmeasurableError as reason:
            outcomes += [_unmeasured(case, shared, reason) for case in clocked]
        else:
            ready += [_Timed(case, prepared.call, {**shared, **prepared.fields}) for case in clocked]
    stopped_by = _sample(ready, seconds, random.Random(seed), lambda share: progress(0.5 + 0.5 * share))
    after = environment.gpu_state(shape.device)
    return outcomes + [_finished(timed_case, stopped_by, after) for timed_case in ready]


@dataclass(frozen=True)
class _Input:
    """What the measured part takes, features or images, the features behind it, and the logits they must give."""

    x: Tensor
    features: Tensor  # (N, D)
    expected: Reference


@dataclass(frozen=True)
class _Prepared:
    call: Call
    fields: dict[str, Any]


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
    with _failures(), torch.inference_mode():
        model = subject.on(shape.device, shape.dtype)
        if shape.part == "head":
            x = feature_rows(subject.features, subject.head.config.features, shape.rows, seed)
            features = x = x.to(shape.device, shape.dtype)
        else:
            images = torch.rand(shape.rows, *subject.images.shape, generator=torch.Generator().manual_seed(seed))
            x = images.to(shape.device, shape.dtype)
            features = model.features(x)
        return _Input(x, features, head_reference(model.head, features))


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
        runner = chosen.prepare(head, given.features)
        call = _call(runner, model, given.x, shape.part)
        logits = call()
        synchronise(shape.device)
        cold_start = time.perf_counter() - start + runner.reused_s
        rows_per_expert = _rows_per_expert(head, given.features)
        fields: dict[str, Any] = {
            "cold_start": cold_start,
            "runs_on": runner.runs_on,
            "rows_per_expert": rows_per_expert,
            **_check(logits, given),
            **(runner.work(rows_per_expert) if runner.work and shape.part == "head" else {}),
        }
        if chosen.memory_seen:
            fields["peak_memory"] = peak_memory(call, shape.device)
    return _Prepared(call, fields)


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
    found = deviation(logits, given.expected, given.features)
    fields = {
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


def _sample(ready: list[_Timed], seconds: float, rng: random.Random, progress: Progress) -> str:
    """Fill the samples of every case, block by block, and return what ended it."""
    calls = {id(item): _calls_per_block(item, seconds) for item in ready}
    budget, start = seconds * len(ready), time.perf_counter()
    with no_garbage_collection():
        for block in range(MOST_BLOCKS):
            gc.collect()
            order = [item for item in ready if not item.failure]
            rng.shuffle(order)
            for item in order:
                _take_block(item, block, calls[id(item)])
            spent = time.perf_counter() - start
            progress(min(1.0, max(spent / budget if budget else 1.0, (block + 1) / MOST_BLOCKS)))
            if spent >= budget and block + 1 >= LEAST_BLOCKS:
                return "time"
    return "blocks"


def _calls_per_block(item: _Timed, seconds: float) -> int:
    """Warm the case up and return how many calls give each of the blocks its share of `seconds`."""
    start = time.perf_counter()
    try:
        for _ in range(WARM_UP_CALLS):
            item.quickest = min(item.quickest, timed(item.call, item.case.clock, item.case.shape.device))
            if time.perf_counter() - start > LONG:
                break
    except Exception as error:
        item.failure = told(error)
        return 0
    return max(1, min(MOST_CALLS, int(seconds / MOST_BLOCKS / max(item.quickest, 1e-7))))


def _take_block(item: _Timed, block: int, calls: int) -> None:
    """Time `calls` calls, after an untimed one that brings the case's own data back into the caches if it is short."""
    device, compiled = item.case.shape.device, frames_compiled()
    try:
        if item.quickest < LONG:
            item.call()
        for _ in range(calls):
            item.samples.append(timed(item.call, item.case.clock, device))
            item.blocks.append(block)
    except Exception as error:
        item.failure = told(error)
    if frames_compiled() != compiled:
        item.failure = "torch.compile compiled again while the form was timed"


def frames_compiled() -> int:
    """Return how many frames torch.compile has looked at in this process."""
    return int(torch._dynamo.utils.counters["frames"]["total"])


@contextmanager
def no_garbage_collection() -> Iterator[None]:
    """Keep Python's garbage collector from running inside."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _finished(item: _Timed, stopped_by: str, gpu_state: dict[str, Any]) -> Outcome:
    if item.failure:
        return Outcome(_record(item.case, item.fields, status=Status.FAILED, reason=item.failure))
    sampling = {"blocks": item.blocks, "stopped_by": stopped_by, **gpu_state}
    return Outcome(_record(item.case, item.fields, status=Status.MEASURED, **sampling), tuple(item.samples))


def _unmeasured(case: Case, shared: dict[str, Any], why: UnmeasurableError) -> Outcome:
    return Outcome(_record(case, shared, **why.fields))


def _record(case: Case, fields: dict[str, Any], **more: Any) -> CaseRecord:
    """Return the record of `case`: what it is, what it costs, and what was found out."""
    counts = fields.get("rows_per_expert") or None
    return CaseRecord.model_validate({**_identity(case), **_cost(case, counts), **fields, **more})


def _identity(case: Case) -> dict[str, Any]:
    subject, shape, config = case.subject, case.shape, case.subject.head.config
    real = subject.features is not None and shape.part == "head"
    return {
        "case_id": case.id,
        "checkpoint": subject.name,
        "weights": subject.weights,
        "weights_sha256": subject.weights_sha256,
        "data": subject.data,
        "test_accuracy": subject.test_accuracy,
        "head": config.kind,
        "policy": config.policy if isinstance(config, SparseConfig) else "",
        "form": case.form,
        "part": shape.part,
        "backbone": subject.model.config.backbone.name,
        "rows": shape.rows,
        "features": config.features,
        "hidden": config.hidden,
        "experts": 1 if isinstance(config, DenseConfig) else config.experts,
        "k": most_experts(config),
        "classes": config.classes,
        "activation": config.activation,
        "dtype": dtype_name(shape.dtype),
        "device": shape.device.type,
        "clock": case.clock,
        "routing": "features" if real else "noise",
    }


def most_experts(config: HeadConfig) -> int:
    """Return how many experts a row may have at most."""
    if isinstance(config, SparseConfig) and config.policy == "expert_choice":
        return config.experts
    return executed_experts(config)


def _cost(case: Case, rows_per_expert: list[int] | None) -> dict[str, int | None]:
    """Return the counted cost of the part measured, with the most assignments there can be where none were counted."""
    subject, shape, config = case.subject, case.shape, case.subject.head.config
    assignments = None if rows_per_expert is None else sum(rows_per_expert)
    distinct_experts = None if rows_per_expert is None else sum(count > 0 for count in rows_per_expert)
    head_flops = flops(config, shape.rows, assignments).total
    if shape.part == "head":
        return {
            "assignments": assignments,
            "parameters": parameters(config),
            "flops": head_flops,
            "least_bytes": least_bytes(config, shape.rows, shape.dtype.itemsize, distinct_experts),
        }
    return {
        "assignments": assignments,
        "parameters": sum(value.numel() for value in subject.model.parameters()),
        "flops": head_flops + subject.backbone_flops * shape.rows,
        "least_bytes": None,
    }
