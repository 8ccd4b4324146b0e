"""`moegap traces`: what TensorBoard is given, and how it ends; tests/journeys/test_traces.py sees its answers."""

import gzip
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from bench.commands.traces import run_names, served, shown_runs, traces
from bench.errors import BenchError
from bench.profile.viewer import local_alone
from bench.rooms import ROOT


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with one run, and files that are none."""
    for name in ("a/worker.1.pt.trace.json.gz", "a/worker.1.onnxruntime.trace.json.gz", "b/other.json", "profile.json"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    return tmp_path


def tensorboards() -> list[psutil.Process]:
    """Return the processes that this one started."""
    return psutil.Process().children(recursive=True)


@pytest.fixture(autouse=True)
def _nothing_is_left() -> Iterator[None]:
    before = {process.pid for process in tensorboards()}
    yield
    assert {process.pid for process in tensorboards()} == before


def test_runs_are_the_folders_with_a_trace_of_torch(folder: Path) -> None:
    assert run_names(folder) == ["a"]
    (folder / "b" / "c").mkdir()
    (folder / "b" / "c" / "worker.pt.trace.json").touch()
    (folder / "worker.pt.trace.json").touch()
    assert run_names(folder) == sorted(["a", "b/c", folder.name])


def test_a_folder_without_traces_is_told(folder: Path) -> None:
    with pytest.raises(BenchError, match=r"b holds no trace"):
        run_names(folder / "b")
    for name in ("absent", "profile.json"):
        with pytest.raises(BenchError, match=rf"{name} is no folder"):
            run_names(folder / name)


def packed(path: Path, megabytes: int) -> None:
    """Write a file that unpacks to so many megabytes of blanks."""
    path.parent.mkdir(exist_ok=True)
    with gzip.open(path, "wb", compresslevel=1) as file:
        for _ in range(megabytes):
            file.write(b" " * 10**6)


def test_a_trace_that_unpacks_to_more_than_stated_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bench.commands.traces.LARGEST_TRACE", 5 * 10**6)
    packed(folder / "a" / "worker.2.pt.trace.json.gz", 5)
    assert run_names(folder) == ["a"]
    packed(folder / "c" / "bomb.1.pt.trace.json.gz", 40)
    assert (folder / "c" / "bomb.1.pt.trace.json.gz").stat().st_size < 10**6
    tracemalloc.start()
    with pytest.raises(BenchError, match=r"bomb.*gz cannot be shown: it unpacks to more than 5,000,000 bytes; move it"):
        run_names(folder)
    assert tracemalloc.get_traced_memory()[1] < 25 * 10**6
    tracemalloc.stop()


def test_a_pipe_among_the_traces_is_refused(folder: Path) -> None:
    os.mkfifo(folder / "a" / "pipe.1.pt.trace.json")
    with pytest.raises(BenchError, match=r"pipe.*json cannot be shown: it is no regular file; move it"):
        run_names(folder)


@pytest.mark.parametrize(
    ("host", "status"),
    [("127.0.0.1:6006", "200 OK"), ("localhost", "200 OK"), ("localhost:1", "200 OK"), ("", "403 Forbidden"),
     ("evil.example", "403 Forbidden"), ("127.0.0.1.evil.example:6006", "403 Forbidden"), ("[::1", "403 Forbidden"),
     ("localhost:80@evil", "403 Forbidden"), ("localhost\n", "403 Forbidden")],
)  # fmt: skip
def test_only_local_names_are_answered(host: str, status: str) -> None:
    seen: list[str] = []

    def inner(request: dict[str, Any], start: Callable[..., Any]) -> list[bytes]:
        start("200 OK", [])
        return [b"traces"]

    answer = local_alone(inner)({"HTTP_HOST": host}, lambda status, _: seen.append(status))
    assert seen == [status]
    assert ([*answer] == [b"traces"]) == (status == "200 OK")


CALLER = """
import sys, time
from pathlib import Path
from bench.commands.traces import served
with served(Path(sys.argv[1]), 0) as server:
    print(server.process.pid, flush=True)
    time.sleep(600)
"""


def test_tensorboard_ends_with_a_killed_caller(folder: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", CALLER, str(folder)], cwd=ROOT, stdout=subprocess.PIPE) as caller:
        assert caller.stdout is not None
        board = psutil.Process(int(caller.stdout.readline()))
        caller.kill()
    assert psutil.wait_procs([board], timeout=120)[1] == []


def test_a_port_in_use_is_told(folder: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with (
            pytest.raises(BenchError, match=rf"port {port} cannot be used \(.+\); choose another --port"),
            served(folder, port),
        ):
            pass


def test_its_death_is_told(folder: Path) -> None:
    with served(folder, 0) as server:
        server.process.kill()
        server.process.wait()
        with pytest.raises(BenchError, match="TensorBoard ended with status -9; its last words: "):
            shown_runs(server, ["a"], threading.Event().wait)


def test_its_last_words_are_told(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = tmp_path / "broken"
    script.write_text("#!/bin/sh\necho first >&2\necho no plugin here >&2\nexit 3\n")
    script.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(script))
    with (
        served(folder, 0) as server,
        pytest.raises(BenchError, match="ended with status 3; its last words: no plugin here"),
    ):
        shown_runs(server, ["a"], threading.Event().wait)


WAITING = """
import signal, sys, time
signal.signal(signal.SIGTERM, signal.{})
print("ready", file=sys.stderr, flush=True)
time.sleep(60)
"""


@pytest.mark.parametrize(("takes", "ended_by"), [("SIG_DFL", signal.SIGTERM), ("SIG_IGN", signal.SIGKILL)])
def test_it_is_asked_to_end_and_then_made_to(
    takes: str, ended_by: signal.Signals, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = tmp_path / "waiting"
    script.write_text(f"#!{sys.executable}{WAITING.format(takes)}")
    script.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(script))
    monkeypatch.setattr("bench.commands.traces.STOPS_WITHIN", 0.2 if takes == "SIG_IGN" else 60)
    with served(folder, 0) as server:
        while not os.fstat(server.errors.fileno()).st_size:
            time.sleep(0.02)
    assert server.process.returncode == -ended_by


def test_what_it_started_ends_with_it(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = tmp_path / "parent"
    script.write_text("#!/bin/sh\nsleep 60 &\necho $! >&2\nexit 0\n")
    script.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(script))
    with served(folder, 0) as server:
        server.process.wait()
        server.errors.seek(0)
        left = psutil.Process(int(server.errors.read()))
    assert psutil.wait_procs([left], timeout=300)[1] == []


@pytest.fixture
def _hangs_up() -> Iterator[None]:
    """A closed terminal ends this process, even if it was started under nohup."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


ENDS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@pytest.mark.usefixtures("_hangs_up")
@pytest.mark.parametrize("number", ENDS)
def test_a_signal_stops_it_even_before_it_answers(
    folder: Path, number: signal.Signals, capsys: pytest.CaptureFixture[str]
) -> None:
    before = len(tensorboards())
    handlers = [signal.getsignal(each) for each in ENDS]

    def send() -> None:
        while len(tensorboards()) == before:
            time.sleep(0.02)
        os.kill(os.getpid(), number)

    sender = threading.Thread(target=send)
    sender.start()
    traces(folder)
    sender.join()
    assert capsys.readouterr() == ("", "")
    assert [signal.getsignal(each) for each in ENDS] == handlers
