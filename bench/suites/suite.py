"""Suites: named sets of shapes to measure.

A suite is one entry of `SUITES`. A suite that is more than shapes has its own file: `targets`, `map`, `self_test` and
`policy_latency`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import torch

from bench.cases.case import Case, Shape
from bench.errors import BenchError
from bench.forms import default_forms, form
from bench.subjects.skew import SKEWS, Skew
from bench.subjects.subject import Subject, load_subjects, preset_subjects
from bench.timing.clock import clocks
from models import zoo

Heads = Literal["zoo", "paper", "public"]


@dataclass(frozen=True)
class Suite:
    """A named set of shapes, and the sampling time of a case.

    If no checkpoints are named, `heads` are measured: those of the zoo, the paper's heads, untrained, or the expert
    layers of public models (`bench.subjects.public_layers`). Heads alone are measured at `head_rows`, there also on
    rows made for each of `skews`, at `training_rows` forward and backward, and at `cold_rows` with cold caches. `forms`
    are measured unless others are named; if empty, the default ones.
    """

    name: str
    summary: str
    head_rows: tuple[int, ...]
    seconds_per_case: float
    heads: Heads = "zoo"
    classifier_rows: tuple[int, ...] = ()
    classifier_forms: tuple[str, ...] = ()
    skews: tuple[Skew, ...] = ()
    cold_rows: tuple[int, ...] = ()
    training_rows: tuple[int, ...] = ()
    forms: tuple[str, ...] = ()


SUITES = {
    suite.name: suite
    for suite in (
        Suite("demo", "a first answer in a few minutes", (1, 32, 256, 2048, 8192), 0.5, cold_rows=(256,)),
        Suite(
            "paper",
            "batch 256, the head alone and the whole classifier, with the columns of the paper's efficiency table",
            (256,),
            2.0,
            heads="paper",
            classifier_rows=(256,),
            classifier_forms=("eager",),
            cold_rows=(256,),
        ),
        Suite("batch", "1 to 65,536 rows", (1, 4, 16, 64, 256, 1024, 4096, 16384, 65536), 0.4),
        Suite(
            "routing",
            "every way of spreading rows over experts",
            (256, 4096),
            0.5,
            skews=("uniform", "zipf1", "zipf2", "hot", "one"),
        ),
        Suite(
            "models",
            "expert layers of public models, without the forms that unroll a hundred experts",
            (16, 1024),
            0.5,
            heads="public",
            forms=("loop", "eager", "grouped_mm", "native", "triton"),
        ),
    )
}


def suite_named(name: str) -> Suite:
    """Return the suite `name`, or raise `BenchError` naming those there are."""
    try:
        return SUITES[name]
    except KeyError:
        raise BenchError(f"unknown suite {name!r}; choose one of {', '.join(SUITES)}") from None


def adapted(suite: Suite, rows: Sequence[int], skews: Sequence[str], cold: bool, training: bool) -> Suite:
    """Return `suite` at other `rows` of heads alone, if any, with more routings.

    At all rows it also has `cold` caches, or `training`.

    Raises `BenchError` for an unknown routing.
    """
    for name in skews:
        if name not in SKEWS:
            raise BenchError(f"unknown routing {name!r}; choose one of {', '.join(SKEWS)}")
    head_rows = tuple(dict.fromkeys(rows)) or suite.head_rows
    return replace(
        suite,
        head_rows=head_rows,
        skews=tuple(skew for skew in SKEWS if skew in suite.skews or skew in skews),
        cold_rows=head_rows if cold else suite.cold_rows,
        training_rows=head_rows if training else suite.training_rows,
    )


def groups(
    suite: Suite,
    subjects: Sequence[Subject],
    form_names: Sequence[str],
    device: torch.device,
    dtypes: Sequence[torch.dtype],
) -> Iterator[list[Case]]:
    """Yield the suite's cases in groups that are measured interleaved, small shapes first."""
    for dtype in dtypes:
        for shape in _shapes(suite, device, dtype):
            names = [name for name in form_names if shape.part == "head" or name in suite.classifier_forms]
            yield [
                Case(subject, name, shape, clock) for subject in subjects for name in names for clock in clocks(device)
            ]


def _shapes(suite: Suite, device: torch.device, dtype: torch.dtype) -> Iterator[Shape]:
    for rows in suite.head_rows:
        yield Shape("head", rows, dtype, device)
        if rows in suite.training_rows:
            yield Shape("head", rows, dtype, device, passes="training")
        if rows in suite.cold_rows:
            yield Shape("head", rows, dtype, device, cache="cold")
        yield from (Shape("head", rows, dtype, device, skew) for skew in suite.skews)
    for rows in suite.classifier_rows:
        yield Shape("classifier", rows, dtype, device)


def chosen_forms(names: Sequence[str], suite: Suite | None = None) -> list[str]:
    """Return `names`, or the forms of `suite`, or the default forms; raises `BenchError` for an unknown one."""
    return [form(name).name for name in dict.fromkeys(names)] or list(suite.forms if suite else ()) or default_forms()


def chosen_subjects(suite: Suite, checkpoints: Sequence[Path]) -> list[Subject]:
    """Return the trained models of `checkpoints`, or the heads of `suite` if none are named; see `load_subjects`."""
    if checkpoints:
        return load_subjects(checkpoints)
    return load_subjects(zoo.checkpoints()) if suite.heads == "zoo" else preset_subjects()
