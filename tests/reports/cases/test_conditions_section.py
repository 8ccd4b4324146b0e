"""One case under two conditions: the right pairs stand together, and their ratio is the one that is named."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from reports.cases.conditions_section import classifier_section, cold_section, training_section
from reports.output.blocks import Table
from reports.reading.load import load
from reports.speed.analysis import Analysis, analyse
from reports.speed.verdicts import answers
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


TIMES = {"dense": (1e-3, 4e-3), "sparse": (0.5e-3, 1e-3)}
"""Seconds of a forward pass and of training."""


def training_cases() -> list[dict[str, Any]]:
    entries = []
    for place, (head, seconds) in enumerate(TIMES.items()):
        for passes, median in zip(("forward", "training"), seconds, strict=True):
            case = record(head=head, form="eager", passes=passes, group_id=passes, case_id=f"{head}-{passes}")
            entries.append(benchmark(case, samples(median, seed=place)))
    return entries


def test_training_stands_beside_its_forward_pass_and_is_compared_with_training_alone(tmp_path: Path) -> None:
    analysis = analyse(load([write(tmp_path / "a.json", training_cases())]))
    section = training_section(analysis)
    assert section is not None
    (table,) = within(section, Table)
    assert "forward and backward" in table.caption
    column = {name.title: place for place, name in enumerate(table.columns)}
    dense, sparse = table.rows
    assert float(dense[column["training / forward"]][:-1]) == pytest.approx(4, rel=0.02)
    assert float(sparse[column["training / forward"]][:-1]) == pytest.approx(2, rel=0.02)
    assert float(sparse[column["realised"]][:-1]) == pytest.approx(4, rel=0.05)
    assert (dense[column["verdict"]], sparse[column["verdict"]]) == ("", "FASTER")
    (finding,) = section.findings
    assert finding.startswith("The sparse head in training: theoretical")


def test_the_answer_is_about_the_forward_pass_and_training_is_drawn_nowhere_else(tmp_path: Path) -> None:
    analysis = analyse(load([write(tmp_path / "a.json", training_cases())]))
    (answer,) = answers(analysis)
    assert answer.best.case.record.passes == "forward"
    assert answer.best.realised.value == pytest.approx(2, rel=0.05)
    assert [setting.passes for setting in analysis.usual] == ["forward"]
    forward = tuple(case for case in analysis.results.cases if case.record.passes == "forward")
    assert training_section(analyse(replace(analysis.results, cases=forward))) is None


def test_an_answer_about_training_says_so(tmp_path: Path) -> None:
    entries = [entry for entry in training_cases() if entry["extra_info"]["passes"] == "training"]
    (answer,) = answers(analyse(load([write(tmp_path / "a.json", entries)])))
    assert "eager dense, forward and backward, wall clock" in answer.sentence
