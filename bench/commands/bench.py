"""`moegap bench`: measure heads in every form and write a result, group by group."""

from __future__ import annotations

import math
import os
import shlex
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    Progress,
    TaskID,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from reports.records.record import CaseRecord, Status

if TYPE_CHECKING:
    import torch

    from bench.cases.case import Case
    from bench.cases.measure import Measured
    from bench.cases.result import Outcome, ResultFile
    from bench.subjects.workloads import Subject
    from bench.suites.suite import Suite
    from reports.records.record import Ceilings, Group

OUT = Path("runs/result.json")
SELF_TEST_OUT = Path("runs/self_test.json")
SELF_TEST_SECONDS = 1.0
"""Sampling time of each side of a comparison."""
INTERRUPTED = 130
SCALE = "scale"
"""The suite that is a map: it chooses what to measure by what it found."""
QUICK = 0.25
"""Share of a suite's sampling time that a quick run takes."""


def bench(
    checkpoints: Annotated[
        list[Path] | None,
        typer.Argument(
            help="Folders of trained models. Without any: those in models/zoo; for suite paper the paper's heads, "
            "untrained; for models and scale their own."
        ),
    ] = None,
    suite: Annotated[str, typer.Option(help="demo, paper, batch, routing, models or scale.")] = "demo",
    quick: Annotated[
        bool, typer.Option("--quick", help="A quarter of the sampling time; for scale a smaller map.")
    ] = False,
    form: Annotated[list[str] | None, typer.Option(help="A form; may be repeated. By default all.")] = None,
    rows: Annotated[
        list[int] | None, typer.Option(min=1, help="Rows of the head alone; may be repeated. By default the suite's.")
    ] = None,
    routing: Annotated[
        list[str] | None,
        typer.Option(help="Also rows made for balanced, uniform, zipf1, zipf2, hot or one; may be repeated."),
    ] = None,
    cold: Annotated[bool, typer.Option("--cold", help="Also measure with cold caches at all rows.")] = False,
    out: Annotated[Path, typer.Option(help="The result, a pytest-benchmark JSON file.")] = OUT,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with OUT; measure only what it lacks.")] = False,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    dtype: Annotated[list[str] | None, typer.Option(help="A dtype; may be repeated. By default float32.")] = None,
    threads: Annotated[
        int | None, typer.Option(min=1, help="Threads of a CPU. By default as many as torch finds cores.")
    ] = None,
    seconds: Annotated[
        float | None, typer.Option(min=0.01, help="Sampling time per case; by default the suite's.")
    ] = None,
    minutes: Annotated[
        float | None, typer.Option(min=0.1, help="After these no new shape begins; the rest is left to --resume.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Decides input rows and the order within blocks.")] = 0,
    self_test: Annotated[
        bool,
        typer.Option("--self-test", help="Measure no head for its own sake: compare code with itself, many times."),
    ] = False,
    busy: Annotated[bool, typer.Option("--busy", help="With --self-test: beside a process busy on one core.")] = False,
    comparisons: Annotated[int, typer.Option(min=1, help="With --self-test: how many.")] = 204,
) -> None:
    """Measure heads in every form that runs here, and what the machine could do.

    All forms of one shape are measured interleaved, in randomly ordered blocks, after their logits agreed with a
    float64 reference; a form that can be split is timed in growing parts beside. The result is written after every
    shape, so an interrupted run loses at most one.
    """
    import torch

    from bench.errors import BenchError
    from bench.subjects.workloads import chosen_dtypes
    from bench.suites.suite import adapted, chosen_forms, suite_named
    from bench.timing.cold_start import empty_compiler_caches
    from models.device import pick_device

    if threads is not None:
        torch.set_num_threads(threads)
    if self_test:
        _self_test(comparisons, seconds or SELF_TEST_SECONDS, pick_device(device), seed, busy, out)
        return
    if busy:
        raise BenchError("--busy belongs to --self-test; add it, or leave --busy out")
    if suite == SCALE:
        if checkpoints or rows or routing or cold:
            raise BenchError(
                "suite scale chooses heads and rows itself; leave checkpoints, --rows, --routing and --cold out"
            )
        measure, forms = _measure_map, chosen_forms(form or ())
    else:
        chosen = adapted(suite_named(suite), rows or (), routing or (), cold)
        measure, forms = partial(_measure_suite, chosen, checkpoints or ()), chosen_forms(form or (), chosen)
    deadline = time.monotonic() + 60 * minutes if minutes else math.inf
    run = _Run(pick_device(device), chosen_dtypes(dtype or ()), forms, seconds, seed, quick, deadline)
    result = _result(out, resume)
    start, groups = time.perf_counter(), len(result.groups())
    try:
        with progress_bar() as bar, empty_compiler_caches():
            measure(run, result, bar)
    except KeyboardInterrupt:
        typer.echo(f"stopped: {out} keeps {len(result.cases())} cases; go on with --resume", err=True)
        raise typer.Exit(INTERRUPTED) from None
    records = result.records()
    if not any(record.status is Status.MEASURED for record in records):
        raise BenchError(f"nothing could be measured, as {out} says in full; first of all, {records[0].reason}")
    if measured := result.groups()[groups:]:
        typer.echo(_spent(measured, run.on_ceilings, time.perf_counter() - start))
    _summarise(out)
    typer.echo(f"result: {out}")


def _summarise(out: Path) -> None:
    """Say of each soft and sparse head in `out` what was promised, attainable and realised."""
    from reports.account import text as account_text
    from reports.break_even import page as break_even_page
    from reports.break_even.map import maps
    from reports.reading.load import load
    from reports.speed.analysis import analyse

    analysis = analyse(load([out]))
    frontiers = [sentence for finding in break_even_page.findings(maps(analysis)) for sentence in finding.sentences]
    told = list(account_text.speedups(analysis))
    for line in [*told, *frontiers]:
        typer.echo(line)
    if told:
        typer.echo(f"where the time of each form went: moegap account {shlex.quote(str(out))}")


def _self_test(comparisons: int, seconds: float, device: torch.device, seed: int, busy: bool, out: Path) -> None:
    """Compare code with itself, write the samples to `out`, and say what the verdicts were worth."""
    from bench.cases.self_test import self_test
    from bench.errors import BenchError
    from models.storage import make_folder
    from reports.noise import self_test as report

    out = SELF_TEST_OUT if out == OUT else out
    if out.exists():
        raise BenchError(f"{out} exists already; choose another --out")
    make_folder(out.parent)
    with progress_bar() as bar:
        task = bar.add_task(f"{comparisons} comparisons", total=1.0)
        found = self_test(comparisons, seconds, device, seed, partial(_advance, bar, task), busy=busy)
    found.write(out, shlex.join(["moegap", *sys.argv[1:]]))
    for line in report.lines(report.load(out)):
        typer.echo(line)
    typer.echo(f"self-test: {out}")


@dataclass
class _Run:
    """What was asked for, whatever is measured; `on_ceilings` is the seconds spent on these so far.

    From `deadline` on, a moment of `time.monotonic`, nothing new begins.
    """

    device: torch.device
    dtypes: Sequence[torch.dtype]
    forms: list[str]
    seconds: float | None
    seed: int
    quick: bool
    deadline: float
    ceilings: dict[torch.dtype, Ceilings] = field(default_factory=dict)
    on_ceilings: float = 0.0

    def measure_ceilings(self, dtypes: Sequence[torch.dtype], result: ResultFile, bar: Progress) -> None:
        """Measure what the machine can do in each of `dtypes` that was not yet, into `result`."""
        from bench.timing.ceilings import measure_ceilings

        start = time.perf_counter()
        for dtype in dtypes:
            if dtype not in self.ceilings:
                task = bar.add_task("what the machine can do", total=None)
                self.ceilings[dtype] = measure_ceilings(self.device, dtype)
                bar.remove_task(task)
                result.add_ceilings(self.ceilings[dtype])
        self.on_ceilings += time.perf_counter() - start


def _result(out: Path, resume: bool) -> ResultFile:
    from bench.cases.result import ResultFile
    from models.storage import make_folder

    make_folder(out.parent)
    command = shlex.join(["moegap", *(argument for argument in sys.argv[1:] if argument != "--resume")])
    return ResultFile.resume(out, command) if resume else ResultFile.create(out, command)


def _measure_suite(suite: Suite, checkpoints: Sequence[Path], run: _Run, result: ResultFile, bar: Progress) -> None:
    """Measure what `result` lacks of a suite."""
    from bench.cases.measure import measure_group
    from bench.suites.suite import groups

    per_case = suite.seconds_per_case * (QUICK if run.quick else 1.0) if run.seconds is None else run.seconds
    measure = partial(measure_group, suite=suite.name, seconds=per_case, seed=run.seed)
    batches = iter(_batches(suite, checkpoints, run.device, run.dtypes))
    while batch := next(batches, None):
        subjects, dtypes = batch
        wanted = list(groups(suite, subjects, run.forms, run.device, dtypes))
        missing = _missing(result, wanted, subjects, run.device)
        if missing:
            run.measure_ceilings(dtypes, result, bar)
        bar.console.print(_announcement(wanted, missing, per_case, list(run.ceilings.values())), soft_wrap=True)
        if not _measure(missing, measure, result, bar, run.deadline):
            bar.console.print("time is up; go on with --resume")
            return
        del batch, subjects, wanted, missing  # so that no two models are in memory at a time


def _measure_map(run: _Run, result: ResultFile, bar: Progress) -> None:
    """Measure what `result` lacks of the break-even map."""
    from bench.suites.break_even import map_grid
    from bench.suites.map import measure_map

    _check_conditions(result, result.records(), run.device)
    grid = map_grid(quick=run.quick, device=run.device.type)
    seconds = grid.seconds if run.seconds is None else run.seconds
    bar.console.print(
        f"{len(grid.cells)} sparse heads of {len(grid.layers)} layers against dense ones, by bisection"
        + (f"; this takes at most {grid.most_seconds / 60:.0f} min" if grid.most_seconds else ""),
        soft_wrap=True,
    )
    run.measure_ceilings(run.dtypes, result, bar)
    task = bar.add_task("break-even map", total=1.0)
    measure_map(
        grid,
        run.forms,
        run.device,
        run.dtypes,
        seconds,
        run.seed,
        result,
        lambda place, share: bar.update(task, description=place, completed=share),
        min(run.deadline, time.monotonic() + (grid.most_seconds or math.inf) - run.on_ceilings),
        lambda line: bar.console.print(escape(line), soft_wrap=True),
    )


def _batches(
    suite: Suite, checkpoints: Sequence[Path], device: torch.device, dtypes: Sequence[torch.dtype]
) -> Iterable[tuple[list[Subject], Sequence[torch.dtype]]]:
    """Return the subjects that are in memory at a time, with the dtypes they are measured in."""
    from bench.suites.suite import chosen_subjects

    if suite.heads != "public" or checkpoints:
        return [(chosen_subjects(suite, checkpoints), dtypes)]
    return _one_at_a_time(device, dtypes)


def _one_at_a_time(
    device: torch.device, dtypes: Sequence[torch.dtype]
) -> Iterator[tuple[list[Subject], Sequence[torch.dtype]]]:
    """Yield the heads of one public model after another, and keep none."""
    from bench.subjects import public_layers

    for dtype in dtypes:
        pairs = public_layers.subjects(device, dtype)
        while pair := next(pairs, None):
            yield pair, [dtype]
            del pair


def _measure(
    missing: Sequence[list[Case]],
    measure: Callable[..., Measured],
    result: ResultFile,
    bar: Progress,
    deadline: float,
) -> bool:
    """Measure group after group into `result`, and return whether that was all before `deadline`."""
    total = bar.add_task("all shapes", total=len(missing))
    for number, cases in enumerate(missing):
        if time.monotonic() >= deadline:
            return False
        current = bar.add_task(_shape(cases), total=1.0)
        outcomes, group = measure(cases, progress=partial(_advance, bar, current))
        result.add(outcomes, group)
        bar.remove_task(current)
        bar.update(total, completed=number + 1)
        _report_group(bar.console, _shape(cases), outcomes)
    bar.remove_task(total)
    return True


def _shape(cases: Sequence[Case]) -> str:
    shape = cases[0].shape
    made = f", {shape.skew} routing" if shape.skew else ""
    cold = ", cold caches" if shape.cache == "cold" else ""
    return (
        f"{shape.part}, {shape.rows:,} rows, {shape.dtype}".replace("torch.", "") + f", {shape.device.type}{made}{cold}"
    )


def _spent(groups: Sequence[Group], ceilings: float, wall: float) -> str:
    """Return how the time of a run was spent, in one sentence."""
    sampling, cold = sum(group.sampling for group in groups), sum(group.cold_start for group in groups)
    rest = max(0.0, wall - sampling - cold - ceilings)
    return (
        f"{wall:.0f} s: {sampling / wall:.0%} inside timed calls, {cold / wall:.0%} preparing forms and "
        f"{ceilings / wall:.0%} on ceilings, which are measured too, {rest / wall:.0%} on checks and the rest"
    )


def _missing(
    result: ResultFile, wanted: Sequence[list[Case]], subjects: Sequence[Subject], device: torch.device
) -> list[list[Case]]:
    """Return the groups without the cases that `result` holds; what failed or did not fit is tried again.

    Raises `BenchError` where the result is of other weights or was measured under other conditions.
    """
    from bench.errors import BenchError

    records = result.records()
    _check_conditions(result, records, device)
    weights = {subject.name: subject.weights_sha256 for subject in subjects}
    shrunk = {subject.name: subject.shrunk for subject in subjects}
    for record in records:
        if weights.get(record.checkpoint, record.weights_sha256) != record.weights_sha256:
            raise BenchError(f"{result.path} measured other weights of {record.checkpoint}; choose another --out")
        if shrunk.get(record.checkpoint, record.shrunk) != record.shrunk:
            raise BenchError(
                f"{result.path} measured {record.checkpoint} with {record.shrunk or 'all its widths'}, for which the "
                "free memory is another now; choose another --out"
            )
    known = {record.case_id: record for record in records}
    remaining = ([case for case in group if not _is_done(case, known.get(case.id))] for group in wanted)
    return [group for group in remaining if group]


def _check_conditions(result: ResultFile, records: Iterable[CaseRecord], device: torch.device) -> None:
    """Raise `BenchError` where the `records` of `result` were measured on `device` under other conditions than now."""
    from bench.errors import BenchError

    for record in records:
        if record.device == device.type and (change := _changed(record, device)):
            raise BenchError(f"{result.path} was measured with {change}; choose another --out")


def _changed(record: CaseRecord, device: torch.device) -> str:
    """Return what of the conditions of `record` is no longer so, as `then, not now`; "" where nothing changed."""
    import torch

    from bench.timing.environment import versions
    from models.device import device_name

    wait = os.environ.get("OMP_WAIT_POLICY", "")
    now = {
        "device": device_name(device),
        "threads": str(torch.get_num_threads()),
        "OMP_WAIT_POLICY": wait,
        **versions(),
    }
    then = {
        "device": record.device_name,
        "threads": str(record.threads),
        "OMP_WAIT_POLICY": record.thread_wait,
        **record.versions,
    }
    changes = [f"{name} {then[name]}, not {now[name]}" for name in now if name in then and then[name] != now[name]]
    return changes[0] if changes else ""


def _is_done(case: Case, record: CaseRecord | None) -> bool:
    """Return whether another try of `case` would bring nothing new."""
    from bench.forms import form

    if record is None or record.status in (Status.FAILED, Status.SKIPPED):
        return False
    if record.status is not Status.UNAVAILABLE:
        return True
    chosen, shape = form(case.form), case.shape
    refused = chosen.unavailable(case.subject.head.config, shape.device, shape.dtype)
    return bool(refused or chosen.untimeable(shape.device))


def _announcement(
    wanted: Sequence[list[Case]], missing: Sequence[list[Case]], seconds: float, ceilings: Sequence[Ceilings]
) -> str:
    """Return how much there is to do and about how long it will take."""
    from bench.cases.estimate import estimated_seconds

    cases, all_cases = sum(map(len, missing)), sum(map(len, wanted))
    if not cases:
        return f"all {all_cases} cases are there already"
    resumed = f", {all_cases - cases} of {all_cases} are there already" if cases < all_cases else ""
    minutes = estimated_seconds(missing, seconds, ceilings) / 60
    shapes = f"{len(missing)} shape{'s' if len(missing) > 1 else ''}"
    return f"{cases} cases at {shapes}{resumed}; this takes about {max(1, round(minutes))} min"


def _advance(bar: Progress, task: TaskID, share: float) -> None:
    bar.update(task, completed=share)


def progress_bar() -> Progress:
    """Return a bar that vanishes when it is done."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=Console(highlight=False),
        transient=True,
    )


def _report_group(console: Console, shape: str, outcomes: Sequence[Outcome]) -> None:
    """Print the median over blocks of every form at one shape, and what went wrong.

    A form that cannot run here is no news.
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
