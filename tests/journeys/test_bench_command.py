"""`moegap bench`: killed and resumed it loses nothing, and its result is a pytest-benchmark file."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest
import torch

from bench.cases import measure
from bench.rooms import ROOT
from reports.records.record import CEILINGS_KEY, GROUPS_KEY, NOT_MEASURED_KEY, STEPS_KEY


def moegap(*arguments):
    """Start the command line in a process of its own, where ceilings take a moment."""
    command = "import tests.quick, bench.cli; bench.cli.main()"
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    return subprocess.Popen(
        [sys.executable, "-c", command, *map(str, arguments)],
        cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def measured(out):
    return json.loads(out.read_text())["benchmarks"] if out.exists() else []


def whole(document):
    """Return the names of the cases measured, their steps left out."""
    return [entry["param"] for entry in document["benchmarks"] if not entry["extra_info"]["step"]]


@pytest.fixture
def command(trained, tmp_path):
    """A run of one small shape, warm and cold, on one thread, and where its result goes."""
    forms = ["--form", "loop", "--form", "eager", "--form", "grouped_mm"]
    shapes = ["--rows", 16, "--cold"]
    out, threads = tmp_path / "result.json", torch.get_num_threads()
    yield (
        [
            "bench",
            trained["dense"],
            trained["sparse"],
            *shapes,
            *forms,
            "--seconds",
            "0.02",
            "--threads",
            1,
            "--out",
            out,
        ],
        out,
    )
    torch.set_num_threads(threads)


def test_a_killed_run_resumes_with_what_is_missing(command, in_process):
    arguments, out = command
    process = moegap(*arguments)
    deadline = time.monotonic() + 200
    while not measured(out) and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=60)
    before = json.loads(out.read_text())
    assert 0 < len(whole(before)) < 8

    status, _, errors = in_process(*arguments)
    assert status == 1
    assert "--resume" in errors
    assert json.loads(out.read_text()) == before

    status, output, errors = in_process(*arguments, "--resume")
    assert (status, errors) == (0, "")
    assert " of 12 already" in output
    after = json.loads(out.read_text())
    assert after["benchmarks"][: len(before["benchmarks"])] == before["benchmarks"]
    names = whole(after)
    skipped = [record["case_id"] for record in after[NOT_MEASURED_KEY]]
    assert len(set(names + skipped)) == len(names + skipped) == 2 * 3 * 2
    assert len(names) == 4 * 2
    assert len(after[CEILINGS_KEY]) == 2
    assert {group["group_id"] for group in after[GROUPS_KEY]} == {
        entry["extra_info"]["group_id"] for entry in after["benchmarks"]
    }
    assert {entry["extra_info"]["step"] for entry in after["benchmarks"]} == {""}
    split = {entry["extra_info"]["step"] for entry in after[STEPS_KEY]}
    assert split == {"balanced", "products", "dispatched", "gated", "routed", "combined"}
    assert all(0 < group["sampling"] < group["wall"] for group in after[GROUPS_KEY])

    status, output, _ = in_process(*arguments, "--resume")
    assert status == 0
    assert "the result has all 12 cases already" in output
    assert json.loads(out.read_text()) == after


def test_an_interrupt_says_how_to_go_on(command, in_process, monkeypatch):
    def interrupted(*arguments, **options):
        raise KeyboardInterrupt

    arguments, out = command
    monkeypatch.setattr(measure, "measure_group", interrupted)
    status, _, errors = in_process(*arguments)
    assert status == 130
    assert errors.startswith(f"stopped: {out} keeps 0 cases")
    assert "--resume" in errors
    assert "Traceback" not in errors


def test_training_is_measured_beside_the_forward_pass_and_resumed(trained, tmp_path, in_process):
    out, threads = tmp_path / "result.json", torch.get_num_threads()
    forms = ["--form", "eager", "--form", "grouped_mm"]
    arguments = ["bench", trained["sparse"], "--rows", 16, *forms, "--seconds", 0.02, "--out", out]
    status, output, errors = in_process(*arguments, "--threads", 1)
    assert (status, errors) == (0, "")
    forward = json.loads(out.read_text())

    status, output, errors = in_process(*arguments, "--threads", 1, "--training", "--resume")
    assert (status, errors) == (0, "")
    assert "forward and backward" in output
    after = json.loads(out.read_text())
    assert after["benchmarks"][: len(forward["benchmarks"])] == forward["benchmarks"]
    new = [entry["extra_info"] for entry in after["benchmarks"][len(forward["benchmarks"]) :]]
    assert {(each["form"], each["head"], each["passes"]) for each in new} == {
        ("eager", "sparse", "training"), ("grouped_mm", "sparse", "training"),
    }  # fmt: skip
    assert all(0 < each["gradient_error"] <= each["gradient_tolerance"] for each in new)

    status, _, errors = in_process("report", out, "--out", tmp_path / "report", "--no-charts")
    assert (status, errors) == (0, "")
    assert "training / forward" in (tmp_path / "report" / "report.md").read_text()
    status, output, _ = in_process("compare", out, out, "--all")
    assert status == 0
    assert "cpu-training-wall" in output
    torch.set_num_threads(threads)
