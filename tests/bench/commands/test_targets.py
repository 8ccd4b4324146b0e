"""`moegap targets`: the result that grows, the budget, the resume, the rehearsal, and bad input in one sentence."""

import json
import os
import signal
import subprocess
import sys
import time
from functools import partial

import pytest
import torch

from bench.cases.result import ResultFile
from bench.commands import targets as command
from bench.rooms import ROOT
from bench.suites import targets as suite
from bench.suites.targets import REHEARSAL, rehearsal
from reports.account import text
from reports.reading.load import load
from reports.records.record import Status
from reports.speed.analysis import analyse


@pytest.fixture(autouse=True)
def _one_thread():
    """Small operators on a busy machine wait long for a second thread."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def moegap(in_process):
    """Run `moegap targets` here and return its status and what it said."""
    return partial(in_process, "targets")


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--minutes", "0"], "--minutes"),
        (["--rehearse", "--out", "file"], "file"),
    ],
)
def test_bad_input_is_told_in_one_sentence(moegap, tmp_path, monkeypatch, arguments, named):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("no folder")
    status, _, said = moegap(*arguments)
    assert status == 1
    assert said.startswith("moegap: ")
    assert said.count("\n") == 1
    assert named in said


def test_another_file_is_refused(moegap, tmp_path):
    for content in ('{"answer": 42}', '{"kind": "rehearsal", "timings": []}'):
        (tmp_path / "targets.json").write_text(content)
        status, _, said = moegap("--rehearse", "--out", tmp_path)
        assert status == 1
        assert "no result that can be resumed" in said


@pytest.mark.filterwarnings("ignore:overflow encountered in exp")  # of rows that the interpreted kernels mask
def test_a_rehearsal_end_to_end_and_again(moegap, tmp_path, monkeypatch):
    monkeypatch.setattr(command, "REHEARSED_SECONDS", 0.001)
    status, said, _ = moegap("--rehearse", "--out", tmp_path)
    assert status == 0
    assert "rehearsal" in said
    results = load([tmp_path / "targets.json"])
    assert {record.suite for record in results.records} == {REHEARSAL}
    assert {(case.record.rows, case.record.cache) for case in results.cases} == {
        (contest.rows, cache)
        for contest in rehearsal()
        for cache in ("warm", "cold", *["rotated"] * bool(contest.rotated))
    }
    assert not [record for record in results.not_measured if record.status in (Status.WRONG, Status.FAILED)]
    assert all(record.reason for record in results.not_measured)
    kernels = [record for record in results.records if record.form.startswith("triton")]
    assert {record.status for record in kernels} == {Status.UNAVAILABLE}  # checked, and never timed by an interpreter
    assert all(record.error <= record.tolerance for record in kernels if "interpreter" in record.reason.lower())
    page = (tmp_path / "targets.md").read_text()
    assert "rehearsal" in page
    assert "none, a rehearsal" in page
    assert list(text.speedups(analyse(results)))
    before = (tmp_path / "targets.json").read_bytes()
    assert moegap("--rehearse", "--out", tmp_path)[0] == 0
    assert json.loads((tmp_path / "targets.json").read_bytes())["benchmarks"] == json.loads(before)["benchmarks"]


def test_a_budget_leaves_out_what_does_not_fit(moegap, tmp_path, monkeypatch):
    monkeypatch.setattr(command, "RESERVE", 0.0)
    monkeypatch.setattr(suite, "rehearsal", lambda: rehearsal()[:1])
    assert moegap("--rehearse", "--out", tmp_path, "--minutes", 0.001)[0] == 0
    records = ResultFile.resume(tmp_path / "targets.json").records()
    assert records
    assert all("no time left" in record.reason for record in records)
    assert "no time left" in (tmp_path / "targets.md").read_text()


def test_an_interrupted_run_keeps_what_it_measured(tmp_path):
    process = subprocess.Popen(
        [sys.executable, "-m", "bench.cli", "targets", "--rehearse", "--out", str(tmp_path)],
        cwd=ROOT, env={name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a shell's background jobs ignore it
    )  # fmt: skip
    path = tmp_path / "targets.json"
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline and process.poll() is None:
        if path.exists() and json.loads(path.read_bytes())["benchmarks"]:
            break
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130, said
    assert "stopped" in said
    assert ResultFile.resume(path).outcomes()
    assert (tmp_path / "targets.md").exists()
