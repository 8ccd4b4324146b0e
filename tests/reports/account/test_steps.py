"""Differences within blocks: medians by block against plain Python, and resampling that keeps a block together."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reports.account.steps import block_medians, percentiles, resampled_medians
from reports.numbers.stats import LEAST_BLOCKS, RESAMPLES
from reports.reading.load import MeasuredCase
from tests.reports.synthetic import record

BLOCKS = st.dictionaries(st.integers(0, 9), st.lists(st.floats(1e-6, 1), min_size=1, max_size=4), min_size=1)


def case(blocks: Mapping[int, Sequence[float]]) -> MeasuredCase:
    samples = [time for times in blocks.values() for time in times]
    numbers = [block for block, times in blocks.items() for _ in times]
    return MeasuredCase(record(), np.array(samples), np.array(numbers, dtype=np.int64), Path("run.json"))


@given(st.lists(BLOCKS, min_size=1, max_size=4))
def test_only_blocks_that_all_share_count(drawn: list[dict[int, list[float]]]) -> None:
    shared = sorted(set.intersection(*(set(blocks) for blocks in drawn)))
    found = block_medians([case(blocks) for blocks in drawn])
    assert found.shape == (len(shared), len(drawn))
    expected = [[statistics.median(blocks[block]) for blocks in drawn] for block in shared]
    assert found.tolist() == [pytest.approx(row) for row in expected]


def test_few_blocks_have_no_interval() -> None:
    assert resampled_medians(np.ones((LEAST_BLOCKS - 1, 2))) is None
    assert resampled_medians(np.ones((LEAST_BLOCKS, 2))) is not None


def test_all_columns_are_drawn_from_the_same_blocks() -> None:
    """A disturbance that both columns share cancels in each draw, so their difference has no spread."""
    shared = np.random.default_rng(0).lognormal(0, 1, 21)  # odd: a median is one of them
    found = resampled_medians(np.column_stack([shared, shared + 2]))
    assert found is not None
    assert found.shape == (RESAMPLES, 2)
    assert np.ptp(found[:, 0]) > 0.1
    assert np.ptp(found[:, 1] - found[:, 0]) == pytest.approx(0, abs=1e-12)
    assert np.array_equal(found, resampled_medians(np.column_stack([shared, shared + 2])))


def test_an_interval_holds_99_of_100_draws() -> None:
    draws = np.arange(1001.0)
    low, high = percentiles(np.column_stack([draws, -draws]))
    assert (low.tolist(), high.tolist()) == (pytest.approx([5, -995]), pytest.approx([995, -5]))


def test_the_interval_of_a_median_holds_what_it_is_the_median_of() -> None:
    """Of 200 draws of 20 blocks each, about 99 in 100 hold the true median; 192 at least."""
    rng = np.random.default_rng(1)
    held = 0
    for _ in range(200):
        found = resampled_medians(rng.normal(3, 1, (20, 1)))
        assert found is not None
        low, high = percentiles(found)
        held += bool(low[0] <= 3 <= high[0])
    assert held >= 192
