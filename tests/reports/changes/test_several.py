"""Several runs a side: which cases count, what is lost, and what runs that differ among themselves hide."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from reports.changes.change import Change
from reports.changes.changes import Changes
from reports.changes.files import compare_runs
from reports.errors import ReportError
from reports.numbers.stats import Verdict
from reports.records.record import CaseRecord, Group, Status
from tests.reports.synthetic import benchmark, record, samples, write


def runs(
    folder: Path, commit: str, factors: list[float], anchors: list[float] | None = None, **fields: Any
) -> list[Path]:
    """Write runs of one commit in which the cases of one group took so many times a millisecond."""
    paths = []
    for place, factor in enumerate(factors):
        name = f"{commit}-{place}"
        records = [record(rows=rows, group_id=name, commit=commit, **fields) for rows in (1, 32)]
        anchor = [1e-3 * (anchors[place] if anchors else 1.0)] * 9
        group = Group(group_id=name, anchor=anchor, wall=1, sampling=1, cold_start=0)
        entries = [benchmark(case, factor * np.array(samples(1e-3, seed=case.rows + place))) for case in records]
        paths.append(write(folder / f"{name}.json", entries, (), (), [group]))
    return paths


def verdicts(changes: Changes) -> set[Verdict]:
    return {change.verdict for change in changes.changes}


def test_a_change_beyond_what_runs_differ_by_is_found(tmp_path: Path) -> None:
    found = compare_runs(runs(tmp_path, "a", [1.0, 1.01, 0.99]), runs(tmp_path, "b", [1.3, 1.31, 1.29]))
    assert verdicts(found) == {Verdict.SLOWER}
    change: Change = found.changes[0]
    assert change.ratio.value == pytest.approx(1 / 1.3, rel=0.01)
    assert change.new / change.base == pytest.approx(1 / change.ratio.value)
    assert [run.side for run in found.runs] == ["BASE"] * 3 + ["NEW"] * 3


def test_a_change_within_what_runs_differ_by_is_not(tmp_path: Path) -> None:
    found = compare_runs(runs(tmp_path, "a", [1.0, 1.4, 0.7]), runs(tmp_path, "b", [1.3, 1.0, 1.6]))
    assert verdicts(found) == {Verdict.UNCLEAR}


def test_several_runs_of_one_commit_may_be_the_same(tmp_path: Path) -> None:
    first, second = tmp_path / "one", tmp_path / "two"
    first.mkdir()
    second.mkdir()
    found = compare_runs(runs(first, "a", [1.0] * 4), runs(second, "a", [1.0] * 4), 0.05)
    assert verdicts(found) == {Verdict.SAME}
    assert not any("commit" in warning for warning in found.warnings)


def test_an_anchor_that_moved_in_the_mean_casts_doubt(tmp_path: Path) -> None:
    base = runs(tmp_path, "a", [1.0, 1.01])
    found = compare_runs(base, runs(tmp_path, "b", [1.3, 1.31], [1.3, 1.3]))
    assert verdicts(found) == {Verdict.UNCLEAR}
    assert {change.doubt for change in found.changes} == {"the anchor moved"}
    up_and_down = compare_runs(base, runs(tmp_path, "c", [1.3, 1.31], [1.2, 1 / 1.2]))
    assert verdicts(up_and_down) == {Verdict.SLOWER}
    normalised = compare_runs(base, runs(tmp_path, "d", [1.3, 1.31], [1.3, 1.3]), 0.05, "normalised")
    assert {change.normalised and round(change.normalised.value, 1) for change in normalised.changes} == {1.0}


def test_a_case_that_any_run_of_new_lost_is_lost(tmp_path: Path) -> None:
    base = runs(tmp_path, "a", [1.0, 1.01])
    whole, *_ = runs(tmp_path, "b", [1.0])
    kept, gone = (record(rows=rows, group_id="b-1", commit="b") for rows in (1, 32))
    wrong: CaseRecord = gone.model_copy(update={"status": Status.WRONG, "reason": "off", "blocks": []})
    part = write(tmp_path / "part.json", [benchmark(kept, samples(1e-3))], [wrong])
    found = compare_runs(base, [whole, part])
    assert [lost.case for lost in found.lost] == [gone.case_id]
    assert {change.case for change in found.changes} == {kept.case_id, gone.case_id}
    assert found.only_base == found.only_new == ()


@pytest.mark.parametrize(("before", "after"), [(1, 2), (2, 1), (0, 2)])
def test_one_run_beside_several_is_refused(tmp_path: Path, before: int, after: int) -> None:
    base, new = runs(tmp_path, "a", [1.0] * before), runs(tmp_path, "b", [1.0] * after)
    with pytest.raises(ReportError, match="give two or more a side"):
        compare_runs(base, new)
