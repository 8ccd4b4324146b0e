"""Files after public reports of people who compare benchmarks, each with the right answer; names and commits replaced.

`field/` holds the files; the public report behind each is named beside its test.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from pathlib import Path

import pytest

from reports.changes.change import Change
from reports.changes.changes import Changes
from reports.changes.files import compare, compare_runs
from reports.changes.merge_gate import judged, share
from reports.errors import ReportError
from reports.numbers.stats import LEAST_EFFECT, Verdict

FIELD = Path(__file__).parent / "field"
RUNS = [FIELD / f"pb_same_commit_run{number}.json" for number in range(1, 6)]


def compared(name: str, least: float = LEAST_EFFECT) -> Changes:
    return compare(FIELD / f"pb_{name}_base.json", FIELD / f"pb_{name}_new.json", least)


def by_name(changes: Changes) -> dict[str, Change]:
    return {change.case.rpartition("::")[2]: change for change in changes.changes}


def failures(changes: Changes) -> Sequence[str]:
    outcome = judged(changes, (Verdict.SLOWER,))
    assert outcome is not None
    return outcome.failures


@pytest.mark.parametrize("name", ["five_rounds", "five_samples"])
def test_a_hundredfold_regression_of_five_rounds_is_slower(name: str) -> None:
    """fhightower/ioc-finder PR 412: by its ranks, 2 / C(10, 5) and 2 / C(273, 5) of all orders are as extreme."""
    found = compared(name)
    assert {change.verdict for change in found.changes} == {Verdict.SLOWER}
    assert failures(found)


@pytest.mark.parametrize(("least", "verdict"), [("100%", Verdict.SLOWER), ("150%", Verdict.SLOWER), ("200%", "SAME")])
def test_a_least_effect_of_a_hundred_percent_and_more(least: str, verdict: Verdict) -> None:
    """ionelmc/pytest-benchmark#279: 10 to 25 ms is 150 % slower."""
    (found,) = compared("least", share(least)).changes
    assert found.verdict == verdict


def test_another_checkout_folder_hides_no_case() -> None:
    found = compared("rootdir")
    assert sorted(by_name(found)) == ["test_parse", "test_urls"]
    assert (found.only_base, found.only_new) == ((), ())
    assert found.warnings == (
        "2 benchmarks matched without leading folders: code/tests/bench.py → project/tests/bench.py.",
    )


def test_the_cpu_in_files_of_an_old_cpuinfo() -> None:
    """Test data of github-action-benchmark, with py-cpuinfo before version 6."""
    said = "The CPU differs: Intel(R) Core(TM) i7-4771 CPU @ 3.50GHz → Intel(R) Core(TM) i5-5257U CPU @ 2.70GHz."
    assert said in compared("oldcpu").warnings


def test_two_runs_of_one_commit_give_no_verdict() -> None:
    """k9securityio/cedar-py#84: of all pairs of its runs 16.6 % had a wrong verdict."""
    for base, new in combinations(RUNS, 2):
        found = compare(base, new)
        assert {change.verdict for change in found.changes} == {Verdict.UNCLEAR}
        assert any("Both runs are of commit aaaaaaaaaa" in warning for warning in found.warnings)
        assert "nothing was decided" in failures(found)[0]


def test_several_runs_of_one_commit_are_never_faster_nor_slower() -> None:
    verdicts = {
        change.verdict
        for size in (2, 3)
        for base in combinations(RUNS, size)
        for change in compare_runs(base, [run for run in RUNS if run not in base]).changes
    }
    assert verdicts <= {Verdict.SAME, Verdict.UNCLEAR}


def test_one_pair_judged_all_the_same_has_wrong_verdicts() -> None:
    """So it is the spread between runs, not the files, that takes them away."""
    found = compare(RUNS[0], RUNS[1], doubtful="raw")
    assert {change.verdict for change in found.changes} > {Verdict.SLOWER}


def test_rounds_that_only_queue_their_work_are_in_doubt() -> None:
    """dsuess/rmsnorm.torch: a CUDA operator timed without synchronising, 459 times faster later."""
    found = by_name(compared("async"))
    assert found["test_norm[own]"].verdict is Verdict.UNCLEAR
    assert found["test_norm[own]"].doubt == "its fastest round took 24.9 µs and half of them 19.9 ms within 1.30 µs"
    assert found["test_norm[ref]"].verdict is Verdict.FASTER
    assert by_name(compare(FIELD / "pb_async_base.json", FIELD / "pb_async_new.json", doubtful="raw"))[
        "test_norm[own]"
    ].verdict is Verdict.FASTER  # fmt: skip


def test_a_case_in_doubt_is_in_no_mean() -> None:
    overall = compared("async").overall
    assert overall is not None
    assert overall.ratio.value == pytest.approx(4.96e-05 / 4.46e-05)


def test_one_benchmark_twice_is_refused_with_a_way_out() -> None:
    """ionelmc/pytest-benchmark#260."""
    with pytest.raises(ReportError, match=r"twice: remove one of them, or give the files of several runs apart"):
        compare(FIELD / "pb_merged.json", FIELD / "pb_least_base.json")


@pytest.mark.parametrize("name", ["bom", "utf16"])
def test_files_that_windows_shells_wrote_are_read(name: str) -> None:
    (found,) = compare(FIELD / "pb_least_base.json", FIELD / f"pb_{name}.json").changes
    assert found.verdict is Verdict.SAME


def test_a_benchmark_without_statistics_is_named_with_why() -> None:
    """ionelmc/pytest-benchmark#289."""
    with pytest.raises(ReportError, match=r"tests/bench\.py::test_a has no `stats`: it failed, or its function was"):
        compare(FIELD / "pb_nostats.json", FIELD / "pb_least_base.json")
