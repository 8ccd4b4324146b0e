"""The suite `map`: simulated machines are searched into a result, interrupted, late, too small; and a real one."""

from __future__ import annotations

import time
from collections import Counter

import pytest
import torch

from bench.cases.measure import Measured
from bench.cases.record import case_record
from bench.cases.result import Outcome, ResultFile
from bench.errors import BenchError
from bench.suites import map as break_even_map
from bench.suites.break_even import Cell, MapGrid, Side, Sizes, next_probes, sides_of
from bench.suites.map import TIME_IS_UP, known_probes, map_subjects, measure_map
from bench.timing import environment
from models.heads.cost import parameters
from models.heads.dense import DenseHead
from reports.break_even.map import maps
from reports.reading.load import load
from reports.records.record import Group, Status
from reports.speed.analysis import analyse

CPU = torch.device("cpu")
SMALL, LARGE = Sizes(16, 8, 4), Sizes(16, 8, 16)
CELLS = (Cell(SMALL, 1), Cell(SMALL, 2), Cell(LARGE, 1))
BREAK_EVEN = {CELLS[0]: 8, CELLS[1]: 64, CELLS[2]: 2}
GRID = MapGrid(CELLS, seconds=0.01, most_flops=256 * LARGE.dense_flops, left_out={"compile": "it takes long"},
            most_experts={"onnxruntime": (4, "its export takes long")})  # fmt: skip
FORMS = ("loop", "eager", "compile", "onnxruntime")


class Machine:
    """Stands for measuring: sparse heads are faster from `BREAK_EVEN` rows on, and no form is faster than eager."""

    def __init__(self, most_rows=10**9, interrupted_after=10**9):
        self.most_rows = most_rows
        self.left = interrupted_after
        self.measured = []

    def measure_group(self, cases, suite, seconds, seed, progress, *, steps, traces):
        assert not steps
        assert not traces
        if self.left == 0:
            raise KeyboardInterrupt
        self.left -= 1
        progress(0.5)
        shape = cases[0].shape
        assert len({(case.shape, case.clock) for case in cases}) == 1
        self.measured.append((cases[0].subject.name, shape.rows, shape.dtype))
        name = f"group-{len(self.measured)}-{time.perf_counter_ns()}"
        group = Group(group_id=name, anchor=[1e-3] * 8, wall=1, sampling=0.5, cold_start=0.1)
        return Measured([self.outcome(case, suite, name) for case in cases], group)

    def outcome(self, case, suite, name):
        fields = {"group_id": name, "suite": suite, **environment.snapshot(CPU)}
        if case.shape.rows > self.most_rows:
            return Outcome(case_record(case, fields, status=Status.SKIPPED, reason="too little memory"))
        config = case.subject.head.config
        seconds = case.shape.rows * (1e-6 if case.form == "eager" else 3e-6)
        if not isinstance(case.subject.head, DenseHead):
            cell = Cell(Sizes(config.features, config.hidden, config.experts), config.k)
            seconds *= 0.5 if case.shape.rows >= BREAK_EVEN[cell] else 2.0
        samples = tuple(seconds * (1 + 0.001 * (place % 5)) for place in range(16))
        blocks = [place // 2 for place in range(16)]
        return Outcome(case_record(case, {**fields, "blocks": blocks}, status=Status.MEASURED), samples)


@pytest.fixture
def run(monkeypatch, tmp_path):
    """Return a function that searches GRID on a machine, going on with the result of the last call."""

    def search(machine, forms=FORMS, dtypes=(torch.float32,), name="result.json", **options):
        monkeypatch.setattr(break_even_map, "measure_group", machine.measure_group)
        result = ResultFile.resume(tmp_path / name)
        told, shares = [], []
        try:
            measure_map(
                GRID, forms, CPU, dtypes, 0.01, 0, result, lambda words, share: shares.append(share), tell=told.append,
                **options,
            )  # fmt: skip
        finally:
            assert shares == sorted(shares)
            assert all(0 <= share <= 1 for share in shares)
        return ResultFile.resume(tmp_path / name), told

    return search


def sides(result):
    known = known_probes(GRID, result.outcomes())
    return {cell: sides_of(known[cell]) for cell in CELLS}


def brackets(result):
    found = {}
    for cell, known in sides(result).items():
        below = [rows for rows, side in known.items() if side is Side.SLOWER]
        above = [rows for rows, side in known.items() if side is Side.FASTER]
        found[cell] = (max(below), min(above))
    return found


def test_every_crossing_is_found_and_each_layer_measured_once_at_as_many_rows(run):
    machine = Machine()
    result, told = run(machine)
    assert brackets(result) == {cell: (rows // 2, rows) for cell, rows in BREAK_EVEN.items()}
    assert len(set(machine.measured)) == len(machine.measured) == len(result.groups()) == len(told)
    assert max(rows for name, rows, _ in machine.measured if name.endswith("e16")) == 256
    assert max(rows for name, rows, _ in machine.measured if name.endswith("e4")) == 1024
    assert "D 16, H 8, E 4, 1 rows, float32: k 1 slower (0.50), k 2 slower (0.50)" in told
    assert next_probes(GRID, known_probes(GRID, result.outcomes())) == []


def test_what_the_grid_leaves_out_is_skipped_with_its_reason(run):
    result, _ = run(Machine())
    skipped = Counter((record.form, record.head, record.experts, record.reason) for record in result.records()
                      if record.status is Status.SKIPPED)  # fmt: skip
    assert {key[:3] for key in skipped} == {
        ("compile", "dense", 1), ("compile", "sparse", 4), ("compile", "sparse", 16), ("onnxruntime", "sparse", 16),
    }  # fmt: skip
    groups = {group.group_id for group in result.groups()}
    assert all(record.group_id in groups for record in result.records())
    assert {record.form for record in result.records() if record.status is Status.MEASURED} == set(FORMS) - {"compile"}


def test_a_result_is_a_map(run):
    result, _ = run(Machine())
    (drawn,) = maps(analyse(load([result.path])))
    found = {
        Cell(Sizes(line.facet.features, line.facet.hidden, line.experts), line.facet.k): line for line in drawn.lines
    }
    assert {cell: (line.crossings[0].low, line.crossings[0].high) for cell, line in found.items()} == brackets(result)
    assert all(
        point.case.record.form == point.base.record.form == "eager" for line in drawn.lines for point in line.points
    )


@pytest.mark.parametrize("after", [1, 4, 7])
def test_an_interrupted_search_keeps_everything_and_goes_on_where_it_was(run, after):
    whole, first, rest = Machine(), Machine(interrupted_after=after), Machine()
    run(whole, name="whole.json")
    with pytest.raises(KeyboardInterrupt):
        run(first)
    assert len(first.measured) == after
    result, _ = run(rest)
    assert sorted(first.measured + rest.measured, key=str) == sorted(whole.measured, key=str)
    assert brackets(result) == {cell: (rows // 2, rows) for cell, rows in BREAK_EVEN.items()}


def test_no_probe_begins_after_the_deadline_and_what_is_lacking_is_said(run):
    machine = Machine()
    result, told = run(machine, deadline=time.monotonic())
    assert machine.measured == []
    assert told == [TIME_IS_UP]
    assert {record.reason for record in result.records()} == {TIME_IS_UP}
    assert {(record.experts, record.rows) for record in result.records() if record.head == "sparse"} == {
        (4, 1), (4, 1024), (16, 1), (16, 256),
    }  # fmt: skip
    result, _ = run(Machine())
    assert TIME_IS_UP not in {record.reason for record in result.records()}
    assert brackets(result) == {cell: (rows // 2, rows) for cell, rows in BREAK_EVEN.items()}


def test_the_deadline_comes_in_the_middle(run, monkeypatch):
    clock = iter(range(100))
    monkeypatch.setattr(break_even_map.time, "monotonic", lambda: next(clock))
    machine = Machine()
    result, _ = run(machine, deadline=5)
    assert len(machine.measured) == 5
    late = {(record.checkpoint, record.rows) for record in result.records() if record.reason == TIME_IS_UP}
    assert late
    assert not late & {
        (record.checkpoint, record.rows) for record in result.records() if record.status is Status.MEASURED
    }


def test_rows_that_do_not_fit_give_way_to_fewer(run):
    machine = Machine(most_rows=100)
    result, _ = run(machine)
    assert brackets(result) == {cell: (rows // 2, rows) for cell, rows in BREAK_EVEN.items()}
    assert max(rows for known in sides(result).values() for rows in known) == 64
    assert "too little memory" in {record.reason for record in result.records()}
    again = Machine()
    result, _ = run(again)
    assert {rows for _, rows, _ in again.measured} == {1024, 256}


def test_each_dtype_has_a_search_of_its_own(run):
    machine = Machine()
    result, _ = run(machine, dtypes=(torch.float32, torch.bfloat16))
    places = Counter(dtype for _, _, dtype in machine.measured)
    assert places[torch.float32] == places[torch.bfloat16]
    assert len(load([result.path]).cases) == len([r for r in result.records() if r.status is Status.MEASURED])


def test_the_wall_clock_decides_and_other_suites_are_not_mixed_in(run):
    result, _ = run(Machine())
    outcomes = result.outcomes()
    search = break_even_map._Search(GRID, FORMS, CPU, torch.float32, 0.01, 0)
    assert search._of_search(outcomes) == outcomes
    for change in ({"clock": "device"}, {"suite": "demo"}, {"dtype": "bfloat16"}, {"device": "cuda"}):
        assert search._of_search([Outcome(o.record.model_copy(update=change), o.samples) for o in outcomes]) == []


def test_a_map_of_no_form_is_refused(run):
    with pytest.raises(BenchError, match="leaves out compile"):
        run(Machine(), forms=("compile",))


def test_subjects_are_equal_in_expert_parameters_and_take_features_as_they_are():
    dense, one, two = map_subjects((Cell(SMALL, 1), Cell(SMALL, 2)))
    gates = 2 * (SMALL.features + 1) * SMALL.experts
    biases = (SMALL.experts - 1) * 10  # one output bias per expert
    for sparse in (one, two):
        assert parameters(sparse.head.config) == parameters(dense.head.config) + gates + biases
    assert (one.head.config.k, two.head.config.k) == (1, 2)
    x = torch.randn(3, 16)
    assert torch.equal(dense.model.features(x.view(3, 1, 1, 16)), x)
    assert torch.equal(one.head.w1, map_subjects((Cell(SMALL, 1),))[1].head.w1)
    assert not torch.equal(one.head.w1, map_subjects((Cell(SMALL, 1),), seed=1)[1].head.w1)
    assert {subject.weights for subject in (dense, one, two)} == {"initialised"}


def test_a_real_search_of_a_tiny_grid(tmp_path):
    grid = MapGrid((Cell(SMALL, 1), Cell(SMALL, 2)), seconds=0.01, most_flops=8 * SMALL.dense_flops)
    result = ResultFile.create(tmp_path / "result.json")
    measure_map(grid, ["loop", "eager"], CPU, [torch.float32], 0.01, 0, result, lambda words, share: None)
    known = known_probes(grid, result.outcomes())
    assert next_probes(grid, known) == []
    assert all({1, 8} <= probes.keys() for probes in known.values())
    assert all(probe.speedup > 0 for probes in known.values() for probe in probes.values())
    (drawn,) = maps(analyse(load([result.path])))
    assert len(drawn.lines) == 2
    assert all(point.ratio.paired for line in drawn.lines for point in line.points)
