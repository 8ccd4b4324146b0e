"""Stored weights stand beside full ones: their error beside their time, their bytes in floors, and last of a head's."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from reports.account import text
from reports.cases import summary
from reports.cases.cases_section import cases_section
from reports.cases.stored_section import stored_section
from reports.output.blocks import FilteredTable, Table
from reports.reading.load import load
from reports.speed.accuracy_section import accuracy_section
from reports.speed.alarm import alarm
from reports.speed.analysis import Analysis, analyse
from reports.speed.verdicts import answers
from tests.reports.synthetic import benchmark, ceilings, record, samples, write
from tests.reports.within import within

FULL = {"form": "triton", "least_bytes": 8_000_000}
STORED = {
    "form": "triton_mxfp4", "scheme": "mxfp4", "storage_error": 0.21, "error": 3e-7, "least_bytes": 2_000_000,
}  # fmt: skip
DENSE = {"head": "dense", "form": "eager", "least_bytes": 8_000_000}


def case(seconds: float, **fields: Any) -> dict[str, Any]:
    return benchmark(record(flops=1000, group_id="one", **fields), samples(seconds, noise=0.001))


def analysed(folder: Path, *entries: dict[str, Any]) -> Analysis:
    return analyse(load([write(folder / "run.json", list(entries), ceilings=[ceilings()])]))


@pytest.fixture
def analysis(tmp_path: Path) -> Analysis:
    """Return a dense head, and a sparse one whose stored weights take half the time of its full ones."""
    slower = case(9e-4, form="loop", least_bytes=8_000_000)
    return analysed(tmp_path, case(8e-4, **DENSE), slower, case(6e-4, **FULL), case(3e-4, **STORED))


def cells(table: Table, row: tuple[str, ...]) -> dict[str, str]:
    return dict(zip((column.title for column in table.columns), row, strict=True))


def test_the_error_stands_beside_the_time(analysis: Analysis) -> None:
    (table,) = within(stored_section(analysis), Table)
    (row,) = table.rows
    shown = cells(table, row)
    assert (shown["form"], shown["weights"], shown["full weights"]) == ("triton_mxfp4", "mxfp4", "triton")
    assert (shown["storage error"], shown["deviation"]) == ("2.1e-1", "3e-7")
    assert float(shown["time, stored / full"][:-1]) == pytest.approx(0.5, abs=0.01)
    assert float(shown["bytes, stored / full"][:-1]) == 0.25
    assert float(shown["floor, stored / full"][:-1]) == pytest.approx((80 + 1) / (320 + 1), abs=0.005)  # 25 GB/s, 1 us


def test_all_cases_and_the_file_for_a_spreadsheet_have_it(analysis: Analysis) -> None:
    rows = summary.rows(analysis)
    (table,) = within(cases_section(rows), FilteredTable)
    shown = {found["form"]: found for found in (cells(table.table, row) for row in table.table.rows)}
    assert (shown["triton_mxfp4"]["weights"], shown["triton_mxfp4"]["storage error"]) == ("mxfp4", "2.1e-1")
    assert shown["triton_mxfp4"]["note"] == "lower precision"
    assert (shown["triton"]["weights"], shown["triton"]["storage error"], shown["triton"]["note"]) == ("", "", "")
    header, *lines = summary.as_csv(rows).splitlines()
    (line,) = [line for line in lines if "triton_mxfp4" in line]
    assert dict(zip(header.split(","), line.split(","), strict=False))["scheme"] == "mxfp4"


def test_stored_bytes_move_what_is_attainable_and_the_alarm(analysis: Analysis, tmp_path: Path) -> None:
    (speedup,) = analysis.speedups
    attainable = {item.case.record.form: item.attainable for item in speedup.against_best}
    assert attainable == {
        "triton": 1.0,
        "loop": 1.0,
        "triton_mxfp4": pytest.approx((320e-6 + 1e-6) / (80e-6 + 1e-6)),
    }
    assert alarm(analysis) == []
    fast = 1.5e-4  # above the floor of 2 MB, below that of 8 MB even if reads are faster than a copy
    full_bytes = {**STORED, "least_bytes": FULL["least_bytes"]}
    assert alarm(analysed(tmp_path, case(fast, **STORED))) == []
    assert "1 case takes less" in alarm(analysed(tmp_path, case(fast, **full_bytes)))[0]


def test_full_weights_stand_for_the_head(analysis: Analysis, tmp_path: Path) -> None:
    (answer,) = answers(analysis)
    assert answer.best.case.record.form == "triton"
    assert [item.case.record.form for item in analysis.speedups[0].against_best] == ["triton", "loop", "triton_mxfp4"]
    assert any("triton against eager dense" in line for line in text.speedups(analysis))
    accuracy = json.dumps(accuracy_section(analysis).blocks, default=vars)
    assert "triton" in accuracy
    assert '"form": "triton_mxfp4"' not in accuracy
    (alone,) = answers(analysed(tmp_path, case(8e-4, **DENSE), case(3e-4, **STORED)))
    assert "float32, weights in mxfp4, n = " in alone.sentence
    assert stored_section(analysed(tmp_path, case(8e-4, **DENSE), case(3e-4, **STORED))) is None


def test_older_files_without_stored_weights_are_read(tmp_path: Path) -> None:
    entry = case(6e-4, **FULL)
    for field in ("scheme", "storage_error"):
        del entry["extra_info"][field]
    analysis = analysed(tmp_path, entry)
    (found,) = analysis.results.cases
    assert (found.record.scheme, found.record.storage_error) == ("", None)
    assert stored_section(analysis) is None
