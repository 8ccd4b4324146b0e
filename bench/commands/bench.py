"""`moegap bench`: measure heads in every form and write a result, group by group."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Callable, Sequence
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

from reports.record import CaseRecord, Status

if TYPE_CHECKING:
    import torch

    from bench.result import Outcome, ResultFile
    from bench.workloads import Case, Subject

OUT = Path("runs/result.json")
INTERRUPTED = 130


def bench(
    checkpoints: Annotated[
        list[Path] | None,
        typer.Argument(
            help="Folders of trained models. Without any: those in models/zoo, or for suite paper the paper's heads, "
            "untrained."
        ),
    ] = None,
    suite: Annotated[str, typer.Option(help="demo, paper or batch.")] = "demo",
    form: Annotated[list[str] | None, typer.Option(help="A form; may be repeated. By default all.")] = None,
    out: Annotated[Path, typer.Option(help="The result, a pytest-benchmark JSON file.")] = OUT,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with OUT; measure only what it lacks.")] = False,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    dtype: Annotated[list[str] | None, typer.Option(help="A dtype; may be repeated. By default float32.")] = None,
    seconds: Annotated[
        float | None, typer.Option(min=0.01, help="Sampling time per case; by default the suite's.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Decides input rows and the order within blocks.")] = 0,
) -> None:
    """Measure heads in every form that runs here.

    All forms of one shape are measured interleaved, in randomly ordered blocks, after their logits agreed with a
    float64 reference. The result is written after every shape, so an interrupted run loses at most one.
    """
    from bench.cold_start import empty_compiler_caches
    from bench.errors import BenchError
    from bench.measure import measure_group
    from bench.result import ResultFile
    from bench.workloads import (
        chosen_dtypes,
        chosen_forms,
        chosen_subjects,
        groups,
        suite_named,
    )
    from models.device import pick_device
    from models.storage import make_folder

    chosen, place = suite_named(suite), pick_device(device)
    subjects = chosen_subjects(chosen, checkpoints or ())
    wanted = list(groups(chosen, subjects, chosen_forms(form or ()), place, chosen_dtypes(dtype or ())))
    make_folder(out.parent)
    command = shlex.join(["moegap", *(argument for argument in sys.argv[1:] if argument != "--resume")])
    result = ResultFile.resume(out, command) if resume else ResultFile.create(out, command)
    missing = _missing(result, wanted, subjects, place)
    per_case = chosen.seconds_per_case if seconds is None else seconds
    measure = partial(measure_group, suite=suite, seconds=per_case, seed=seed)
    try:
        _announce(wanted, missing, per_case)
        with progress_bar() as bar, empty_compiler_caches():
            _measure(missing, measure, result, bar)
    except KeyboardInterrupt:
        typer.echo(f"stopped: {out} keeps {len(result.records())} cases; go on with --resume", err=True)
        raise typer.Exit(INTERRUPTED) from None
    records = result.records()
    if not any(record.status is Status.MEASURED for record in records):
        raise BenchError(f"nothing could be measured, as {out} says in full; first of all, {records[0].reason}")
    typer.echo(f"result: {out}")


def _measure(
    missing: Sequence[list[Case]], measure: Callable[..., list[Outcome]], result: ResultFile, bar: Progress
) -> None:
    """Measure group after group into `result`, with a bar for all and one for the current shape."""
    total = bar.add_task("all shapes", total=len(missing))
    for number, cases in enumerate(missing):
        current = bar.add_task(f"{cases[0].shape.part}, {cases[0].shape.rows:,} rows", total=1.0)
        outcomes = measure(cases, progress=partial(_advance, bar, current))
        result.add(outcomes)
        bar.remove_task(current)
        bar.update(total, completed=number + 1)
        _report_group(bar.console, outcomes)


def _missing(
    result: ResultFile, wanted: Sequence[list[Case]], subjects: Sequence[Subject], device: torch.device
) -> list[list[Case]]:
    """Return the groups without the cases that `result` holds; what failed or did not fit is tried again.

    Raises `BenchError` where the result is of other weights or was measured under other conditions.
    """
    from bench.errors import BenchError

    weights = {subject.name: subject.weights_sha256 for subject in subjects}
    records = {record.case_id: record for record in result.records()}
    for record in records.values():
        if weights.get(record.checkpoint, record.weights_sha256) != record.weights_sha256:
            raise BenchError(f"{result.path} measured other weights of {record.checkpoint}; choose another --out")
        if record.device == device.type and (change := _changed(record, device)):
            raise BenchError(f"{result.path} was measured with {change}; choose another --out")
    remaining = ([case for case in group if not _is_done(case, records.get(case.id))] for group in wanted)
    return [group for group in remaining if group]


def _changed(record: CaseRecord, device: torch.device) -> str:
    """Return what of the conditions of `record` is no longer so, as `then, not now`; "" where nothing changed."""
    import torch

    from bench.environment import versions
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


def _announce(wanted: Sequence[list[Case]], missing: Sequence[list[Case]], seconds: float) -> None:
    """Say how much there is to do and about how long sampling may take; preparing and checking come on top."""
    cases, all_cases = sum(map(len, missing)), sum(map(len, wanted))
    if not cases:
        typer.echo(f"all {all_cases} cases are there already")
        return
    resumed = f", {all_cases - cases} of {all_cases} are there already" if cases < all_cases else ""
    typer.echo(f"{cases} cases at {len(missing)} shapes{resumed}; sampling takes up to {cases * seconds / 60:.0f} min")


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


def _report_group(console: Console, outcomes: Sequence[Outcome]) -> None:
    """Print the median of every form at one shape, and what went wrong; a form that cannot run here is no news."""
    first = outcomes[0].record
    console.print(f"{first.part}, {first.rows:,} rows, {first.dtype}, {first.device}")
    for outcome in outcomes:
        record = outcome.record
        name = escape(f"  {record.checkpoint:<12} {record.form:<12} {record.clock:<6}")
        if record.status is Status.MEASURED:
            console.print(f"{name} {median(outcome.samples) * 1e6:>12,.1f} us   n = {len(outcome.samples)}")
        elif record.status is not Status.UNAVAILABLE:
            console.print(f"{name} {record.status}: {escape(record.reason)}")
