"""Two runs of moegap compared: hand-made numbers, planted slowdowns, and mutants that must be seen."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reports.changes import change as changing
from reports.changes.change import Change, verdict
from reports.changes.changes import Changes, between, mean
from reports.errors import ReportError
from reports.numbers import stats
from reports.numbers.stats import Estimate, Verdict
from reports.reading.load import Results, gather
from reports.records.record import NOT_MEASURED_KEY, CaseRecord, Status
from tests.reports.synthetic import benchmark, record, samples

Compare = Callable[..., Changes]
INVERSE = {Verdict.FASTER: Verdict.SLOWER, Verdict.SLOWER: Verdict.FASTER}


def run(entries: Iterable[dict[str, Any]], unmeasured: Iterable[CaseRecord] = (), name: str = "run.json") -> Results:
    listed = [case.model_dump(mode="json") for case in unmeasured]
    return gather({Path(name): {"benchmarks": list(entries), NOT_MEASURED_KEY: listed}})


def timed(median: float, seed: int = 0, noise: float = 0.01, **fields: Any) -> dict[str, Any]:
    return benchmark(record(**fields), samples(median, seed=seed, noise=noise))


def scaled(entry: dict[str, Any], factor: float, **fields: Any) -> dict[str, Any]:
    """Return a copy of an entry whose samples all took `factor` times as long."""
    times = [factor * time for time in entry["stats"]["data"]]
    return {**entry, "extra_info": entry["extra_info"] | fields, "stats": {**entry["stats"], "data": times}}


def change(ratio: Estimate, together: str = "", said: Verdict = Verdict.SAME, form: str = "eager") -> Change:
    return Change("case", "case", "family", form, together, 1.0, 1.0, ratio, said)


ENTRIES = [timed(1e-3, seed=rows, rows=rows, form=form) for rows in (1, 32, 256) for form in ("loop", "eager")]


def test_identical_runs_are_the_same_everywhere() -> None:
    found = between(run(ENTRIES), run(ENTRIES))
    assert {change.verdict for change in found.changes} == {Verdict.SAME}
    assert {(change.ratio.value, change.ratio.low, change.ratio.high) for change in found.changes} == {(1.0, 1.0, 1.0)}
    assert len(found.changes) == 6
    assert found.lost == found.gained == found.only_base == found.only_new == found.warnings == ()


@pytest.mark.parametrize("least", [0.01, 0.03, 0.05, 0.1])
def test_a_change_of_just_the_least_effect_is_found(least: float) -> None:
    slower = between(run(ENTRIES), run([scaled(entry, 1 + least) for entry in ENTRIES]), least)
    faster = between(run([scaled(entry, 1 + least) for entry in ENTRIES]), run(ENTRIES), least)
    assert {change.verdict for change in slower.changes} == {Verdict.SLOWER}
    assert {change.verdict for change in faster.changes} == {Verdict.FASTER}


def test_a_change_just_below_the_least_effect_is_the_same() -> None:
    found = between(run(ENTRIES), run([scaled(entry, 1.0499) for entry in ENTRIES]), 0.05)
    assert {change.verdict for change in found.changes} == {Verdict.SAME}


@given(st.floats(1e-3, 0.99), st.floats(0.2, 5))
def test_rounding_takes_a_billionth_of_the_least_effect(least: float, unit: float) -> None:
    """A planted ratio of 1 / (1 + least), rounded as division rounds it, is SLOWER; one 0.0001 nearer to 1 is not."""
    value = unit / (unit * (1 + least))
    assert verdict(Estimate(value, value, value, 20, 20), least) is Verdict.SLOWER
    nearer = 1 / (1 + least * 0.9999)
    assert verdict(Estimate(nearer, nearer, nearer, 20, 20), least) is Verdict.SAME


def check_direction(compare: Compare) -> None:
    """NEW at twice BASE's time is SLOWER at a ratio of a half."""
    (found,) = compare(run(ENTRIES[:1]), run([scaled(ENTRIES[0], 2.0)])).changes
    assert found.verdict is Verdict.SLOWER
    assert found.ratio.value == pytest.approx(0.5)
    assert found.new == pytest.approx(2 * found.base)


def check_pairing(compare: Compare) -> None:
    """Blocks that differ by half cover a slowdown of 4 % if their medians are resampled apart, and not by block."""
    entry = benchmark(record(), np.repeat(np.linspace(1e-3, 1.5e-3, 20), 2))
    (found,) = compare(run([entry]), run([scaled(entry, 1.04)])).changes
    assert found.ratio.paired
    assert found.verdict is Verdict.SLOWER
    assert found.ratio.low == pytest.approx(1 / 1.04)


def test_the_direction_and_the_pairing() -> None:
    check_direction(between)
    check_pairing(between)


def test_a_comparison_the_wrong_way_round_would_be_seen() -> None:
    with pytest.raises(AssertionError):
        check_direction(lambda base, new: between(new, base))


def test_a_comparison_without_pairing_would_be_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    ratio_of_medians = stats.ratio_of_medians
    monkeypatch.setattr(
        changing.stats, "ratio_of_medians", lambda *sides: ratio_of_medians(*sides[:4], interleaved=False)
    )
    with pytest.raises(AssertionError):
        check_pairing(between)


def test_two_runs_are_never_paired() -> None:
    """Equal block numbers of two groups say nothing: the groups were measured apart."""
    found = between(run(ENTRIES), run([scaled(entry, 1.0, group_id="another") for entry in ENTRIES]))
    assert not any(change.ratio.paired for change in found.changes)
    assert {change.ratio.value for change in found.changes} == {1.0}
    assert all(change.ratio.low is not None and change.ratio.low < 1 for change in found.changes)


@settings(max_examples=25, deadline=None)
@given(st.floats(0.25, 4), st.integers(0, 1000), st.floats(0.001, 0.1), st.booleans())
def test_turning_the_runs_round_inverts_ratios_and_verdicts(
    factor: float, seed: int, noise: float, paired: bool
) -> None:
    before = timed(1e-3, seed, noise)
    group = before["extra_info"]["group_id"] if paired else "another"
    after = timed(factor * 1e-3, seed + 1, noise, group_id=group, commit="another")
    (there,) = between(run([before]), run([after])).changes
    (back,) = between(run([after]), run([before])).changes
    assert back.ratio.value == pytest.approx(1 / there.ratio.value)
    assert back.verdict is INVERSE.get(there.verdict, there.verdict) or _borderline(there)


def _borderline(found: Change) -> bool:
    """Whether an end of the interval, which is drawn anew the other way round, lies near where a verdict changes."""
    edges = (1 / 1.03, 1.0, 1.03)
    ends = (found.ratio.low, found.ratio.high)
    return any(end is not None and abs(math.log(end / edge)) < 0.02 for end in ends for edge in edges)


@settings(max_examples=25, deadline=None)
@given(st.floats(0.15, 1), st.integers(0, 1000), st.floats(0.001, 0.02), st.booleans())
def test_a_slowdown_well_above_the_least_effect_is_found_in_noise(
    slowdown: float, seed: int, noise: float, paired: bool
) -> None:
    before = timed(1e-3, seed, noise)
    after = timed(
        (1 + slowdown) * 1e-3,
        seed + 1,
        noise,
        group_id=before["extra_info"]["group_id"] if paired else "another",
        commit="another",
    )
    (found,) = between(run([before]), run([after]), 0.05).changes
    assert found.verdict is Verdict.SLOWER


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 1000), st.floats(0.001, 0.5), st.sampled_from([0.0, 0.01, 0.05]))
def test_a_run_beside_itself_is_never_slower(seed: int, noise: float, least: float) -> None:
    (found,) = between(run([timed(1e-3, seed, noise)]), run([timed(1e-3, seed, noise)]), least).changes
    assert found.verdict is Verdict.SAME


@pytest.mark.parametrize("time", [1e300, 1e-300])
def test_a_time_that_nothing_takes_is_one_sentence(time: float) -> None:
    with pytest.raises(ReportError, match=r"at `stats\.data\.0` .*measure it again"):
        between(run(ENTRIES), run([scaled(ENTRIES[0], time / 1e-3)]))


def test_the_ratio_of_two_runs_is_that_of_their_medians() -> None:
    """By hand: medians of blocks 2, 4, 6 and 3, 3, 3 ms have the medians 4 and 3; too few blocks for an interval."""
    before = benchmark(record(), [1e-3, 3e-3, 4e-3, 4e-3, 5e-3, 7e-3])
    after = benchmark(record(group_id="another"), [3e-3] * 6)
    (found,) = between(run([before]), run([after])).changes
    assert (found.base, found.new) == pytest.approx((4e-3, 3e-3))
    assert found.ratio == Estimate(pytest.approx(4 / 3), None, None, 6, 3)
    assert found.verdict is Verdict.UNCLEAR


def test_cases_that_lost_their_time_are_told_apart() -> None:
    states = (Status.WRONG, Status.FAILED, Status.UNAVAILABLE, Status.SKIPPED)
    before = [timed(1e-3, rows=place) for place in range(5)]
    after = [record(rows=place, status=state, reason=f"because {state}") for place, state in enumerate(states)]
    found = between(run(before), run([before[4]], after))
    assert [(lost.status, lost.reason) for lost in found.lost] == [(state, f"because {state}") for state in states]
    assert [change.case for change in found.changes] == [before[4]["extra_info"]["case_id"]]


def test_cases_of_one_run_only_are_named() -> None:
    ids = [entry["extra_info"]["case_id"] for entry in ENTRIES]
    skipped = record(case_id=ids[3], status="skipped", reason="no time left")
    found = between(run(ENTRIES[:3], [skipped]), run(ENTRIES[1:5]))
    assert [change.case for change in found.changes] == ids[1:3]
    assert (found.only_base, found.gained, found.only_new) == ((ids[0],), (ids[3],), (ids[4],))


def test_a_case_that_never_had_a_time_is_no_change() -> None:
    wrong = record(status="wrong", reason="off", form="triton")
    found = between(run(ENTRIES, [wrong]), run(ENTRIES, [wrong]))
    assert found.lost == found.gained == found.only_base == found.only_new == ()


def test_nothing_in_common_is_an_error() -> None:
    with pytest.raises(ReportError, match=r"a\.json and b\.json have no case in common"):
        between(run(ENTRIES[:2], name="a.json"), run(ENTRIES[2:], name="b.json"))


def test_all_cases_lost_is_none() -> None:
    broken = record(case_id=ENTRIES[0]["extra_info"]["case_id"], status="failed", reason="raised")
    found = between(run(ENTRIES[:1]), run([], [broken]))
    assert (len(found.lost), found.changes, found.overall, found.families) == (1, (), None, [])


def test_a_case_measured_on_two_machines_is_matched_by_machine_too() -> None:
    two = [timed(1e-3, threads=1), timed(5e-4, threads=2)]
    found = between(run(two), run(list(reversed(two))))
    assert [change.verdict for change in found.changes] == [Verdict.SAME, Verdict.SAME]
    assert found.warnings == ()


def test_steps_are_no_cases() -> None:
    step = timed(1e-3, step="balanced", case_id="a-step")
    found = between(run([*ENTRIES, step]), run([*ENTRIES, scaled(step, 2)]))
    assert len(found.changes) == len(ENTRIES)


def test_the_worst_comes_first() -> None:
    factors = (1.0, 0.5, 3.0, 2.0, 0.25, 1.0)
    found = between(run(ENTRIES), run([scaled(*pair) for pair in zip(ENTRIES, factors, strict=True)]))
    assert [round(change.ratio.value, 2) for change in found.changes] == [0.33, 0.5, 2.0, 4.0, 1.0, 1.0]


def test_labels_say_what_tells_cases_apart() -> None:
    entries = [timed(1e-3, rows=1), timed(1e-3, rows=1, cache="cold", case_id="cold")]
    found = between(run(entries), run(entries))
    assert [change.label for change in found.changes] == [
        "sparse head, eager, 1 row, warm caches",
        "sparse head, eager, 1 row, cold caches",
    ]


def test_training_has_a_mean_of_its_own() -> None:
    before = [timed(1e-3), timed(3e-3, passes="training", case_id="training")]
    after = [before[0], scaled(before[1], 2)]
    found = between(run(before), run(after))
    assert {family.name: round(family.ratio.value, 2) for family in found.families} == {
        "sparse head, eager, forward": 1.0,
        "sparse head, eager, training": 0.5,
    }


FACTORS = st.lists(st.floats(0.1, 10), min_size=1, max_size=12)


@given(FACTORS, st.floats(1.001, 2))
def test_the_geometric_mean_and_its_interval_follow_numpy(factors: list[float], width: float) -> None:
    """Of cases measured apart, each with the interval [value / width, value x width]."""
    names = map(str, count())
    found = mean("all", [change(Estimate(f, f / width, f * width, 20, 10), next(names)) for f in factors]).ratio
    centre = float(np.prod(np.array(factors, dtype=np.longdouble)) ** (1 / len(factors)))
    assert found.value == pytest.approx(centre)
    assert found.low == pytest.approx(centre / width ** (1 / np.sqrt(len(factors))))
    assert found.high == pytest.approx(centre * width ** (1 / np.sqrt(len(factors))))


@given(FACTORS, st.floats(1.001, 2))
def test_what_was_measured_together_gains_nothing_from_its_number(factors: list[float], width: float) -> None:
    found = mean("all", [change(Estimate(f, f / width, f * width, 20, 10), "one group") for f in factors]).ratio
    assert found.high == pytest.approx(found.value * width)
    assert found.low == pytest.approx(found.value / width)


def test_the_interval_of_a_mean_covers_its_truth() -> None:
    """Brute force: of 200 means of four ratios measured apart, 99 % intervals hold the truth in 95 % and more."""
    rng = np.random.default_rng(5)
    blocks = np.arange(20)
    held = 0
    for _ in range(200):
        sides = rng.lognormal(0, 0.05, (4, 2, 20)) * np.array([1.0, 1.1])[:, None]
        ratios = [stats.ratio_of_medians(base, blocks, new, blocks, interleaved=False) for base, new in sides]
        found = mean("all", [change(ratio, str(place)) for place, ratio in enumerate(ratios)]).ratio
        assert found.low is not None
        assert found.high is not None
        held += found.low <= 1 / 1.1 <= found.high
    assert held >= 190


def test_a_mean_has_an_interval_only_where_all_have_one() -> None:
    found = mean("all", [change(Estimate(2.0, 1.9, 2.1, 20, 10)), change(Estimate(0.5, None, None, 6, 3))])
    assert (found.ratio.value, found.ratio.low, found.ratio.high) == (1.0, None, None)


def test_families_are_heads_and_forms() -> None:
    found = between(run(ENTRIES), run([scaled(entry, 1.0 + ("loop" in entry["name"])) for entry in ENTRIES]))
    assert [(family.name, family.form, family.verdicts) for family in found.families] == [
        ("sparse head, loop", "loop", {Verdict.SLOWER: 3}),
        ("sparse head, eager", "eager", {Verdict.SAME: 3}),
    ]
    assert [family.ratio.value for family in found.families] == pytest.approx([0.5, 1.0])
    overall = found.overall
    assert overall is not None
    assert overall.ratio.value == pytest.approx(math.sqrt(0.5))
