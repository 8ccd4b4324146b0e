"""`moegap targets`: time our kernels beside their peers on one GPU and show which targets are met."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bench.commands.shared import command_line, examples, on_interrupt, progress_bar

if TYPE_CHECKING:
    from bench.cases.result import ResultFile

OUT = Path("runs/targets")
SECONDS, REHEARSED_SECONDS = 0.15, 0.02
"""Sampling time per case."""
RESERVE = 5.0
"""Seconds kept for writing the table."""


@examples(
    "moegap targets --minutes 8 --out runs/targets",
    "moegap targets --rehearse --minutes 2",
)
def targets(
    out: Annotated[Path, typer.Option(help="Folder for targets.json and targets.md.")] = OUT,
    minutes: Annotated[
        float, typer.Option(help="Begin nothing that is not expected to end within so many minutes.")
    ] = 8.0,
    rehearse: Annotated[
        bool, typer.Option("--rehearse", help="Try the script on the CPU at reduced size; no verdicts.")
    ] = False,
    seed: Annotated[int, typer.Option(help="Decides input rows and the order within blocks.")] = 0,
) -> None:
    """Time our kernels beside their peers on a GPU, check every output, and write which targets are met.

    The result grows group by group: after an interruption or at the end of the time, the same command measures what is
    missing. `moegap report` and `moegap account` read the result like any other.
    """
    import torch

    from bench.cases.result import ResultFile
    from bench.errors import BenchError
    from bench.suites.targets import REHEARSAL, SUITE, measure_targets, plan, rehearsal
    from models.storage import make_folder

    if minutes <= 0:
        raise BenchError(f"--minutes must be above 0, not {minutes:g}")
    if not (rehearse or torch.cuda.is_available()):
        raise BenchError("targets needs a CUDA device and torch finds none; --rehearse tries the script on the CPU")
    deadline = time.monotonic() + 60 * minutes - RESERVE
    make_folder(out)
    result = ResultFile.resume(out / "targets.json", command_line())
    try:
        with (
            on_interrupt(lambda: f"{result.path} keeps what was measured; the same command continues"),
            progress_bar() as bar,
        ):
            task = bar.add_task("", total=1.0)
            measure_targets(
                rehearsal() if rehearse else plan(),
                REHEARSAL if rehearse else SUITE,
                torch.device("cpu" if rehearse else "cuda"),
                result,
                REHEARSED_SECONDS if rehearse else SECONDS,
                seed,
                deadline,
                lambda what, share: bar.update(task, description=what, completed=share),
                lambda line: bar.console.print(line, markup=False, soft_wrap=True),
            )
    finally:
        _write_table(result, out)


def _write_table(result: ResultFile, out: Path) -> None:
    """Write the table beside the result, and print it without the long lists below it."""
    from models.storage import write_atomically
    from reports.reading.load import load
    from reports.targets.page import render, summary
    from reports.targets.run import runs

    if result.records():
        (run,) = runs(load([result.path]))
        write_atomically(out / "targets.md", render(run).encode())
        typer.echo(summary(run))
        typer.echo(f"table: {out / 'targets.md'}")
    typer.echo(f"result: {result.path}")
