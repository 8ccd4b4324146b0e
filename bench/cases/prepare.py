"""Preparing a case: the rows it gets, its form made ready, its logits held to the float64 reference.

Letters: N rows, D input width, E experts, C output width.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from bench.cases.unmeasurable import UnmeasurableError, unmeasurable
from bench.correctness.equivalence import deviation, head_reference
from bench.correctness.reference import Reference
from bench.forms import Form, Runner, form
from bench.subjects.skew import unsteerable
from bench.subjects.workloads import Case, Part, Shape, Subject, input_rows, working_set
from bench.timing import environment
from bench.timing.clock import Call, synchronise
from bench.timing.memory import peak_memory
from models.classifier.classifier import Classifier
from models.heads.cost import flops
from models.heads.dense import DenseHead
from models.heads.heads import Head
from reports.records.record import Status

MEMORY_SHARE = 0.6
"""Share of the free memory that a case may be expected to take."""
REFERENCE_FLOPS, LEAST_CHECKED = 2e10, 16
"""Operations of the float64 reference beyond which it computes a sample of the rows, of so many at least."""


@dataclass(frozen=True)
class Input:
    """What the measured part takes, features or images, the features behind it, and the logits they must give.

    These are known of the `checked` rows (n,), or of all N where that is None.
    """

    x: Tensor
    features: Tensor  # (N, D)
    expected: Reference
    checked: Tensor | None


@dataclass(frozen=True)
class Prepared:
    """A runner found right, the call that is timed, and what its record says.

    `spent` is the seconds of its preparation; `before`, untimed, precedes every timed call where it is given.
    """

    runner: Runner
    call: Call
    fields: dict[str, Any]
    spent: float
    before: Call | None = None


def inputs(subject: Subject, shape: Shape, seed: int) -> Input:
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
        return Input(
            x, features, head_reference(model.head, features if checked is None else features[checked]), checked
        )


def _checked(head: Head, features: Tensor) -> Tensor | None:
    """Return which rows (n,) of features (N, D) the reference computes, None for all.

    A sample of them where all would take it minutes and no row's logits depend on another's.
    """
    N, config = len(features), head.config
    rows = int(REFERENCE_FLOPS / max(1, flops(config, 1).total))
    if config.batch_coupled or rows >= N:
        return None
    chosen: Tensor = torch.linspace(0, N - 1, max(LEAST_CHECKED, rows), device=features.device).long().unique()
    return chosen


def prepare(case: Case, given: Input, *, memory: bool) -> Prepared:
    """Return a case made ready: available, prepared, equal to the reference, with `memory` its peak known.

    Raises `UnmeasurableError` where it cannot be.
    """
    chosen, shape = form(case.form), case.shape
    model = case.subject.on(shape.device, shape.dtype)
    head: Head = model.head
    reason = chosen.unavailable(head.config, shape.device, shape.dtype) or chosen.untimeable(shape.device)
    if reason is not None:
        raise UnmeasurableError(Status.UNAVAILABLE, reason)
    with _failures(), torch.inference_mode():
        start = time.perf_counter()
        runner, reused_s = _runner(case.subject, chosen, head, given.features)
        call = partial(call_of(runner, model, shape.part), given.x)
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
        if memory and chosen.memory_seen:
            fields["peak_memory"] = peak_memory(call, shape.device)
        return Prepared(runner, call, fields, spent)


def _runner(subject: Subject, chosen: Form, head: Head, features: Tensor) -> tuple[Runner, float]:
    """Return the form's runner for as many rows, and the seconds of its preparation that were paid before."""
    key = (chosen.name, *features.shape, features.dtype, features.device)
    if key in subject.runners:
        return subject.runners[key]
    start = time.perf_counter()
    runner = chosen.prepare(head, features)
    if chosen.reusable:
        subject.runners[key] = runner, time.perf_counter() - start + runner.reused_s
    return runner, runner.reused_s


@contextmanager
def _failures() -> Iterator[None]:
    """Turn what a library raises into a case that failed or did not fit, so that the others go on."""
    try:
        yield
    except UnmeasurableError:
        raise
    except Exception as error:
        raise unmeasurable(error) from error


def call_of(runner: Runner, model: Classifier, part: Part) -> Callable[[Tensor], Tensor]:
    """Return what is timed, given rows: the head on features, or backbone and head on images."""
    if part == "head":
        return runner

    def classify(x: Tensor) -> Tensor:
        with torch.inference_mode():
            features = model.features(x)
        return runner(features)

    return classify


def _check(logits: Tensor, given: Input) -> dict[str, Any]:
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
