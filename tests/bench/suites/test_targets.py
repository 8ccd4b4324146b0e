"""The suite `targets`: what is planned, what a result still lacks, and what a worse try changes."""

from collections import Counter

import pytest
import torch

from bench.cases.measure import Measured
from bench.cases.record import case_record
from bench.cases.result import Outcome, ResultFile
from bench.cases.resume import check_same_run
from bench.errors import BenchError
from bench.forms import forms
from bench.suites import targets
from bench.suites.targets import OLMOE, REHEARSAL, TUNING, Contest, cpu_plan, measure_targets, plan, rehearsal
from bench.timing import environment
from reports.records.record import Ceilings, Copy, Group, Status
from reports.targets.run import layer_of

CPU = torch.device("cpu")
VIEWS = (("wall", "warm"),)
FEW = Contest(OLMOE, 4, torch.float32, ("eager", "masked"), views=VIEWS, shrink=32)
MANY = Contest(OLMOE, 8, torch.float32, ("eager",), ("eager",), ("eager",), views=VIEWS, shrink=32)
ALSO = Contest(OLMOE, 4, torch.float32, ("eager", "masked", "loop"), views=VIEWS, shrink=32)


class Bench:
    """Stands for measuring: every case takes a microsecond, but for the forms that fail."""

    def __init__(self, failing=()):
        self.failing = failing
        self.measured = []

    def measure_group(self, cases, suite, seconds, seed, progress, *, steps, traces, deadline):
        self.measured.append([*sorted({case.form for case in cases}), cases[0].shape.rows])
        name = f"group-{id(self)}-{len(self.measured)}"
        group = Group(group_id=name, anchor=[1e-3] * 8, wall=1, sampling=0.5, cold_start=0.1)
        return Measured([self.outcome(case, suite, name) for case in cases], group)

    def outcome(self, case, suite, name):
        fields = {"group_id": name, "suite": suite, **environment.snapshot(CPU)}
        if case.form in self.failing:
            return Outcome(case_record(case, fields, status=Status.FAILED, reason="it failed"))
        return Outcome(case_record(case, {**fields, "blocks": [0]}, status=Status.MEASURED), (1e-6,))


@pytest.fixture
def run(monkeypatch, tmp_path):
    """Measure contests on a bench, going on with the result of the last call, and return it and what was said."""
    peak = Ceilings(
        device="cpu", device_name="a CPU", cpu="a CPU", threads=2, dtype="float32", measured_at="2026-01-01T00:00:00",
        samples=5, flops_per_s=1e11, product="8 x 8 x 8", copies=[Copy(working_set=8, bytes_per_s=1e9)], launch=1e-6,
        operator=1e-6,
    )  # fmt: skip
    monkeypatch.setattr(targets, "measure_ceilings", lambda device, dtype: peak)

    def measure(bench, contests, deadline=float("inf"), suite=REHEARSAL):
        monkeypatch.setattr(targets, "measure_group", bench.measure_group)
        result, said = ResultFile.resume(tmp_path / "targets.json"), []
        check_same_run(result.path, result.records(), suite)
        statuses = {record.case_id: record.status for record in result.records()}
        pieces = measure_targets(
            contests, suite, CPU, statuses, 0.01, 0, deadline, lambda what, share: None, said.append
        )
        result.extend(pieces)
        return ResultFile.resume(result.path), said

    return measure


def timed(result):
    return Counter((record.form, record.rows) for record in result.cases() if record.status is Status.MEASURED)


def test_each_contest_is_measured_once_and_as_a_whole(run):
    bench = Bench()
    result, said = run(bench, [FEW, MANY])
    assert bench.measured == [["eager", "masked", 4], ["eager", 8]]
    assert timed(result) == {("eager", 4): 1, ("masked", 4): 1, ("eager", 8): 4}
    kinds = {(record.head, record.routing) for record in result.cases() if record.rows == 8}
    assert kinds == {("sparse", "balanced"), ("dense", "balanced"), ("sparse", "zipf1"), ("sparse", "hot")}
    assert {layer_of(record) for record in result.cases()} == {OLMOE}
    assert said[1].startswith("olmoe-1b-7b, 8 rows, float32: 4 of 4 cases timed")
    again = Bench()
    run(again, [FEW, MANY])
    assert again.measured == []


def test_what_was_never_measured_goes_first_and_a_worse_try_changes_nothing(run):
    result, _ = run(Bench(failing=("masked",)), [FEW])
    first = {record.group_id for record in result.cases()}
    bench = Bench(failing=("masked", "eager"))
    result, _ = run(bench, [FEW, MANY])
    assert bench.measured == [["eager", 8], ["eager", "masked", 4]]
    assert {record.group_id for record in result.cases() if record.rows == 4} == first
    result, _ = run(Bench(), [FEW])
    assert timed(result)["masked", 4] == timed(result)["eager", 4] == 1


def test_a_wider_contest_of_the_same_shape_takes_the_place_of_the_first(run):
    bench = Bench()
    result, _ = run(bench, [FEW, ALSO])
    assert bench.measured == [["eager", "masked", 4], ["eager", "loop", "masked", 4]]
    assert len({record.group_id for record in result.cases()}) == 1
    again = Bench()
    run(again, [FEW, ALSO])
    assert again.measured == []


def test_what_does_not_fit_into_the_time_says_so_and_is_tried_again(run):
    bench = Bench()
    result, said = run(bench, [FEW], deadline=0.0)
    assert bench.measured == []
    assert said == ["olmoe-1b-7b, 4 rows, float32: no time left"]
    assert {record.reason for record in result.cases()} == {"no time left"}
    assert timed(run(Bench(), [FEW])[0]) == {("eager", 4): 1, ("masked", 4): 1}


def test_another_suite_or_commit_is_refused(run, monkeypatch):
    run(Bench(), [FEW])
    with pytest.raises(BenchError, match=r"suite targets-rehearsal, not targets; choose another --out"):
        run(Bench(), [FEW], suite="targets")
    monkeypatch.setattr(environment, "commit", lambda: {"commit": "another", "dirty": False})
    with pytest.raises(BenchError, match=r"not another; choose another --out"):
        run(Bench(), [FEW])


def test_peers_that_tune_themselves_come_last_and_beside_all_that_was_measured_before():
    last = plan()[-3:]
    assert all(set(TUNING) <= set(contest.forms) for contest in last)
    for contest in plan()[:-3]:
        assert not set(TUNING) & set(contest.forms)
        for wider in last:
            if (wider.layer, wider.rows, wider.dtype) == (contest.layer, contest.rows, contest.dtype):
                assert set(contest.forms) <= set(wider.forms)


def test_every_form_of_the_plan_exists_and_a_contest_has_no_case_twice():
    plans = [*plan(), *cpu_plan()]
    named = {name for contest in plans for name in (*contest.forms, *contest.dense, *contest.skewed)}
    assert named <= forms().keys()
    assert named >= {name for name, form in forms().items() if not (form.default or form.stored)}
    assert {"triton_fp8_blocks", "triton_mxfp4", "onnxruntime_int8", "onnxruntime_int4"} <= named
    for contest in rehearsal():
        ids = [case.id for case in contest.cases(targets._subjects(contest, CPU), CPU)]
        assert len(ids) == len(set(ids))
    for contest in plans:
        for names in (contest.forms, contest.dense, contest.skewed):
            assert len(names) == len(set(names))
