"""Means over seeds and their differences, beside scipy's own."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from reports.numbers.seeds import difference, spread

ACCURACIES = st.floats(0, 1).map(lambda value: round(value, 4))


def by_seed(values: list[float], first: int = 0) -> dict[int, float]:
    return {first + place: value for place, value in enumerate(values)}


def test_a_spread_is_the_sample_standard_deviation() -> None:
    found = spread([0.1, 0.2, 0.6])
    assert found is not None
    assert (found.mean, found.sd, found.n) == pytest.approx((0.3, np.std([0.1, 0.2, 0.6], ddof=1), 3))


def test_one_seed_has_no_spread_and_none_no_mean() -> None:
    found = spread([0.5])
    assert found is not None
    assert found.sd is None
    assert spread([]) is None


@given(st.lists(st.tuples(ACCURACIES, ACCURACIES), min_size=2, max_size=8))
def test_seeds_on_both_sides_are_paired(pairs: list[tuple[float, float]]) -> None:
    first, second = (list(side) for side in zip(*pairs, strict=True))
    found = difference(by_seed(first), by_seed(second))
    assert found is not None
    assert found.paired
    assert found.n == len(pairs)
    gaps = np.subtract(first, second)
    if np.ptp(gaps) > 1e-9:
        expected = stats.ttest_rel(first, second).confidence_interval(0.95)
        assert (found.low, found.high) == pytest.approx((expected.low, expected.high), rel=1e-9, abs=1e-12)
    else:
        assert (found.low, found.high) == pytest.approx((gaps[0], gaps[0]), abs=1e-8)


@given(st.lists(ACCURACIES, min_size=2, max_size=6), st.lists(ACCURACIES, min_size=2, max_size=6))
def test_other_seeds_are_held_apart_by_welch(first: list[float], second: list[float]) -> None:
    found = difference(by_seed(first), by_seed(second, first=100))
    assert found is not None
    assert not found.paired
    assert found.n == min(len(first), len(second))
    if np.ptp(first) > 1e-9 and np.ptp(second) > 1e-9:  # of a constant side scipy doubts its own precision
        expected = stats.ttest_ind(first, second, equal_var=False).confidence_interval(0.95)
        assert (found.low, found.high) == pytest.approx((expected.low, expected.high), rel=1e-9, abs=1e-12)


def test_a_side_without_spread_leaves_the_other_sides_freedom() -> None:
    found = difference({0: 0.1, 1: 0.2, 2: 0.6}, {7: 0.5, 8: 0.5})
    assert found is not None
    assert found.low is not None
    expected = stats.t.ppf(0.975, df=2) * stats.sem([0.1, 0.2, 0.6])
    assert found.value - found.low == pytest.approx(expected)


def test_only_shared_seeds_are_paired() -> None:
    found = difference({0: 0.9, 1: 0.8, 2: 0.1}, {0: 0.7, 1: 0.7, 3: 0.9})
    assert found is not None
    assert (found.value, found.n, found.paired) == (pytest.approx(0.15), 2, True)


@pytest.mark.parametrize(("first", "second"), [({0: 0.9}, {0: 0.8}), ({0: 0.9}, {1: 0.8, 2: 0.7})])
def test_one_seed_on_a_side_has_no_interval(first: dict[int, float], second: dict[int, float]) -> None:
    found = difference(first, second)
    assert found is not None
    assert (found.low, found.high, found.n, found.clear) == (None, None, 1, False)


def test_a_side_without_seeds_has_no_difference() -> None:
    assert difference({}, {0: 0.5}) is None


def test_an_interval_that_touches_zero_is_not_clear() -> None:
    wide = difference({0: 0.9, 1: 0.8}, {0: 0.8, 1: 0.9})
    narrow = difference({0: 0.91, 1: 0.92, 2: 0.93}, {0: 0.8101, 1: 0.82, 2: 0.83})
    assert wide is not None
    assert narrow is not None
    assert (wide.clear, narrow.clear) == (False, True)
