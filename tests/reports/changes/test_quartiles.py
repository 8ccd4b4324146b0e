"""Ratios of medians from quartiles, against a calculation by hand and against simulation."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reports.changes.change import ratio_by_summary
from reports.numbers.stats import Estimate
from reports.records.summary import Summary

Z = 2.5758293035489004  # of a normal distribution's 99 %


def quartiles(median: float, iqr: float, rounds: int) -> Summary:
    return Summary(median=median, iqr=iqr, rounds=rounds)


def test_the_interval_by_hand() -> None:
    """Errors 0.93 x 0.2 / sqrt(100) / 2 = 0.0093 and 0.93 x 0.1 / sqrt(25) / 1 = 0.0186, together 0.0207953."""
    found = ratio_by_summary(quartiles(2.0, 0.2, 100), quartiles(1.0, 0.1, 25))
    assert found.value == 2.0
    assert found.low == pytest.approx(2.0 * math.exp(-Z * 0.0207953), rel=1e-6)
    assert found.high == pytest.approx(2.0 * math.exp(Z * 0.0207953), rel=1e-6)
    assert (found.samples, found.blocks, found.paired) == (25, 25, False)


def test_few_rounds_have_no_interval() -> None:
    assert ratio_by_summary(quartiles(2.0, 0.2, 100), quartiles(1.0, 0.1, 7)) == Estimate(2.0, None, None, 7, 7)
    assert ratio_by_summary(quartiles(2.0, 0.2, 8), quartiles(1.0, 0.1, 100)).low is not None


def test_no_spread_is_no_doubt() -> None:
    assert ratio_by_summary(quartiles(3.0, 0.0, 10), quartiles(1.5, 0.0, 10)) == Estimate(2.0, 2.0, 2.0, 10, 10)


SIDE = st.builds(quartiles, st.floats(1e-6, 1.0), st.floats(0.0, 1.0), st.integers(8, 10_000))


@given(SIDE, SIDE)
def test_turning_the_sides_round_inverts_it(base: Summary, new: Summary) -> None:
    there, back = ratio_by_summary(base, new), ratio_by_summary(new, base)
    assert there.value * back.value == pytest.approx(1)
    assert (there.low is None) == (back.high is None)
    if there.low is not None and back.high is not None:
        assert there.low * back.high == pytest.approx(1)


def test_a_spread_beyond_the_median_says_nothing() -> None:
    assert ratio_by_summary(quartiles(1.0, 0.0, 8), quartiles(1e-6, 1.0, 8)) == Estimate(1e6, None, None, 8, 8)


def test_it_covers_the_truth_of_independent_samples() -> None:
    rng = np.random.default_rng(3)
    held = 0
    for _ in range(400):
        sides = [rng.lognormal(shift, 0.1, 60) for shift in (0.0, 0.05)]
        quarters = [np.quantile(side, [0.25, 0.5, 0.75]) for side in sides]
        found = ratio_by_summary(*(quartiles(float(q[1]), float(q[2] - q[0]), 60) for q in quarters))
        assert found.low is not None
        assert found.high is not None
        held += found.low <= math.exp(-0.05) <= found.high
    assert held >= 0.97 * 400
