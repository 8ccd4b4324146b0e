"""`moegap targets`: time our kernels beside their peers on one GPU and say which targets are met."""

from __future__ import annotations

import gc
import shlex
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bench.commands.shared import examples

if TYPE_CHECKING:
    import torch

    from bench.targets.file import TimingFile
    from bench.targets.plan import Group
    from reports.records.timing import Kind

OUT = Path("runs/targets")
INTERRUPTED = 130
SECONDS, REHEARSED_SECONDS = 0.15, 0.02
"""Sampling time per case."""
RESERVE = 5.0
"""Seconds kept for writing the table."""


@examples(
    "moegap targets --minutes 8 --out runs/targets",
    "moegap targets --rehearse --minutes 2",
    "moegap targets --predict",
)
def targets(
    out: Annotated[Path, typer.Option(help="Folder for targets.json and targets.md.")] = OUT,
    minutes: Annotated[
        float, typer.Option(help="Start nothing that is not expected to end within so many minutes.")
    ] = 8.0,
    rehearse: Annotated[
        bool, typer.Option("--rehearse", help="Try the script on the CPU at reduced size; no verdicts.")
    ] = False,
    predict: Annotated[
        bool, typer.Option("--predict", help="Measure nothing: fill the table from the cost model, for an H100.")
    ] = False,
    seed: Annotated[int, typer.Option(help="Decides the order within blocks.")] = 0,
) -> None:
    """Time our kernels beside their peers on a GPU, check every output, and write which targets are met.

    The result grows group by group: interrupted or out of time, give the same command again and it measures what is
    missing.
    """
    import torch

    from bench.errors import BenchError
    from bench.targets.plan import plan, rehearsal
    from models.storage import make_folder

    if minutes <= 0:
        raise BenchError(f"--minutes must be above 0, not {minutes:g}")
    if rehearse and predict:
        raise BenchError("--rehearse and --predict exclude each other; give one of them")
    if not (rehearse or predict or torch.cuda.is_available()):
        raise BenchError(
            "targets needs a CUDA device and torch finds none; --rehearse tries the script on the CPU, "
            "--predict fills the table from the cost model"
        )
    deadline = time.monotonic() + 60 * minutes - RESERVE
    make_folder(out)
    if predict:
        _predict(plan(), out)
        return
    device = torch.device("cpu" if rehearse else "cuda")
    kind: Kind = "rehearsal" if rehearse else "measured"
    _measure(rehearsal() if rehearse else plan(), device, kind, out, deadline, seed)


def _predict(groups: Sequence[Group], out: Path) -> None:
    """Write the table that the cost model expects."""
    from bench.targets.file import TimingFile
    from bench.targets.predictions import MACHINE, NOTES, predicted
    from bench.timing.environment import commit
    from reports.records.timing import TimingRun

    run = TimingRun(
        kind="predicted",
        command=_command(),
        environment={"predicted_for": MACHINE.name, **commit()},
        notes=[*NOTES, *_notes(groups)],
        timings=predicted(groups),
    )
    _write_table(TimingFile.predicted(out / "targets.json", run), out)


def _measure(groups: Sequence[Group], device: torch.device, kind: Kind, out: Path, deadline: float, seed: int) -> None:
    """Measure group after group until all are done or the time is up, then write the table."""
    from bench.targets.file import TimingFile
    from bench.timing.environment import snapshot
    from bench.timing.precision import exact_float32

    exact_float32()
    file = TimingFile.open(out / "targets.json", kind, _command(), snapshot(device), _notes(groups), groups)
    seconds = REHEARSED_SECONDS if kind == "rehearsal" else SECONDS
    try:
        _run(file, groups, device, seconds, deadline, seed)
    except KeyboardInterrupt:
        _write_table(file, out)
        typer.echo(f"stopped: {file.path} keeps what was measured; the same command goes on", err=True)
        raise typer.Exit(INTERRUPTED) from None
    _write_table(file, out)


def _run(
    file: TimingFile, groups: Sequence[Group], device: torch.device, seconds: float, deadline: float, seed: int
) -> None:
    from bench.commands.shared import progress_bar
    from bench.targets.measure import time_group

    missing = file.missing(groups)
    gc.freeze()  # what is imported stays; collecting between groups need not look at it
    with progress_bar() as bar:
        total = bar.add_task("all groups", total=len(missing))
        current = bar.add_task("", total=1.0)
        for group in missing:
            expected, left = group.expected_seconds(device, seconds), deadline - time.monotonic()
            if expected > left:
                late = f"no time left: about {expected:.0f} s needed, {max(left, 0):.0f} s left"
                file.replace(case.model_copy(update={"reason": late}) for case in group.planned())
                bar.console.print(f"{group.name}: {late}")
            else:
                start = time.monotonic()
                done = time_group(
                    group, device, seconds, deadline, seed,
                    lambda what, share, name=group.name: bar.update(  # type: ignore[misc]
                        current, description=f"{name}, {what}", completed=share
                    ),
                )  # fmt: skip
                file.replace(done)
                timed = sum(case.timed for case in done)
                bar.console.print(
                    f"{group.name}: {timed} of {len(done)} cases timed in {time.monotonic() - start:.1f} s"
                )
            bar.advance(total)


def _write_table(file: TimingFile, out: Path) -> None:
    """Write the table beside the run and print it, without the long lists below it."""
    from models.storage import write_atomically
    from reports.targets.page import render, summary

    write_atomically(out / "targets.md", render(file.run).encode())
    typer.echo(summary(file.run))
    typer.echo(f"result: {file.path}\ntable: {out / 'targets.md'}")


def _notes(groups: Sequence[Group]) -> list[str]:
    """Return the layers measured, with where their sizes stand."""
    layers = dict.fromkeys(group.layer for group in groups)
    return [
        f"{layer.name}: D {layer.D}, H {layer.H}, E {layer.E}, k {layer.k}, C {layer.C}, {layer.activation} "
        f"({layer.source})"
        for layer in layers
    ]


def _command() -> str:
    return shlex.join(["moegap", *sys.argv[1:]])
