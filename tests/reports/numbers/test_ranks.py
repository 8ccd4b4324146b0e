"""The interval by ranks, against a count of all orders and against simulation."""

from __future__ import annotations

from itertools import combinations
from math import comb

import numpy as np
import pytest

from reports.numbers import ranks

CONFIDENCE = 0.99


def counted(n: int, m: int) -> int | None:
    """Return how many ratios lie outside each end, by listing every order of two sides of n and m samples."""
    orders = [
        sum(place - rank for rank, place in enumerate(places))  # samples of the other side before each of this one
        for places in combinations(range(n + m), n)
    ]
    share = (1 - CONFIDENCE) / 2
    left_out = [d for d in range(n * m) if sum(pairs <= d for pairs in orders) <= share * len(orders)]
    return max(left_out, default=None)


@pytest.mark.parametrize(("n", "m"), [(1, 1), (2, 30), (3, 9), (4, 4), (4, 6), (5, 5), (5, 8), (7, 7), (6, 3)])
def test_the_ends_are_those_of_a_count_of_all_orders(n: int, m: int) -> None:
    rng = np.random.default_rng(n + m)
    base, samples = rng.lognormal(size=n), rng.lognormal(size=m)
    left_out = counted(n, m) if comb(n + m, n) < 10_000 else 0
    ratios = sorted(float(a / b) for a in base for b in samples)
    expected = (None, None) if left_out is None else (ratios[left_out], ratios[-1 - left_out])
    assert ranks.interval(base, samples, CONFIDENCE) == expected


def test_five_a_side_are_the_fewest_of_equal_sides() -> None:
    assert ranks.interval(np.ones(4), np.ones(4), CONFIDENCE) == (None, None)
    assert ranks.interval(np.arange(1.0, 6.0), np.ones(5), CONFIDENCE) == (1.0, 5.0)
    assert ranks.outermost((1.0, 5.0, 5), (1.0, 1.0, 5), CONFIDENCE) == (1.0, 5.0)
    assert ranks.outermost((1.0, 5.0, 4), (1.0, 1.0, 4), CONFIDENCE) == (None, None)


def test_turning_the_sides_round_inverts_the_ends() -> None:
    rng = np.random.default_rng(4)
    base, samples = rng.lognormal(size=6), rng.lognormal(size=7)
    low, high = ranks.interval(base, samples, CONFIDENCE)
    back_low, back_high = ranks.interval(samples, base, CONFIDENCE)
    assert low is not None
    assert back_low is not None
    assert (low, high) == (pytest.approx(1 / back_high), pytest.approx(1 / back_low))


def test_it_holds_the_truth_whatever_the_distribution() -> None:
    rng = np.random.default_rng(5)
    for draw in (rng.lognormal, lambda **size: rng.pareto(1.5, **size) + 1, lambda **size: rng.integers(9, 12, **size)):
        held = 0
        for _ in range(1000):
            low, high = ranks.interval(np.array(draw(size=5)) * 2.0, np.array(draw(size=6)) * 1.0, CONFIDENCE)
            assert low is not None
            assert high is not None
            held += low <= 2.0 <= high
        assert held >= 985
