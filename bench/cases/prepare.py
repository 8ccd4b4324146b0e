"""Preparing a case: make its rows, prepare its form, check its outputs against the float64 reference.

Letters: N rows, D input width, E experts, C output width.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass
from functools import partial
from itertools import cycle
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bench.cases.case import Case, Shape
from bench.cases.training import Backward, Trained, backward
from bench.correctness.equivalence import GRADIENT_TOLERANCE, deviation, head_reference, storage_error
from bench.correctness.reference import Reference, reference
from bench.errors import UnavailableError, first_line, message
from bench.forms import Form, Runner, form
from bench.subjects.skew import unsteerable
from bench.subjects.subject import Subject, input_rows, working_set
from bench.timing import environment
from bench.timing.caches import Rotation, copies_beyond, last_cache
from bench.timing.clock import Call, Longer, synchronise
from bench.timing.graphs import Graph, captured, longer, waits_for_device
from bench.timing.memory import peak_memory
from models.classifier.classifier import Classifier
from models.heads.cost import flops, least_bytes
from models.heads.dense import DenseHead
from models.heads.heads import Head
from reports.records.record import Status

MEMORY_SHARE = 0.6
"""Share of the free memory that a case may need."""
REFERENCE_FLOPS = {"cpu": 2e10, "cuda": 2e12}
"""Most operations of the float64 reference; with more it computes a sample of the rows.

A GPU is allowed a hundred times as many, because the reference takes the experts' products where the weights lie.
"""
GRADIENTS = 10
"""Times as many operations may be taken for gradients, which need all rows; with more a case of training is skipped."""
LEAST_CHECKED = 16
"""Rows of that sample, at least."""
MOST_COMPARED = 2**22
"""Most values compared if the output is not the head's."""
CHECKED_FLOPS = 10**6
"""A form that is never timed here, because an interpreter runs it, is still checked in calls of up to so many FLOPs."""

QUICK = 5.0
"""Seconds of preparation, by a guess for the first time, up to which a form is prepared for many copies."""

Check = Callable[[object], dict[str, Any]]


class UnmeasurableError(Exception):
    """Why a case gets no time, in one sentence; `fields` go into its record, `status` and `reason` too."""

    def __init__(self, status: Status, reason: str, **fields: Any) -> None:
        super().__init__(reason)
        self.fields = {"status": status, "reason": reason, **fields}


@dataclass(frozen=True)
class Input:
    """The input of the measured part: features or images, the features of these, and the outputs expected of them.

    Outputs are known for the `checked` rows (n,), or for all N if that is None. In training there is the `backward`.
    """

    x: Tensor
    features: Tensor  # (N, D)
    expected: Reference
    checked: Tensor | None
    backward: Backward | None = None


@dataclass(frozen=True)
class Prepared:
    """A runner that passed the equivalence gate, and the fields of its record.

    `run` is what is timed: from rows like `Input.x` to outputs, in training with gradients. `check` returns the gate's
    fields for an output, or raises `UnmeasurableError` for a wrong one. `spent` is the seconds of the preparation.
    """

    runner: Runner
    run: Callable[[Tensor], Tensor | Trained]
    check: Check
    fields: dict[str, Any]
    spent: float


def make_input(subject: Subject, shape: Shape, seed: int) -> Input:
    """Return the rows that every form of the subject gets; raises `UnmeasurableError` if the memory is too small."""
    needed = working_set(subject.head, shape.rows, shape.dtype, training=shape.training)
    free = environment.available_memory(shape.device)
    if needed > MEMORY_SHARE * free:
        raise UnmeasurableError(
            Status.SKIPPED, f"{shape.rows:,} rows may need {needed / 2**30:.1f} GiB and {free / 2**30:.1f} GiB are free"
        )
    if shape.skew and (reason := unsteerable(subject.head)):
        raise UnmeasurableError(Status.UNAVAILABLE, reason)
    if shape.training and flops(subject.head.config, shape.rows, training=True).total > reference_flops(shape):
        reason = f"the float64 reference of the gradients would take too long for {shape.rows:,} rows"
        raise UnmeasurableError(Status.SKIPPED, reason)
    with _failures(), torch.inference_mode(mode=not shape.training):
        model = subject.on(shape.device, shape.dtype)
        if shape.part == "head":
            features = x = input_rows(subject, shape.rows, shape.skew, seed).to(shape.device, shape.dtype)
        else:
            images = torch.rand(shape.rows, *subject.images.shape, generator=torch.Generator().manual_seed(seed))
            x = images.to(shape.device, shape.dtype)
            features = model.features(x)
        checked = _checked(subject.head, features, shape.training)
        expected = head_reference(model.head, features if checked is None else features[checked])
        learning = subject.learning(shape.device, shape.dtype) if shape.training else None
        return Input(x, features, expected, checked, backward(learning, x, expected, seed) if learning else None)


def reference_flops(shape: Shape) -> float:
    """Return the most operations that the reference of a case may take."""
    return REFERENCE_FLOPS[shape.device.type] * (GRADIENTS if shape.training else 1)


def _checked(head: Head, features: Tensor, training: bool) -> Tensor | None:
    """Return which rows (n,) of features (N, D) the reference computes, None for all.

    That is a sample if all rows would take too long and no row's logits depend on another row; never in training.
    """
    N, config = len(features), head.config
    rows = int(REFERENCE_FLOPS[features.device.type] / max(1, flops(config, 1).total))
    if training or config.batch_coupled or rows >= N:
        return None
    return _spread(N, max(LEAST_CHECKED, rows), features.device)


def check_possible(case: Case, deadline: float = math.inf) -> None:
    """Raise `UnmeasurableError` if the form cannot run here, or not be ready by `deadline`, a `time.monotonic`.

    A form that is never timed here passes if the case is small, so that it is at least checked.
    """
    chosen, shape, config = form(case.form), case.shape, case.subject.head.config
    if reason := case.unavailable:
        raise UnmeasurableError(Status.UNAVAILABLE, reason)
    operations = flops(config, shape.rows, training=shape.training).total
    if (reason := chosen.untimeable(shape.device)) and operations > CHECKED_FLOPS:
        raise UnmeasurableError(Status.UNAVAILABLE, reason)
    if time.monotonic() + chosen.setup > deadline:
        raise UnmeasurableError(Status.SKIPPED, f"no time left for the {chosen.setup:.0f} s that preparing it may take")


def prepare(case: Case, rows: Input, *, memory: bool) -> Prepared:
    """Return a possible case, prepared and equal to the reference; with `memory` its peak is measured too.

    Raises `UnmeasurableError` if the preparation fails or the outputs are wrong.
    """
    chosen, shape = form(case.form), case.shape
    model = case.subject.on(shape.device, shape.dtype)
    head: Head = model.head
    run: Callable[[Tensor], Tensor | Trained]
    with _failures(), torch.inference_mode(mode=not shape.training):
        start = time.perf_counter()
        runner, reused_s = _runner(case.subject, chosen, shape, rows.features)
        if rows.backward:
            run = rows.backward.call(runner, case.subject.learning(shape.device, shape.dtype))
        else:
            run = _call_of(runner, model, shape.part)
        spent = time.perf_counter() - start
        rows.features.new_full((shape.rows, head.config.classes), math.nan)  # an output not written shows this memory
        start = time.perf_counter()
        output = run(rows.x)
        synchronise(shape.device)
        spent += time.perf_counter() - start
        rows_per_expert = [] if isinstance(head, DenseHead) else head.routing(rows.features).load().tolist()
        check = _check(chosen, head, rows)
        fields: dict[str, Any] = {
            "cold_start": spent + reused_s,
            "runs_on": runner.runs_on,
            "rows_per_expert": rows_per_expert,
            **check(output),
            **(runner.work(rows_per_expert) if runner.work and shape.part == "head" else {}),
        }
        if rows.backward:
            check(run(rows.x))  # the upstream gradient has the other sign now, so gradients kept from above are wrong
        if reason := chosen.untimeable(shape.device):
            raise UnmeasurableError(Status.UNAVAILABLE, reason, **fields)
        if memory and chosen.memory_seen:
            fields["peak_memory"] = peak_memory(partial(run, rows.x), shape.device)
        return Prepared(runner, run, check, fields, spent)


def copies_of(case: Case, x: Tensor) -> Rotation:
    """Return the case's call on copies of rows and weights that together exceed the caches, each prepared anew.

    Raises `UnmeasurableError` if they do not fit, are too many, or take too long to prepare.
    """
    chosen, shape = form(case.form), case.shape
    if shape.part != "head" or shape.training or chosen.setup > QUICK:
        reason = f"preparing form {chosen.name} on many copies of a {shape.part} takes too long"
        raise UnmeasurableError(Status.UNAVAILABLE, reason)
    with _failures(), torch.inference_mode():
        head = case.subject.on(shape.device, shape.dtype).head
        size = sum(tensor.nbytes for tensor in (x, *head.parameters()))
        expert_bytes = chosen.expert_bytes(head.config, shape.dtype)
        read = least_bytes(head.config, len(x), x.itemsize, head.config.experts, expert_bytes=expert_bytes)
        copies = copies_beyond(read, last_cache(shape.device))
        if copies * size > MEMORY_SHARE * environment.available_memory(shape.device):
            raise UnmeasurableError(Status.SKIPPED, f"{copies} copies of rows and weights do not fit into the memory")
        rows = [x.clone() for _ in range(copies)]
        return Rotation(rows, lambda row: partial(chosen.prepare(deepcopy(head), row), row))


def replay_of(case: Case, prepared: Prepared, calls: Sequence[Call]) -> tuple[Graph, Longer | None]:
    """Return the calls in turn captured in a CUDA graph, and a longer graph, each checked in a replay over poison.

    With a flush before each sample there is no longer one, since only its first call would find the caches cold.

    Raises `UnmeasurableError` if the device has no graphs, no graph can hold the form, or the replay is wrong.
    """
    chosen, device = form(case.form), case.shape.device
    if device.type != "cuda":
        raise UnmeasurableError(Status.UNAVAILABLE, f"the clock graph needs a CUDA device, and this is a {device.type}")
    if not (chosen.capturable and chosen.memory_seen):  # another engine's work is in no graph of torch
        raise UnmeasurableError(Status.UNAVAILABLE, f"no CUDA graph can hold form {chosen.name}")
    with _failures(), torch.inference_mode():
        if waits_for_device(calls[0]):
            raise UnmeasurableError(
                Status.UNAVAILABLE, f"no CUDA graph can hold form {chosen.name}: its call waits for the device"
            )
        turns = cycle(calls)
        one = _checked_graph(captured(lambda: next(turns)(), len(calls)), prepared)
        if case.shape.cache == "cold":
            return one, None
        many, more = longer(lambda: next(turns)(), one, len(calls), device)
        _checked_graph(many, prepared)
        return one, more


def _checked_graph(graph: Graph, prepared: Prepared) -> Graph:
    """Return the graph after a replay that had to write its output."""
    if isinstance(graph.output, Tensor):
        graph.output.fill_(math.nan)
    prepared.check(graph())
    return graph


def _runner(subject: Subject, chosen: Form, shape: Shape, features: Tensor) -> tuple[Runner, float]:
    """Return the form's runner for so many rows, and the seconds of its preparation that an earlier case paid."""
    key = (chosen.name, shape.passes, *features.shape, features.dtype, features.device)
    if key in subject.runners:
        return subject.runners[key]
    start = time.perf_counter()
    if chosen.train and shape.training:
        runner = chosen.train(subject.learning(shape.device, shape.dtype), features)
    else:
        runner = chosen.prepare(subject.on(shape.device, shape.dtype).head, features)
    if chosen.reusable:
        subject.runners[key] = runner, time.perf_counter() - start + runner.reused_s
    return runner, runner.reused_s


@contextmanager
def _failures() -> Iterator[None]:
    """Turn any library's error into an `UnmeasurableError`, so that the other cases go on."""
    try:
        yield
    except UnmeasurableError:
        raise
    except UnavailableError as error:
        raise UnmeasurableError(Status.UNAVAILABLE, str(error)) from error
    except Exception as error:
        if isinstance(error, MemoryError | torch.OutOfMemoryError) or "can't allocate memory" in str(error):
            raise UnmeasurableError(Status.SKIPPED, f"out of memory: {first_line(error)}") from error
        raise UnmeasurableError(Status.FAILED, message(error)) from error


def _call_of(runner: Runner, model: Classifier, part: str) -> Callable[[Tensor], Tensor]:
    """Return what is timed: the head on features, or backbone and head on images."""
    if part == "head":
        return runner

    def classify(x: Tensor) -> Tensor:
        with torch.inference_mode():
            features = model.features(x)
        return runner(features)

    return classify


def _check(chosen: Form, head: Head, rows: Input) -> Check:
    """Return the check of a form's outputs against the head's, against the form's `expected`, or no check at all.

    Outputs of stored weights are held to those of the rounded weights, and the check also says how far these are off.
    """
    if chosen.computes == "nothing":
        return lambda output: {}
    expected, features, checked = rows.expected, rows.features, rows.checked
    stored: dict[str, Any] = {}
    if chosen.expected is not None:
        wanted = chosen.expected(head, features)
        checked = _spread(len(wanted), max(1, MOST_COMPARED // max(1, wanted[:1].numel())), wanted.device)
        wanted = wanted if checked is None else wanted[checked]
        expected = Reference(wanted.double().cpu().numpy(), np.zeros(len(wanted), dtype=bool))
    elif checked is not None:
        features = features[checked]
    if chosen.stored:
        expected = reference(head.config, chosen.stored.parameters(head), features)
        stored = {"storage_error": storage_error(expected, rows.expected)}

    def check(output: object) -> dict[str, Any]:
        result = output.output if isinstance(output, Trained) else output
        assert isinstance(result, Tensor)
        fields = stored | _gate(result if checked is None else result[checked], expected, features, checked)
        return _gradient_gate(output, rows, fields) if isinstance(output, Trained) else fields

    return check


def _spread(rows: int, most: int, device: torch.device) -> Tensor | None:
    """Return `most` of the rows, evenly spread, or None for all if there are no more."""
    if rows <= most:
        return None
    places: Tensor = torch.linspace(0, rows - 1, most, device=device).long().unique()
    return places


def _gate(outputs: Tensor, expected: Reference, features: Tensor, checked: Tensor | None) -> dict[str, Any]:
    """Return the fields of the equivalence gate; raises `UnmeasurableError` for wrong outputs."""
    measured = deviation(outputs, expected, features)
    fields = {
        "checked_rows": None if checked is None else len(checked),
        "error": measured.error if math.isfinite(measured.error) else None,
        "tolerance": measured.tolerance,
        "ambiguous_rows": measured.ambiguous_rows,
    }
    if measured.acceptable:
        return fields
    reason = (
        f"outputs deviate by {measured.error:.2g}, {measured.tolerance:.2g} is allowed, "
        f"with {measured.ambiguous_rows} of {measured.rows} rows too close to call"
    )
    raise UnmeasurableError(Status.WRONG, reason, **fields)


def _gradient_gate(result: Trained, rows: Input, fields: dict[str, Any]) -> dict[str, Any]:
    """Return `fields` with those of the gradients' gate; raises `UnmeasurableError` for a wrong gradient."""
    assert rows.backward is not None
    errors = rows.backward.deviations(result)
    worst = max(errors, key=errors.__getitem__)
    error, tolerance = errors[worst], GRADIENT_TOLERANCE[rows.x.dtype]
    known = error if math.isfinite(error) else None
    fields = {**fields, "gradient_error": known, "gradient_tolerance": tolerance}
    if error <= tolerance:
        return fields
    reason = f"the gradient of {worst} deviates by {error:.2g}, {tolerance:.2g} is allowed"
    raise UnmeasurableError(Status.WRONG, reason, **fields)
