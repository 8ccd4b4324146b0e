"""`moegap traces`: TensorBoard with its profiler plugin on the traces of `moegap profile`."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer


def traces(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder of traces: the --out of `moegap profile`.")],
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port on this machine; 0 takes a free one.")] = 0,
) -> None:
    """Show traces in TensorBoard's profiler plugin, on this machine alone, until Ctrl-C."""
    from bench.profile_file import NAME
    from bench.tensorboard import EVERY, run_names, served, shown_runs

    expected = run_names(folder)
    with _asked_to_stop() as stop, served(folder, port) as server:
        runs = shown_runs(server, expected, stop.wait)
        if stop.is_set():
            return
        typer.echo(f"TensorBoard shows {len(runs)} of {len(expected)} runs in {folder}:")
        for run in expected:
            typer.echo(f"  {run}{'' if run in runs else ' (not shown: its trace cannot be read)'}")
        typer.echo(f"{server.url} (Ctrl-C stops it)")
        typer.echo(
            "Its page loads its chart library from the web; "
            f"without a network, `moegap report {folder / NAME}` shows where the time went."
        )
        while not stop.wait(EVERY):
            server.check()


@contextmanager
def _asked_to_stop() -> Iterator[threading.Event]:
    """Give an event that Ctrl-C and SIGTERM set, instead of ending the process wherever it is."""
    stop = threading.Event()
    asked = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.signal(number, lambda *_: stop.set()) for number in asked}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
