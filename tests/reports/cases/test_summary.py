"""Every case stands in the CSV and, measured, in the page's table, with numbers that NumPy finds again."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import numpy as np
import pytest

from reports.cases import summary
from reports.cases.cases_section import cases_section
from reports.output.blocks import FilteredTable, Section
from reports.reading.load import load
from reports.speed.analysis import Analysis, analyse
from tests.reports.synthetic import benchmark, record, samples, unmeasured, write
from tests.reports.within import within


def table_of(section: Section | None) -> FilteredTable:
    (found,) = within(section, FilteredTable)
    return found


def read(analysis: Analysis) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(summary.as_csv(summary.rows(analysis)), newline="")))


def test_the_csv_holds_every_case_measured_or_not(analysis: Analysis) -> None:
    found = read(analysis)
    assert len(found) == 72 + len(unmeasured())
    assert len({row["case_id"] for row in found}) == len(found)
    statuses = [row["status"] for row in found]
    assert statuses[:72] == ["measured"] * 72
    assert set(statuses[72:]) == {"unavailable", "wrong", "failed", "skipped"}
    assert all(row["reason"] and not row["median_s"] for row in found[72:])


def test_its_numbers_are_those_of_the_raw_samples(cpu_run: Path, analysis: Analysis) -> None:
    raw = {
        entry["extra_info"]["case_id"]: np.array(entry["stats"]["data"])
        for entry in json.loads(cpu_run.read_text())["benchmarks"]
    }
    for row in read(analysis)[:72]:
        pairs = raw[row["case_id"]].reshape(-1, 2)
        assert float(row["median_s"]) == pytest.approx(float(np.median(np.median(pairs, axis=1))), rel=1e-12)
        assert float(row["median_low_s"]) <= float(row["median_s"]) <= float(row["median_high_s"])
        assert int(row["samples"]) == pairs.size
        assert float(row["rows_per_s"]) == pytest.approx(int(row["rows"]) / float(row["median_s"]))
        assert row["source"] == "cpu.json"


def test_its_speed_up_is_over_the_best_dense_form(analysis: Analysis) -> None:
    found = {(row["head"], row["form"], row["rows"], row["part"]): row for row in read(analysis)}
    row = found["sparse", "onnxruntime", "2048", "head"]
    assert (row["dense_form"], row["verdict"], row["paired"], row["matched"]) == (
        "onnxruntime",
        "FASTER",
        "True",
        "True",
    )
    assert float(row["theoretical_speedup"]) == pytest.approx(534_528 / 141_864)
    assert float(row["realised_low"]) < float(row["realised_speedup"]) < float(row["realised_high"])
    loop = found["sparse", "loop", "2048", "head"]
    assert loop["same_form_speedup"] == ""
    assert found["dense", "eager", "1", "head"]["realised_speedup"] == ""


@pytest.mark.parametrize("attack", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1"])
def test_text_is_no_formula(tmp_path: Path, attack: str) -> None:
    (row,) = read(analyse(load([write(tmp_path / "a.json", [], [record(status="failed", reason=attack)])])))
    assert row["reason"] == f"'{attack}"


def test_text_of_any_kind_comes_back(tmp_path: Path) -> None:
    text = 'a,"b"\r\n;\u202e<script>'
    (row,) = read(analyse(load([write(tmp_path / "a.json", [], [record(status="failed", reason=text)])])))
    assert row["reason"] == text


def test_the_page_has_one_table_of_all_measured_cases(analysis: Analysis) -> None:
    found = table_of(cases_section(summary.rows(analysis)))
    assert len(found.table.rows) == 72
    titles = [column.title for column in found.table.columns]
    row = dict(
        zip(titles, next(row for row in found.table.rows if row[:3] == ("sparse", "onnxruntime", "2,048")), strict=True)
    )
    assert row["n"] == "40"
    assert (row["theoretical"], row["verdict"], row["part"]) == ("3.77", "FASTER", "head")
    assert (row["error"], row["tolerance"], row["ambiguous rows"]) == ("2.3e-7", "1e-5", "0")
    assert float(row["realised, low"]) < float(row["realised"]) < float(row["realised, high"])


def test_what_all_cases_share_is_said_once(analysis: Analysis) -> None:
    section = cases_section(summary.rows(analysis))
    assert section
    assert "dtype float32" in section.reading
    assert "AMD EPYC 7B13, 1 thread" in section.reading
    found = table_of(section)
    assert "dtype" not in {column.title for column in found.table.columns}
    filters = {chosen.title: chosen for chosen in found.filters}
    assert filters["part"].values == ("head", "classifier")
    assert all(found.table.columns[chosen.place].title == title for title, chosen in filters.items())
    assert all(row[chosen.place] in ("", *chosen.values) for row in found.table.rows for chosen in found.filters)


def test_numbers_of_a_column_share_one_unit(analysis: Analysis) -> None:
    found = table_of(cases_section(summary.rows(analysis)))
    for place, column in enumerate(found.table.columns):
        cells = {row[place] for row in found.table.rows} - {""}
        if column.numeric:
            assert all(np.isfinite(float(cell.replace(",", ""))) for cell in cells)


def test_unpaired_and_unmatched_comparisons_say_so(tmp_path: Path) -> None:
    dense = benchmark(record(head="dense", hidden=128, group_id="another"), samples(2e-3))
    analysis = analyse(load([write(tmp_path / "run.json", [dense, benchmark(record(), samples(1e-3))])]))
    found = table_of(cases_section(summary.rows(analysis)))
    note = [column.title for column in found.table.columns].index("note")
    assert [row[note] for row in found.table.rows] == ["", "unpaired, unmatched"]


def test_without_a_time_there_is_no_table(tmp_path: Path) -> None:
    rows = summary.rows(analyse(load([write(tmp_path / "a.json", [], unmeasured())])))
    assert within(cases_section(rows), FilteredTable) == []
    assert len(rows) == len(unmeasured())
