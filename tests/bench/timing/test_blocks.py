"""Samples in blocks: medians by hand, and intervals against the binomial law written out."""

from math import comb

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.timing.blocks import block_medians, median_interval


def test_each_block_has_the_median_of_its_own_samples():
    assert block_medians([3.0, 1.0, 2.0, 8.0, 4.0], [0, 0, 0, 7, 7]) == {0: 2.0, 7: 6.0}
    assert block_medians([], []) == {}


@pytest.mark.parametrize("confidence", [0.95, 0.99])
@given(values=st.lists(st.floats(-10, 10), max_size=40))
def test_the_interval_is_the_narrowest_that_holds_the_median_often_enough(values, confidence):
    number, tail = len(values), (1 - confidence) / 2
    below = [sum(comb(number, count) for count in range(place + 1)) / 2**number for place in range(number)]
    places = [place for place in range(number) if below[place] < tail]  # the median lies below this order statistic
    found = median_interval(values, confidence)
    if not places:
        assert found is None
    else:
        ranked = sorted(values)
        assert found == (ranked[places[-1]], ranked[-1 - places[-1]])
