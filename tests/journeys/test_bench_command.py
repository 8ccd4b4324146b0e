"""`moegap bench`: killed and resumed it loses nothing, and its result is a pytest-benchmark file."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from bench.rooms import ROOT
from reports.records.record import CEILINGS_KEY, GROUPS_KEY, NOT_MEASURED_KEY


def moegap(*arguments):
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    return subprocess.Popen(
        [sys.executable, "-m", "bench.cli", *map(str, arguments)],
        cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a shell's background jobs ignore it
    )  # fmt: skip


def measured(out):
    return json.loads(out.read_text())["benchmarks"] if out.exists() else []


def whole(document):
    """Return the names of the cases measured, their steps left out."""
    return [entry["param"] for entry in document["benchmarks"] if not entry["extra_info"]["step"]]


def finish(process):
    output, errors = process.communicate(timeout=300)
    return process.returncode, output, errors


@pytest.fixture
def command(trained, tmp_path):
    forms = ["--form", "loop", "--form", "eager", "--form", "grouped_mm"]
    out = tmp_path / "result.json"
    return ["bench", *trained.values(), "--suite", "demo", "--seconds", "0.05", *forms, "--out", out], out


def test_a_killed_run_resumes_with_what_is_missing(command):
    arguments, out = command
    process = moegap(*arguments)
    deadline = time.monotonic() + 200
    while not measured(out) and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    finish(process)
    before = json.loads(out.read_text())
    assert 0 < len(whole(before)) < 36

    status, _, errors = finish(moegap(*arguments))
    assert status == 1
    assert "--resume" in errors
    assert json.loads(out.read_text()) == before

    status, output, errors = finish(moegap(*arguments, "--resume"))
    assert (status, errors) == (0, "")
    assert "are there already" in output
    after = json.loads(out.read_text())
    assert after["benchmarks"][: len(before["benchmarks"])] == before["benchmarks"]
    names = whole(after)
    skipped = [record["case_id"] for record in after[NOT_MEASURED_KEY]]
    assert len(set(names + skipped)) == len(names + skipped) == 3 * 3 * 6
    assert len(names) == 6 * 6
    assert len(after[CEILINGS_KEY]) == 2
    assert {group["group_id"] for group in after[GROUPS_KEY]} == {
        entry["extra_info"]["group_id"] for entry in after["benchmarks"]
    }
    split = {entry["extra_info"]["step"] for entry in after["benchmarks"]}
    assert split == {"", "balanced", "products", "dispatched", "gated", "routed", "combined"}
    assert all(0 < group["sampling"] < group["wall"] for group in after[GROUPS_KEY])

    status, output, _ = finish(moegap(*arguments, "--resume"))
    assert status == 0
    assert "all 54 cases are there already" in output
    assert json.loads(out.read_text()) == after


def test_an_interrupt_says_how_to_go_on(command):
    arguments, out = command
    process = moegap(*arguments[:-2], "--seconds", "60", "--out", out)
    while "cases at" not in (line := process.stdout.readline()):
        assert line, process.stderr.read()
    process.send_signal(signal.SIGINT)
    status, _, errors = finish(process)
    assert status == 130
    assert "--resume" in errors
    assert "Traceback" not in errors
