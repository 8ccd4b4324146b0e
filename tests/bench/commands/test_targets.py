"""`moegap targets`: the file that grows, the budget, the resume, the rehearsal, and bad input in one sentence."""

import json
import os
import signal
import subprocess
import sys
import time
from functools import partial

import pytest
import torch

from bench.commands import targets as command
from bench.errors import BenchError
from bench.rooms import ROOT
from bench.targets.file import TimingFile
from bench.targets.peers.layers import PAPER
from bench.targets.plan import Group, plan, rehearsal
from reports.records.record import Status
from reports.records.timing import TimingRun


@pytest.fixture(autouse=True)
def _one_thread():
    """Small operators on a busy machine wait long for a second thread."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


HERE = {"device_name": "a CPU", "commit": "c", "dirty": False, "versions": {"torch": "2"}}
GROUPS = [Group(PAPER, rows, torch.float32, ("dense", "masked")) for rows in (1, 16)]


def opened(path, *, kind="rehearsal", environment=HERE, groups=GROUPS):
    return TimingFile.open(path / "targets.json", kind, "moegap targets", environment, ["a note"], groups)


def measured(group, group_id="g", peers=("dense", "masked")):
    done = {"status": Status.MEASURED, "reason": "", "samples": [1e-6], "blocks": [0], "group_id": group_id}
    return [case.model_copy(update=done) if case.peer in peers else case for case in group.planned()]


def stored(path):
    return TimingRun.model_validate_json((path / "targets.json").read_bytes())


def test_the_file_holds_every_planned_case_from_the_start(tmp_path):
    opened(tmp_path)
    cases = stored(tmp_path).timings
    assert [case.key for case in cases] == [case.key for group in GROUPS for case in group.planned()]
    assert {case.status for case in cases} == {Status.SKIPPED}


def test_groups_replace_what_was_planned_and_only_what_is_missing_is_measured_again(tmp_path):
    file = opened(tmp_path)
    assert file.missing(GROUPS) == GROUPS
    file.replace(measured(GROUPS[0]))
    assert file.missing(GROUPS) == GROUPS[1:]
    again = opened(tmp_path)
    assert again.missing(GROUPS) == GROUPS[1:]
    again.replace(measured(GROUPS[1], peers=("dense",)))
    assert opened(tmp_path).missing(GROUPS) == GROUPS[1:]
    assert sum(case.timed for case in stored(tmp_path).timings) == 9


def test_what_was_never_measured_goes_first_and_a_worse_try_changes_nothing(tmp_path):
    file = opened(tmp_path)
    file.replace(measured(GROUPS[0], "first", peers=("dense",)))
    assert file.missing(GROUPS) == [GROUPS[1], GROUPS[0]]
    file.replace(GROUPS[0].planned())
    assert {case.group_id for case in stored(tmp_path).timings if case.timed} == {"first"}


@pytest.mark.parametrize(
    "change",
    [{"kind": "measured"}, {"environment": {**HERE, "commit": "d"}}, {"environment": {**HERE, "versions": {}}}],
)
def test_another_kind_or_machine_or_commit_is_refused(tmp_path, change):
    opened(tmp_path)
    with pytest.raises(BenchError, match="choose another --out"):
        opened(tmp_path, **change)


def test_another_file_is_refused(tmp_path):
    (tmp_path / "targets.json").write_text('{"answer": 42}')
    with pytest.raises(BenchError, match="no timing run"):
        opened(tmp_path)


@pytest.fixture
def moegap(in_process):
    """Run `moegap targets` here and return its status and what it said."""
    return partial(in_process, "targets")


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ([], "needs a CUDA device"),
        (["--minutes", "0"], "--minutes"),
        (["--rehearse", "--predict"], "exclude each other"),
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


def test_a_rehearsal_end_to_end_and_again(moegap, tmp_path, monkeypatch):
    monkeypatch.setattr(command, "REHEARSED_SECONDS", 0.001)
    status, said, _ = moegap("--rehearse", "--out", tmp_path)
    assert status == 0
    run = stored(tmp_path)
    assert run.kind == "rehearsal"
    assert {case.group for case in run.timings if case.timed} == {group.name for group in rehearsal()}
    for case in run.timings:
        assert case.timed == bool(case.samples)
        assert case.timed or case.reason
        assert not (case.timed and case.peer.startswith("ours"))
    assert not [case for case in run.timings if case.status in (Status.WRONG, Status.FAILED)]
    page = (tmp_path / "targets.md").read_text()
    assert "rehearsal" in page
    assert "none, a rehearsal" in page
    assert "rehearsal" in said
    before = {case.key: case.samples for case in run.timings}
    assert moegap("--rehearse", "--out", tmp_path)[0] == 0
    assert {case.key: case.samples for case in stored(tmp_path).timings} == before


def test_a_budget_leaves_out_what_does_not_fit(moegap, tmp_path, monkeypatch):
    monkeypatch.setattr(command, "RESERVE", 0.0)
    status, _, _ = moegap("--rehearse", "--out", tmp_path, "--minutes", 0.01)
    assert status == 0
    run = stored(tmp_path)
    assert not any(case.timed for case in run.timings)
    assert all("no time left" in case.reason for case in run.timings)
    assert (tmp_path / "targets.md").exists()


def test_an_interrupted_run_keeps_what_it_measured(tmp_path):
    process = subprocess.Popen(
        [sys.executable, "-m", "bench.cli", "targets", "--rehearse", "--out", str(tmp_path)],
        cwd=ROOT, env={name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a shell's background jobs ignore it
    )  # fmt: skip
    path = tmp_path / "targets.json"
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and process.poll() is None:
        if path.exists() and any(case["status"] == "measured" for case in json.loads(path.read_bytes())["timings"]):
            break
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130, said
    assert "stopped" in said
    kept = sum(case.timed for case in stored(tmp_path).timings)
    assert 0 < kept < sum(1 for group in rehearsal() for _ in group.planned())
    assert (tmp_path / "targets.md").exists()


def test_predictions_are_marked_and_never_measurements(moegap, tmp_path):
    status, said, _ = moegap("--predict", "--out", tmp_path)
    assert status == 0
    run = stored(tmp_path)
    assert run.kind == "predicted"
    assert {case.status for case in run.timings} <= {"predicted", Status.SKIPPED, Status.UNAVAILABLE}
    assert {case.group for case in run.timings if case.timed} == {group.name for group in plan()}
    page = (tmp_path / "targets.md").read_text()
    assert "nothing here was measured" in page
    assert "predicted:" in said
