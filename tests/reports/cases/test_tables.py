"""The tables hold what was measured, each case in one row and each reason once."""

from __future__ import annotations

from pathlib import Path

from reports.cases.cold_start_section import cold_start_section
from reports.cases.efficiency_section import efficiency_section
from reports.cases.not_measured_section import not_measured_section
from reports.cases.work_section import work_section
from reports.front.environment_section import machines
from reports.numbers.units import TIMES
from reports.output.blocks import Reason, Table
from reports.reading.load import load
from reports.records.record import Status
from reports.speed.analysis import Analysis, analyse
from tests.reports.synthetic import benchmark, record, samples, write
from tests.reports.within import within


def test_efficiency_is_the_papers_table_at_its_batch(analysis: Analysis) -> None:
    head, classifier = within(efficiency_section(analysis), Table)
    assert "Head alone" in head.caption
    assert "Whole classifier" in classifier.caption
    assert "batch of 256" in head.caption
    row = next(row for row in head.rows if row[:2] == ("dense", "eager"))
    assert row[2:5] == ("267,786", "1.07 MB", "1.15 MB")
    case = next(case for case in analysis.results.cases if case.record.form == "eager" and case.record.rows == 256)
    assert row[-1] == f"{round(256 / case.samples.mean()):,}"


def test_the_environment_says_what_is_known_and_leaves_out_what_is_not(analysis: Analysis) -> None:
    (machine,) = machines(analysis)
    facts = dict(machine.rows)
    assert facts["commit"] == "31a5c0941f2c"
    assert facts["samples"] == "2,880 in 72 cases, 40 each"
    assert "torch\N{NO-BREAK SPACE}2.15.0" in facts["versions"]
    assert "driver" not in facts


def test_uncommitted_changes_are_told(tmp_path: Path) -> None:
    path = write(tmp_path / "run.json", [benchmark(record(dirty=True), samples(1e-3))])
    (machine,) = machines(analyse(load([path])))
    assert dict(machine.rows)["commit"] == "31a5c0941f2c with uncommitted changes"


def test_each_reason_stands_once_the_gravest_first(analysis: Analysis) -> None:
    found = within(not_measured_section(analysis), Reason)
    assert [item.status for item in found] == [Status.WRONG, Status.FAILED, Status.UNAVAILABLE, Status.SKIPPED]
    assert found[2].cases == (
        "sparse, triton (head, float32, cpu, wall clock, suite paper): 1, 32, 256 and 2,048 rows",
    )


def test_work_stands_beside_what_is_needed(tmp_path: Path) -> None:
    counted = record(
        form="triton",
        flops=36_000_000,
        launches=5,
        executed_flops=72_000_000,
        requested_bytes=3_000_000,
        least_bytes=1_500_000,
    )
    path = write(tmp_path / "run.json", [benchmark(case, samples(1e-3)) for case in (counted, record(form="eager"))])
    (table,) = within(work_section(analyse(load([path]))), Table)
    assert [row[1:] for row in table.rows] == [
        ("triton", "256", "5", "72.0", "36.0", f"2.00{TIMES}", "3.00 MB", "1.50 MB"),
    ]


def test_cold_start_and_memory_are_gathered_over_batches(analysis: Analysis) -> None:
    row = within(cold_start_section(analysis), Table)[0].rows[0]
    assert row[2:] == ("12.0 ms", "12.0 ms", "8.49 MB", "2,048", "library torch 2.15.0")
