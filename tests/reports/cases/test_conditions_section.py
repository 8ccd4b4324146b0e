"""One case under two conditions: the right pairs stand together, and their ratio is the one that is named."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from reports.cases.conditions_section import classifier_section, cold_section
from reports.output.blocks import Table
from reports.reading.load import load
from reports.speed.analysis import Analysis, analyse
from tests.reports.synthetic import benchmark, record, samples, write
from tests.reports.within import within


def test_cold_caches_stand_beside_warm_ones(accounts: Analysis) -> None:
    (table,) = within(cold_section(accounts), Table)
    assert "cold caches" in table.caption
    assert len(table.rows) == 9
    for row in table.rows:
        times = {
            case.record.cache: float(np.median(case.samples.reshape(-1, 2).mean(axis=1)))  # two in each block
            for case in accounts.results.cases
            if (case.record.head, case.record.form, f"{case.record.rows}", case.record.part) == (*row[:3], "head")
            and case.record.routing == "features"
        }
        assert float(row[5][:-1]) == pytest.approx(times["cold"] / times["warm"], abs=0.006)


def test_the_head_has_a_share_of_its_classifier(accounts: Analysis) -> None:
    (table,) = within(classifier_section(accounts), Table)
    assert len(table.rows) == 9
    assert {row[5] for row in table.rows} <= {"1.9 %", "2.0 %", "2.1 %"}
    alone = tuple(case for case in accounts.results.cases if case.record.part == "head")
    assert classifier_section(analyse(replace(accounts.results, cases=alone))) is None


@pytest.mark.parametrize("other", [{"form": "loop"}, {"rows": 32}, {"threads": 2}, {"checkpoint": "another"}], ids=str)
def test_a_cold_case_without_its_own_warm_one_has_no_row(tmp_path: Path, other: dict[str, object]) -> None:
    entries = [
        benchmark(record(case_id="warm"), samples(1e-3)),
        benchmark(record(case_id="cold", cache="cold", group_id="cold", **other), samples(2e-3)),
    ]
    assert cold_section(analyse(load([write(tmp_path / "a.json", entries)]))) is None
