"""What casts doubt on a ratio: an anchor that moved, one commit on both sides, a coarse clock, rounds of two kinds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from reports.changes import conditions, plain
from reports.changes import text as changes_text
from reports.changes.change import odd_rounds
from reports.changes.changes import Changes, between
from reports.numbers import stats
from reports.numbers.stats import Reading, Verdict
from reports.reading.load import Results, load
from reports.records.record import Group
from reports.records.summary import Summary
from tests.reports.changes.test_plain import entry, noisy, run
from tests.reports.synthetic import benchmark, record, samples, write

Compare = Callable[..., Changes]


def measured(path: Path, anchor: float, factor: float = 1.0, **fields: Any) -> Results:
    """Write and read a run of two cases in one group whose anchor and whose cases took so long."""
    records = [record(rows=rows, group_id=path.stem, **fields) for rows in (1, 32)]
    group = Group(group_id=path.stem, anchor=[anchor] * 9, wall=1, sampling=1, cold_start=0)
    entries = [benchmark(case, factor * np.array(samples(1e-3, seed=case.rows))) for case in records]
    return load([write(path, entries, (), (), [group])])


def moved(folder: Path, anchor: float, factor: float, doubtful: str = "unclear", compare: Compare = between) -> Changes:
    base = measured(folder / "base.json", 1e-3)
    return compare(base, measured(folder / "new.json", anchor * 1e-3, factor, commit="another"), 0.05, doubtful)


def check_a_moved_anchor(folder: Path, compare: Compare) -> None:
    """A machine 1.3 times slower makes no code slower."""
    found = moved(folder, 1.3, 1.3, compare=compare)
    assert {each.verdict for each in found.changes} == {Verdict.UNCLEAR}


def test_with_a_moved_anchor_the_gate_answers_unclear(tmp_path: Path) -> None:
    check_a_moved_anchor(tmp_path, between)
    found = moved(tmp_path, 1.3, 1.3)
    assert {each.doubt for each in found.changes} == {"the anchor moved"}
    assert found.overall is None
    assert any("so 2 cases are in doubt (--doubtful raw" in warning for warning in found.warnings)


def test_a_gate_that_trusts_a_moved_anchor_would_be_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conditions, "_has_moved", lambda anchor, least: False)
    with pytest.raises(AssertionError):
        check_a_moved_anchor(tmp_path, between)


@pytest.mark.parametrize(
    ("anchor", "factor", "raw", "normalised"),
    [(1.3, 1.3, "SLOWER", "SAME"), (0.5, 1.0, "SAME", "SLOWER"), (1.3, 1.0, "SAME", "FASTER")],
)
def test_it_is_overruled_by_the_raw_ratio_or_by_that_beside_the_anchor(
    tmp_path: Path, anchor: float, factor: float, raw: str, normalised: str
) -> None:
    for doubtful, verdict in (("raw", raw), ("normalised", normalised)):
        assert {each.verdict for each in moved(tmp_path, anchor, factor, doubtful).changes} == {verdict}


def test_both_ratios_stand_side_by_side(tmp_path: Path) -> None:
    found = moved(tmp_path, 1.3, 1.3).changes
    (first, _) = found
    assert first.normalised is not None
    assert first.normalised.value == pytest.approx(1.3 * first.ratio.value)
    table = changes_text.cases("Cases", found)
    titles = [column.title for column in table.columns]
    assert titles[3:6] == ["speed-up", "99 % interval", "beside the anchor"]
    assert all(len(row) == len(titles) for row in table.rows)
    assert {row[5] for row in table.rows} <= {"0.99×", "1.00×", "1.01×"}
    without = changes_text.cases("Cases", [replace(each, anchor=None) for each in found])
    assert "beside the anchor" not in [column.title for column in without.columns]


def test_a_steady_anchor_casts_no_doubt(tmp_path: Path) -> None:
    assert {each.verdict for each in moved(tmp_path, 1.01, 1.3).changes} == {Verdict.SLOWER}


@pytest.mark.parametrize(
    ("fields", "doubted"),
    [
        ({}, True),
        ({"commit": "another"}, False),
        ({"dirty": True}, False),
        ({"threads": 7}, False),
        ({"versions": {"torch": "9.0"}}, False),
    ],
)
def test_two_runs_of_one_commit_on_one_machine_say_nothing_of_the_code(
    tmp_path: Path, fields: dict[str, Any], doubted: bool
) -> None:
    base = measured(tmp_path / "base.json", 1e-3)
    new = measured(tmp_path / "new.json", 1e-3, 1.3, **fields)
    assert {each.verdict for each in between(base, new).changes} == {"UNCLEAR" if doubted else "SLOWER"}
    assert {each.verdict for each in between(base, new, doubtful="raw").changes} == {Verdict.SLOWER}


def test_a_copy_of_a_file_is_no_second_run(tmp_path: Path) -> None:
    base = measured(tmp_path / "base.json", 1e-3)
    assert {each.verdict for each in between(base, base).changes} == {Verdict.SAME}


def coarse(seconds: float, tick: float, rounds: int = 40, seed: int = 0) -> Any:
    """Return what a clock of such a tick reads of a time with a little noise, begun anywhere within a tick."""
    rng = np.random.default_rng(seed)
    start = rng.uniform(0, tick, rounds)
    return tick * (np.floor((start + seconds * rng.lognormal(0, 0.01, rounds)) / tick) - np.floor(start / tick))


def plainly(base: Any, new: Any, keep: bool = True) -> Changes:
    later = {"written": "2026-11-04T12:00:00", "commit_info": {"id": "another", "dirty": False}}
    return plain.between(run(entry("test_f", base, keep=keep)), run(entry("test_f", new, keep=keep), **later), 0.05)


@pytest.mark.parametrize("keep", [True, False])
@pytest.mark.parametrize("rounds", [5, 12, 40])
@pytest.mark.parametrize(("base", "new"), [(0.0145, 0.0165), (0.014, 0.014), (0.0092, 0.0101), (0.022, 0.025)])
def test_a_coarse_clock_finds_no_change_below_its_tick(base: float, new: float, rounds: int, keep: bool) -> None:
    """Windows' clock of 15.6 ms reads 0, 1 or 2 ticks of each."""
    for seed in range(20):
        found = plainly(coarse(base, 1 / 64, rounds, seed), coarse(new, 1 / 64, rounds, seed + 100), keep)
        assert {each.verdict for each in found.changes} <= {Verdict.UNCLEAR, Verdict.SAME}
        assert len(found.changes) + len(found.untimed) == 1


def test_a_coarse_clock_finds_a_change_of_many_ticks() -> None:
    for seed in range(10):
        found = plainly(coarse(0.5, 1 / 64, 20, seed), coarse(1.0, 1 / 64, 20, seed + 100))
        assert {each.verdict for each in found.changes} == {Verdict.SLOWER}


@pytest.mark.parametrize(
    ("data", "tick"),
    [
        ([0, 1, 1, 1, 1], 1),
        ([1, 2] * 9, 1),
        ([3, 4, 4, 5] * 5, 1),
        ([0.0156250, 0.0156251, 0.0312499, 0.0312502] * 5, 0.015625),
        ([1] * 30, 0),
        ([1] * 29 + [2], 1),
        ([1] * 20 + [1.37, 1.61, 2.9], 0),
        (noisy(1e-3, 300), 0),
        (noisy(1e-3, 9), 0),
        (noisy(1e-3, 30, noise=1e-6), 0),
    ],
)
def test_a_tick_is_seen_in_samples(data: Any, tick: float) -> None:
    assert stats.tick(np.array(data, dtype=float)) == pytest.approx(tick, rel=1e-3)


@pytest.mark.parametrize("keep", [True, False])
def test_a_median_of_zero_has_no_ratio(keep: bool) -> None:
    zeros = np.array([0.0] * 7 + [1e-3] * 2)
    for base, new, side in (
        (zeros, noisy(1e-3, 9), "BASE"),
        (noisy(1e-3, 9), zeros, "NEW"),
        (zeros, zeros, "BASE and"),
    ):
        found = plainly(base, new, keep)
        assert found.changes == ()
        assert [each.case for each in found.untimed] == ["tests/test_a.py::test_f"]
        assert f"its median in {side}" in found.untimed[0].reason
    assert changes_text.message(found) == "No case has a time in both runs."


def test_a_few_zeros_among_samples_are_read() -> None:
    data = np.concatenate([np.zeros(3), noisy(1e-3, 297)])
    (found,) = plainly(noisy(1e-3, 300), data).changes
    assert found.verdict is Verdict.UNCLEAR
    assert found.doubt == "its fastest round took no time"


def test_a_zero_among_few_rounds_is_unclear() -> None:
    (found,) = plainly([1e-3, 1.1e-3, 1.2e-3, 1.3e-3, 1.4e-3], [0.0, 9e-3, 9.1e-3, 9.2e-3, 9.3e-3]).changes
    assert found.verdict is Verdict.UNCLEAR


def summary(least: float, median: float, iqr: float) -> Summary:
    return Summary.model_validate({"median": median, "iqr": iqr, "rounds": 100, "min": least, "max": 2 * median})


def test_rounds_far_below_a_tight_median_are_odd() -> None:
    assert odd_rounds(summary(25e-6, 20e-3, 1e-6))
    assert odd_rounds(summary(1e-3, 3.1e-3, 0.1e-3))
    assert not odd_rounds(summary(1.1e-3, 3.1e-3, 0.1e-3))  # a processor that changes its clock
    assert not odd_rounds(summary(1e-3, 4e-3, 1e-3))  # a machine under load
    assert not odd_rounds(summary(1e-3, 1e-3, 0))
    assert not odd_rounds(Summary(median=1e-3, iqr=1e-5, rounds=9))


def test_the_interval_of_several_runs_by_hand() -> None:
    """Logarithms 0, 0.02 and 0.5, 0.52: spread^2 2e-4 with 2 degrees of freedom, whose 99 % quantile is 9.925."""
    base, new = ([Reading(float(np.exp(log)), 0.0) for log in logs] for logs in ((0.5, 0.52), (0.0, 0.02)))
    found = stats.ratio_of_runs(base, new)
    assert found.value == pytest.approx(np.exp(0.5))
    assert found.low == pytest.approx(np.exp(0.5 - 9.9248 * 2e-4**0.5), rel=1e-5)
    assert found.high == pytest.approx(np.exp(0.5 + 9.9248 * 2e-4**0.5), rel=1e-5)


def test_runs_that_agree_by_chance_still_have_their_own_errors() -> None:
    found = stats.ratio_of_runs([Reading(1.0, 0.05)] * 2, [Reading(0.9, 0.05)] * 2)
    assert found.low is not None
    assert found.low < 1


def test_it_covers_the_truth_between_noisy_runs() -> None:
    rng = np.random.default_rng(6)
    held = 0
    for _ in range(2000):
        base, new = ([Reading(float(time), 0.0) for time in rng.lognormal(0, 0.1, 3)] for _ in range(2))
        found = stats.ratio_of_runs(base, new)
        assert found.low is not None
        assert found.high is not None
        held += found.low <= 1 <= found.high
    assert held >= 0.985 * 2000
