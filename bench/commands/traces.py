"""`moegap traces`: TensorBoard with its profiler plugin on the traces of `moegap profile`."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer


def traces(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder of traces: the --out of `moegap profile`.")],
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port on this machine; 0 takes a free one.")] = 0,
) -> None:
    """Show traces in TensorBoard's profiler plugin, on this machine alone, until Ctrl-C."""
    from bench.commands.tensorboard import EVERY, run_names, served, shown_runs
    from bench.profile.file import NAME

    expected = run_names(folder)
    with _asked_to_stop() as stop, served(folder, port) as server:
        runs = shown_runs(server, expected, stop.wait)
        if stop.asked:
            return
        typer.echo(f"TensorBoard shows {len(runs)} of {len(expected)} runs in {folder}:")
        for run in expected:
            typer.echo(f"  {run}{'' if run in runs else ' (not shown: its trace cannot be read)'}")
        typer.echo(f"{server.url} (Ctrl-C stops it)")
        typer.echo("Its page loads its chart library from the web.")
        if (file := folder / NAME).exists():
            typer.echo(f"Without a network, `moegap report {file}` shows where the time went.")
        while not stop.wait(EVERY):
            server.check()


@dataclass
class _Stop:
    """Whether to stop: plain enough for a signal's handler, which an event's lock is not."""

    asked: bool = False

    def ask(self, *_: object) -> None:
        self.asked = True

    def wait(self, seconds: float) -> bool:
        """Wait, and return whether to stop."""
        if not self.asked:
            time.sleep(seconds)
        return self.asked


@contextmanager
def _asked_to_stop() -> Iterator[_Stop]:
    """Give what Ctrl-C, SIGTERM and a closed terminal set, instead of ending the process wherever it is."""
    stop = _Stop()
    hung_up = [] if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN else [signal.SIGHUP]  # ignored under nohup
    before = {number: signal.signal(number, stop.ask) for number in (signal.SIGINT, signal.SIGTERM, *hung_up)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
