"""`moegap bench`: measure heads in every form and write a result, group by group."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from bench import early
from bench.commands.measurement import Measurement, measurement
from bench.commands.shared import (
    DeviceOption,
    DtypesOption,
    FormsOption,
    MinutesOption,
    ResultOption,
    ResumeOption,
    SeedOption,
    ThreadsOption,
    examples,
)
from bench.errors import BenchError
from reports.records.record import Status

if TYPE_CHECKING:
    import torch
    from rich.console import Console

    from bench.cases.case import Case
    from bench.cases.measure import Measured
    from bench.cases.result import Outcome
    from bench.subjects.subject import Subject
    from bench.suites.suite import Suite

OUT = Path("runs/result.json")
MAP_SUITE = "scale"
"""The suite of `moegap map`, where each result decides the next shape."""
QUICK = 0.25
"""Share of a suite's sampling time that a quick run takes."""


def _suite(name: str) -> str:
    """Return the name of a suite; raises `BenchError` for that of the map, and `ConfigError` for any other."""
    if name == MAP_SUITE:
        raise BenchError("the break-even map is not a suite of `moegap bench`; use `moegap map`")
    return early.one_of("suite", early.SUITES)(name)


@examples(
    "moegap bench",
    "moegap bench --suite demo --out runs/demo.json --resume",
    "moegap bench --suite batch --quick --form loop --form grouped_mm",
    "moegap bench --suite paper --training",
    "moegap bench runs/sparse runs/dense --rows 256 --routing zipf1 --cold",
    "moegap bench --suite models --device cuda --dtype bfloat16 --minutes 5",
    "moegap bench --suite models --rows 16 --form triton --form triton_mxfp4 --device cuda --dtype bfloat16",
)
def bench(
    checkpoints: Annotated[
        list[Path] | None,
        typer.Argument(
            help="Folders of trained models. By default those in models/zoo; for the suite paper the paper's untrained "
            "heads; for the suite models the expert layers of public models.",
            callback=early.checked_checkpoints,
        ),
    ] = None,
    suite: Annotated[
        str,
        typer.Option(help="demo, paper, batch, routing or models.", callback=_suite),
    ] = "demo",
    quick: Annotated[bool, typer.Option("--quick", help="A quarter of the sampling time.")] = False,
    form: FormsOption = None,
    rows: Annotated[
        list[int] | None,
        typer.Option(min=1, max=2**31 - 1, help="Rows of the head alone; may be repeated. By default the suite's."),
    ] = None,
    routing: Annotated[
        list[str] | None,
        typer.Option(
            help="Also measure rows made for a routing: balanced, uniform, zipf1, zipf2, hot or one; may be repeated.",
            callback=early.one_of("routing", early.SKEWS),
        ),
    ] = None,
    cold: Annotated[bool, typer.Option("--cold", help="Also measure with cold caches at all rows.")] = False,
    training: Annotated[
        bool, typer.Option("--training", help="Also measure forward and backward, with all gradients, at all rows.")
    ] = False,
    out: ResultOption = OUT,
    resume: ResumeOption = False,
    device: DeviceOption = "auto",
    dtype: DtypesOption = None,
    threads: ThreadsOption = None,
    seconds: Annotated[
        float | None, typer.Option(min=0.01, help="Sampling time per case. By default the suite's.")
    ] = None,
    minutes: MinutesOption = None,
    seed: SeedOption = 0,
) -> None:
    """Measure heads in every form that runs here, and what the machine can do.

    First the outputs of every form are checked against a float64 reference. Then all forms of one shape are timed
    interleaved, in randomly ordered blocks. A form that can be split is also timed in growing parts. The result is
    written after every shape, so an interrupted run loses at most one.
    """
    early.check_new(out, resume=resume)
    from bench.suites.suite import adapted, chosen_forms, suite_named

    chosen = adapted(suite_named(suite), rows or (), routing or (), cold, training)
    per_case = chosen.seconds_per_case * (QUICK if quick else 1.0) if seconds is None else seconds
    forms = chosen_forms(form or (), chosen)
    with measurement(out, resume, device, dtype or (), threads, minutes) as run:
        _measure_suite(chosen, checkpoints or (), forms, per_case, seed, run)


def _measure_suite(
    suite: Suite, checkpoints: Sequence[Path], forms: list[str], seconds: float, seed: int, run: Measurement
) -> None:
    """Measure the cases of a suite that the result lacks, with `seconds` of sampling each."""
    from bench.cases.measure import measure_group
    from bench.cases.resume import missing_cases
    from bench.suites.suite import groups

    measure = partial(measure_group, suite=suite.name, seconds=seconds, seed=seed)
    batches = _batches(suite, checkpoints, run.device, run.dtypes)
    while batch := next(batches, None):
        subjects, dtypes = batch
        wanted = list(groups(suite, subjects, forms, run.device, dtypes))
        missing = missing_cases(run.result, wanted, subjects, run.device)
        if missing:
            run.measure_ceilings(dtypes)
        run.bar.console.print(_announcement(wanted, missing, seconds, run), soft_wrap=True)
        if not _measure(missing, measure, run):
            run.bar.console.print("time is up; continue with --resume")
            return
        del batch, subjects, wanted, missing  # so that only one model is in memory at a time


def _batches(
    suite: Suite, checkpoints: Sequence[Path], device: torch.device, dtypes: Sequence[torch.dtype]
) -> Iterator[tuple[list[Subject], Sequence[torch.dtype]]]:
    """Yield lists of subjects that are in memory together, each with the dtypes to measure; no public model is kept."""
    from bench.subjects import public_layers
    from bench.suites.suite import chosen_subjects

    if suite.heads != "public" or checkpoints:
        yield chosen_subjects(suite, checkpoints), dtypes
        return
    for dtype in dtypes:
        pairs = public_layers.subjects(device, dtype)
        while pair := next(pairs, None):
            yield pair, [dtype]
            del pair


def _measure(missing: Sequence[list[Case]], measure: Callable[..., Measured], run: Measurement) -> bool:
    """Measure group after group into the result, and return whether all were done before the deadline."""
    total = run.bar.add_task("all shapes", total=len(missing))
    for cases in missing:
        if time.monotonic() >= run.deadline:
            return False
        words = cases[0].shape.in_words
        current = run.bar.add_task(words, total=1.0)
        outcomes, group = measure(cases, progress=lambda share, task=current: run.bar.update(task, completed=share))
        run.result.add(outcomes, group)
        run.bar.remove_task(current)
        run.bar.advance(total)
        _report_group(run.bar.console, words, outcomes)
    run.bar.remove_task(total)
    return True


def _announcement(wanted: Sequence[list[Case]], missing: Sequence[list[Case]], seconds: float, run: Measurement) -> str:
    """Return how much there is to do and about how long it takes."""
    from bench.cases.estimate import estimated_seconds
    from reports.numbers.units import plural

    cases, all_cases = sum(map(len, missing)), sum(map(len, wanted))
    if not cases:
        return f"the result has all {all_cases} cases already"
    resumed = f", the result has {all_cases - cases} of {all_cases} already" if cases < all_cases else ""
    minutes = estimated_seconds(missing, seconds, list(run.ceilings.values())) / 60
    return f"{cases} cases at {plural(len(missing), 'shape')}{resumed}; this takes about {max(1, round(minutes))} min"


def _report_group(console: Console, shape: str, outcomes: Sequence[Outcome]) -> None:
    """Print the median over blocks of every form at one shape, and every failure.

    A form that cannot run here is not mentioned.
    """
    from bench.timing.blocks import block_medians

    console.print(shape)
    for outcome in outcomes:
        record = outcome.record
        name = escape(f"  {record.checkpoint:<12} {record.form:<12} {record.clock:<6}")
        if record.status is Status.MEASURED and not record.step:
            middle = median(block_medians(outcome.samples, record.blocks).values())
            console.print(f"{name} {middle * 1e6:>12,.1f} µs   n = {len(outcome.samples)}")
        elif record.status not in (Status.MEASURED, Status.UNAVAILABLE):
            console.print(f"{name} {record.step} {record.status}: {escape(record.reason)}")
