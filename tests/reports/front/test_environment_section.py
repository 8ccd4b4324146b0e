"""Drift and self-test as facts of a machine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from reports.front.environment_section import machines
from reports.noise import self_test
from reports.reading import documents
from reports.reading.load import load
from reports.records.record import Group
from reports.records.self_test import SelfTest
from reports.speed.analysis import Analysis, analyse
from tests.reports.noise.test_self_test import comparison, content
from tests.reports.synthetic import benchmark, record, samples, write

MACHINE = "CPU timings on AMD EPYC 7B13, 1 thread"


def tested(*comparisons: dict[str, Any], **environment: object) -> SelfTest:
    facts = {"device_name": "AMD EPYC 7B13", "threads": 1} | environment
    return documents.parsed(Path("self_test.json"), content(*comparisons, environment=facts))


def steadiness(analysis: Analysis, *tests: SelfTest) -> dict[str, dict[str, str]]:
    """Return what is said of how steady each machine was."""
    return {
        machine.title: {name: value for name, value in machine.rows if name in ("drift", "self-test")}
        for machine in machines(analysis, tests)
    }


def test_drift_counts_the_blocks_of_a_machine(accounts: Analysis) -> None:
    facts = steadiness(accounts)
    groups = accounts.results.groups
    assert facts == {
        MACHINE: {
            "drift": f"in {len(groups)} of {20 * len(groups)} blocks the anchor was more than 10 % off its median"
        }
    }


def test_machines_have_their_own_drift(tmp_path: Path) -> None:
    entries = [
        benchmark(record(threads=threads, group_id=str(threads), case_id=str(threads)), samples(1e-3))
        for threads in (1, 2)
    ]
    anchors = {"1": [1.0, 1.0, 1.0, 1.2], "2": [1.0, 1.0, 1.05]}
    groups = [Group(group_id=name, anchor=anchor, wall=3, sampling=2, cold_start=1) for name, anchor in anchors.items()]
    found = steadiness(analyse(load([write(tmp_path / "run.json", entries, groups=groups)])))
    assert [facts["drift"][:15] for facts in found.values()] == [
        "in 0 of 3 block",
        "in 1 of 4 block",
    ]  # most threads first


def test_results_without_groups_say_nothing(analysis: Analysis) -> None:
    assert steadiness(analysis) == {MACHINE: {}}


@pytest.mark.parametrize(
    ("environment", "told"), [({}, True), ({"threads": 2}, False), ({"device_name": "another"}, False)]
)
def test_a_self_test_counts_for_its_own_machine(analysis: Analysis, environment: dict, told: bool) -> None:
    test = tested(comparison(), comparison(0.05), **environment)
    facts = steadiness(analysis, test)[MACHINE]
    expected = (
        "passed: wrong on identical code in 0 of 1 (0.0 %), intervals of slowed code hold the truth in 1 of 1 (100.0 %)"
    )
    assert facts == ({"self-test": expected} if told else {})


def test_a_method_that_errs_has_not_passed() -> None:
    assert self_test.in_brief(tested(comparison(takes=1.2))).startswith("not passed: wrong on identical code in 1 of 1")
