"""What `bench` and `map` share: the result that they fill, the ceilings, and the summary at the end."""

from __future__ import annotations

import math
import shlex
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from bench.commands.shared import command_line, on_interrupt, progress_bar, set_threads
from reports.records.record import Status

if TYPE_CHECKING:
    import torch
    from rich.progress import Progress as Bar

    from bench.cases.result import ResultFile
    from reports.records.record import Ceilings, Group


@dataclass
class Measurement:
    """A measurement under way: the result it fills, its progress bar, device and dtypes.

    After `deadline`, a value of `time.monotonic`, nothing new begins.
    """

    result: ResultFile
    bar: Bar
    device: torch.device
    dtypes: Sequence[torch.dtype]
    deadline: float
    ceilings: dict[torch.dtype, Ceilings] = field(default_factory=dict)
    ceiling_seconds: float = 0.0
    """Time spent on ceilings so far."""

    def measure_ceilings(self, dtypes: Sequence[torch.dtype]) -> None:
        """Measure the machine's ceilings in each of `dtypes`, once, into the result."""
        for dtype in dtypes:
            if dtype not in self.ceilings:
                self.ceilings[dtype] = self._ceilings(dtype)

    def measure_ceilings_again(self) -> None:
        """Measure what was measured at the start once more: how far the two are apart says what they are worth."""
        for dtype in self.ceilings:
            self._ceilings(dtype)

    def _ceilings(self, dtype: torch.dtype) -> Ceilings:
        from bench.timing.ceilings import measure_ceilings

        start = time.perf_counter()
        task = self.bar.add_task("what the machine can do", total=None)
        ceilings = measure_ceilings(self.device, dtype)
        self.bar.remove_task(task)
        self.result.add_ceilings(ceilings)
        self.ceiling_seconds += time.perf_counter() - start
        return ceilings


@contextmanager
def measurement(
    out: Path, resume: bool, device: str, dtypes: Sequence[str], threads: int | None, minutes: float | None
) -> Iterator[Measurement]:
    """Yield a measurement into `out`; at its end print how the time was spent, and a summary.

    Raises `BenchError` for bad options, or if nothing could be measured.
    """
    from bench.cases.result import ResultFile
    from bench.errors import BenchError
    from bench.timing.cold_start import empty_compiler_caches
    from bench.timing.precision import chosen_dtypes
    from models.device import pick_device
    from reports.records.files import alone

    set_threads(threads)
    deadline = time.monotonic() + 60 * minutes if minutes else math.inf
    place, precisions = pick_device(device), chosen_dtypes(dtypes)
    with alone(out):
        result = (ResultFile.resume if resume else ResultFile.create)(out, command_line(without="--resume"))
        start, groups = time.perf_counter(), len(result.groups())
        with (
            on_interrupt(lambda: f"{out} keeps {len(result.cases())} cases; continue with --resume"),
            progress_bar() as bar,
            empty_compiler_caches(),
        ):
            run = Measurement(result, bar, place, precisions, deadline)
            yield run
            run.measure_ceilings_again()
    records = result.records()
    if not records:
        raise BenchError("time was up before the first shape; give more --minutes")
    if not any(record.status is Status.MEASURED for record in records):
        raise BenchError(f"nothing could be measured; the first reason is: {records[0].reason} ({out} has all of them)")
    if new := result.groups()[groups:]:
        typer.echo(_spent(new, run.ceiling_seconds, time.perf_counter() - start))
    _summarise(out)
    typer.echo(f"result: {out}")


def _spent(groups: Sequence[Group], ceilings: float, wall: float) -> str:
    """Return one line on how the time of a run was spent."""
    sampling, cold = sum(group.sampling for group in groups), sum(group.cold_start for group in groups)
    rest = max(0.0, wall - sampling - cold - ceilings)
    return (
        f"{wall:.0f} s: {sampling / wall:.0%} inside timed calls, {cold / wall:.0%} preparing forms, "
        f"{ceilings / wall:.0%} measuring ceilings, {rest / wall:.0%} on checks and the rest"
    )


def _summarise(out: Path) -> None:
    """Print the theoretical, attainable and realised speed-up of each soft and sparse head in `out`."""
    from reports.account import text as account_text
    from reports.break_even.break_even_section import findings
    from reports.break_even.map import maps
    from reports.reading.load import load
    from reports.speed.analysis import analyse

    analysis = analyse(load([out]))
    speedups = list(account_text.speedups(analysis))
    for line in [*speedups, *findings(maps(analysis))]:
        typer.echo(line)
    if speedups:
        typer.echo(f"where each form's time went: moegap account {shlex.quote(str(out))}")
