"""`moegap targets`: the result that grows, the budget, the resume, the rehearsal, and bad input in one sentence."""

import json
from functools import partial

import pytest
import torch

from bench.cases.result import ResultFile
from bench.commands import targets as command
from bench.suites import targets as suite
from bench.suites.targets import REHEARSAL, rehearsal
from reports.account import text
from reports.reading.load import load
from reports.records.record import Status
from reports.speed.analysis import analyse


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


def stopping_after(groups):
    """Return `measure_group` with Ctrl-C pressed once it measured so many groups."""
    left = iter(range(groups))

    def measure_group(*arguments, **options):
        if next(left, None) is None:
            raise KeyboardInterrupt
        return suite_measures(*arguments, **options)

    suite_measures = suite.measure_group
    return measure_group


@pytest.mark.filterwarnings("ignore:overflow encountered in exp")  # of rows that the interpreted kernels mask
def test_a_rehearsal_is_stopped_goes_on_to_its_end_and_has_nothing_left_to_do(moegap, tmp_path, monkeypatch):
    path = tmp_path / "targets.json"
    monkeypatch.setattr(command, "REHEARSED_SECONDS", 0.001)
    with monkeypatch.context() as stopped:
        stopped.setattr(suite, "measure_group", stopping_after(1))
        status, _, said = moegap("--rehearse", "--out", tmp_path)
    assert status == 130
    assert said.startswith(f"stopped: {path} keeps what was measured")
    kept = json.loads(path.read_bytes())["benchmarks"]
    assert kept
    assert (tmp_path / "targets.md").exists()

    status, said, _ = moegap("--rehearse", "--out", tmp_path)
    assert status == 0
    assert "rehearsal" in said
    before = json.loads(path.read_bytes())["benchmarks"]
    assert before[: len(kept)] == kept
    results = load([path])
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

    monkeypatch.setattr(suite, "measure_group", stopping_after(0))
    assert moegap("--rehearse", "--out", tmp_path)[0] == 0
    assert json.loads(path.read_bytes())["benchmarks"] == before


def test_a_budget_leaves_out_what_does_not_fit(moegap, tmp_path, monkeypatch):
    monkeypatch.setattr(command, "RESERVE", 0.0)
    monkeypatch.setattr(suite, "rehearsal", lambda: rehearsal()[:1])
    assert moegap("--rehearse", "--out", tmp_path, "--minutes", 0.001)[0] == 0
    records = ResultFile.resume(tmp_path / "targets.json").records()
    assert records
    assert all("no time left" in record.reason for record in records)
    assert "no time left" in (tmp_path / "targets.md").read_text()
