"""`moegap traces`: TensorBoard with its profiler plugin on the traces of `moegap profile`."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import zlib
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, Annotated, Any
from urllib.parse import urlencode

import typer

from bench.commands.shared import examples
from bench.errors import BenchError, printable
from bench.profile.spans import unpacked
from reports.records.profile import PROFILE_FILE

HOST = "127.0.0.1"
PLUGIN = "/data/plugin/pytorch_profiler"
PAGE = "#pytorch_profiler"
PATTERNS = ("*.pt.trace.json", "*.pt.trace.json.gz")
ANSWERS_WITHIN = 120.0
"""Seconds to wait for an answer, on a slow machine."""
LOADS_WITHIN = 15.0
"""Seconds that the plugin may load nothing before it sees the next run; it looks every ten."""
LARGEST_TRACE = 2**28
"""Bytes of an unpacked trace; the plugin takes about ten times as many."""
VIEWER = Path(__file__).parents[1] / "profile" / "viewer.py"
STOPS_WITHIN = 10.0
EVERY = 0.2


@examples("moegap traces runs/profile", "moegap traces runs/profile --port 6006")
def traces(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder of traces: the --out of `moegap profile`.")],
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port on this machine; 0 takes a free one.")] = 0,
) -> None:
    """Show traces in TensorBoard's profiler plugin, on this machine alone, until Ctrl-C."""
    expected = run_names(folder)
    with _asked_to_stop() as stop, served(folder, port) as server:
        runs = shown_runs(server, expected, stop.wait)
        if stop.asked:
            return
        typer.echo(f"TensorBoard shows {len(runs)} of {len(expected)} runs in {printable(str(folder))}:")
        for run in expected:
            typer.echo(f"  {printable(run)}{'' if run in runs else ' (not shown: its trace cannot be read)'}")
        typer.echo(f"{server.url} (Ctrl-C stops it)")
        typer.echo("Its page loads its chart library from the web.")
        if (file := folder / PROFILE_FILE).exists():
            typer.echo(f"Without a network, `moegap report {printable(str(file))}` shows where the time went.")
        while not stop.wait(EVERY):
            server.check()


@dataclass
class _Stop:
    """Whether to stop; unlike a threading.Event it has no lock, so a signal handler may set it."""

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
    """Yield a flag that Ctrl-C, SIGTERM and a closed terminal set, instead of ending the process mid-work."""
    stop = _Stop()
    hung_up = [] if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN else [signal.SIGHUP]  # ignored under nohup
    before = {number: signal.signal(number, stop.ask) for number in (signal.SIGINT, signal.SIGTERM, *hung_up)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def run_names(folder: Path) -> list[str]:
    """Return the plugin's names of the runs in `folder`: the relative path of each folder with a trace.

    Raises `BenchError` if there is none, or if one is too large.
    """
    if not folder.is_dir():
        raise BenchError(f"{folder} is no folder; write traces into one with `moegap profile --out`")
    root = folder.resolve()
    traces = [trace for pattern in PATTERNS for trace in root.rglob(pattern)]
    if not traces:
        raise BenchError(f"{folder} holds no trace (*.pt.trace.json.gz); write some with `moegap profile --out`")
    for trace in traces:
        _check_size(trace)
    runs = {trace.parent for trace in traces}
    return sorted(str(run.relative_to(root)) if run != root else root.name for run in runs)


def _check_size(trace: Path) -> None:
    """Raise `BenchError` for a trace that would take several GB of memory, or never end; others may be damaged."""
    try:
        unpacked(trace, LARGEST_TRACE)
    except (EOFError, zlib.error):
        return
    except OSError as error:
        if error.errno:
            raise BenchError(f"{trace} cannot be shown: {error.strerror}; move it out of the folder") from None


@dataclass(frozen=True)
class Server:
    """A running TensorBoard; `errors` holds its stderr."""

    process: subprocess.Popen[bytes]
    port: int
    errors: IO[bytes]

    @property
    def url(self) -> str:
        """Where the plugin's page is."""
        return f"http://{HOST}:{self.port}/{PAGE}"

    def answer(self, route: str, **arguments: str) -> Any:
        """Return the answer of a route of the plugin, or None if it does not answer."""
        connection = HTTPConnection(HOST, self.port, timeout=5)
        try:
            connection.request("GET", f"{PLUGIN}/{route}?{urlencode(arguments)}")
            response = connection.getresponse()
            return json.loads(response.read()) if response.status == HTTPStatus.OK else None
        except (OSError, HTTPException, ValueError):
            return None
        finally:
            connection.close()

    def check(self) -> None:
        """Raise `BenchError` with its last words if the process has ended."""
        if self.process.poll() is None:
            return
        self.errors.seek(0)
        words = self.errors.read().decode(errors="replace").strip().splitlines() or ["none"]
        raise BenchError(f"TensorBoard ended with status {self.process.returncode}; its last words: {words[-1]}")


@contextmanager
def served(folder: Path, port: int) -> Iterator[Server]:
    """Run TensorBoard on `folder`, at a free port for port 0; it always ends with this context.

    Raises `BenchError` if the port is taken.
    """
    port = _free(port)
    options = ["--logdir", str(folder.resolve()), "--host", HOST, "--port", str(port), "--load_fast", "false"]
    with TemporaryFile() as errors:
        process = subprocess.Popen(  # noqa: S603 - our own interpreter on our own file
            [sys.executable, "-P", str(VIEWER), *options],
            stdin=subprocess.PIPE,  # held open for as long as this process lives
            stdout=subprocess.DEVNULL,
            stderr=errors,
            env={**os.environ, "PYTHONWARNINGS": "ignore"},
            start_new_session=True,
        )
        try:
            yield Server(process, port, errors)
        finally:
            _end(process)


def shown_runs(server: Server, expected: Collection[str], stopped: Callable[[float], bool]) -> list[str]:
    """Wait until the plugin has loaded the `expected` runs, and return the runs that it can show.

    `stopped` waits for some seconds and says whether to give up. Raises `BenchError` if TensorBoard ends or does not
    answer.
    """
    answered = time.monotonic()
    loaded: list[str] = []
    idle = 0.0
    while not (stopped(EVERY) or set(expected) <= set(loaded) or idle > LOADS_WITHIN):
        server.check()
        answer = server.answer("runs")
        if answer is None and time.monotonic() - answered > ANSWERS_WITHIN:
            raise BenchError(f"TensorBoard does not answer within {ANSWERS_WITHIN:.0f} seconds; try again")
        if answer is not None:
            answered, loaded = time.monotonic(), answer["runs"]
            idle = 0.0 if answer["loading"] else idle + EVERY
    return [run for run in loaded if server.answer("views", run=run)]


def _free(port: int) -> int:
    """Return `port`, or a free one for 0."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError as error:
            reason = error.strerror or error
            raise BenchError(f"port {port} cannot be used ({reason}); choose another --port, or leave it out") from None
        return int(probe.getsockname()[1])


def _end(process: subprocess.Popen[bytes]) -> None:
    """Terminate the process, kill it if needed, and kill its group: the plugin's readers."""
    process.terminate()
    with suppress(subprocess.TimeoutExpired):
        process.wait(STOPS_WITHIN)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert process.stdin is not None
    process.stdin.close()
