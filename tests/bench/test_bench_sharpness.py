"""The comparison with PyHessian, with a stand-in for it: what is run, and what the table says."""

import sys
import types

import pytest
import torch

from bench import bench_sharpness
from bench.bench_sharpness import Round, Truth, measure, table
from reports.records.sharpness import Trace
from tests.models import tiny


@pytest.fixture(autouse=True)
def _coarse(monkeypatch):
    monkeypatch.setattr(bench_sharpness, "RELATIVE_ERROR", 0.5)


@pytest.fixture
def objectives():
    double = tiny.classifier("soft")
    single = tiny.classifier("soft").float()
    found = tiny.objective(single, "all"), tiny.objective(double, "all")
    found[0].batches = [(x.float(), y) for x, y in found[0].batches]
    return found


def test_without_pyhessian_ours_is_measured_and_the_reason_given(objectives, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyhessian", None)
    truth, runs, reason = measure(objectives, rounds=2)
    assert [run.tool for run in runs] == ["moegap", "moegap"]
    assert "PyHessian cannot be imported" in reason
    exact = tiny.brute_force(tiny.classifier("soft"))
    assert truth.eigenvalues == pytest.approx(torch.linalg.eigvalsh(exact).flip(0)[:5].tolist(), rel=1e-6)
    assert abs(truth.trace.value - exact.trace().item()) <= 4 * truth.trace.standard_error
    for run in runs:
        assert run.eigenvalues == pytest.approx(truth.eigenvalues, rel=1e-4)


def test_pyhessian_gets_all_rows_as_one_batch_and_the_same_weights(objectives, monkeypatch):
    seen = []

    class Stand:
        def __init__(self, model, criterion, data, cuda):
            x, y = data
            seen.append((len(x), sum(weight.numel() for weight in model.parameters()), cuda, criterion(model(x), y)))

        def eigenvalues(self, top_n):
            return [1.0] * top_n, []

        def trace(self):
            return [2.0, 4.0]

    monkeypatch.setitem(sys.modules, "pyhessian", types.SimpleNamespace(hessian=Stand))
    _, runs, reason = measure(objectives, rounds=1)
    assert reason == ""
    assert [run.tool for run in runs] == ["moegap", "PyHessian"]
    assert (runs[1].eigenvalues, runs[1].trace) == ([1.0] * 5, 3.0)
    single = objectives[0]
    assert seen[0][:3] == (tiny.ROWS, len(single.weights), False)
    assert seen[0][3].item() == pytest.approx(single.at(single.weights).loss, rel=1e-5)


def test_the_table_holds_medians_of_times_and_errors():
    truth = Truth([10.0, 5.0], Trace(value=100.0, standard_error=0.1, probes=50, stopped_by="error"))
    rounds = [Round("moegap", seconds, 2 * seconds, [10.0 + seconds, 5.0], 101.0) for seconds in (0.1, 0.2, 9.0)]
    lines = table(truth, [*rounds, Round("PyHessian", 3.0, 1.0, [5.0, 10.0], 50.0)])
    assert lines[1].split() == ["moegap", "0.20", "s", "2.0e-02", "0.40", "s", "1.0%", "3"]
    assert lines[2].split() == ["PyHessian", "3.00", "s", "0.0e+00", "1.00", "s", "50.0%", "1"]


def test_the_command_measures_a_checkpoint(trained, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "pyhessian", None)
    bench_sharpness.main(trained["dense"], "digits", images=30, rounds=1)
    shown = capsys.readouterr().out
    assert "38,410 weights" in shown
    assert "moegap" in shown
    assert "PyHessian cannot be imported" in shown
