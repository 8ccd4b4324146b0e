"""`moegap targets`: time our kernels beside their peers on one device and show which targets are met."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from bench.commands.shared import SeedOption, command_line, examples, on_interrupt, progress_bar

OUT = Path("runs/targets")
SECONDS, REHEARSED_SECONDS = {"cuda": 0.15, "cpu": 0.5}, 0.02
"""Sampling time per case."""
RESERVE = 5.0
"""Seconds kept for writing the table."""


@examples("moegap targets --minutes 8 --out runs/targets", "moegap targets --rehearse --minutes 2")
def targets(
    out: Annotated[Path, typer.Option(help="Folder for targets.json and targets.md.")] = OUT,
    minutes: Annotated[
        float, typer.Option(help="Begin nothing that is not expected to end within so many minutes.")
    ] = 8.0,
    rehearse: Annotated[
        bool, typer.Option("--rehearse", help="Try the script for a GPU on the CPU at reduced size; no verdicts.")
    ] = False,
    seed: SeedOption = 0,
) -> None:
    """Time our kernels beside their peers, check every output, and write which targets are met.

    On a GPU these are the Triton kernels, otherwise the native kernel for CPUs, where public layers
    take 16 GB of memory.
    The result grows group by group: after an interruption or at the end of the time, the same command measures what is
    missing. `moegap report` and `moegap account` read the result like any other.
    """
    import torch

    from bench.cases.result import ResultFile
    from bench.cases.resume import check_conditions, check_same_run
    from bench.errors import BenchError
    from bench.suites.targets import REHEARSAL, SUITE, cpu_plan, measure_targets, plan, rehearsal
    from reports.reading.files import read
    from reports.reading.load import gather
    from reports.records.files import alone, write
    from reports.targets.page import render, summary
    from reports.targets.run import runs

    if minutes <= 0:
        raise BenchError(f"--minutes must be above 0, not {minutes:g}")
    deadline = time.monotonic() + 60 * minutes - RESERVE
    device = torch.device("cuda" if torch.cuda.is_available() and not rehearse else "cpu")
    suite, contests = (REHEARSAL, rehearsal) if rehearse else (SUITE, plan if device.type == "cuda" else cpu_plan)
    with alone(out / "targets.json"):
        result = ResultFile.resume(out / "targets.json", command_line())
        records = result.records()
        check_conditions(result.path, records, device)
        check_same_run(result.path, records, suite)
        try:
            with (
                on_interrupt(lambda: f"{result.path} keeps what was measured; the same command continues"),
                progress_bar() as bar,
            ):
                task = bar.add_task("", total=1.0)
                pieces = measure_targets(
                    contests(),
                    suite,
                    device,
                    {record.case_id: record.status for record in records},
                    REHEARSED_SECONDS if rehearse else SECONDS[device.type],
                    seed,
                    deadline,
                    lambda what, share: bar.update(task, description=what, completed=share),
                    lambda line: bar.console.print(line, markup=False, soft_wrap=True),
                )
                result.extend(pieces)
        finally:
            written = gather(read([result.path])) if result.records() else None
            for run in runs(written) if written else ():
                write(out / "targets.md", render(run))
                typer.echo(summary(run))
                typer.echo(f"table: {out / 'targets.md'}")
            typer.echo(f"result: {result.path}")
