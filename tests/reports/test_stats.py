"""Statistics against brute force, against scipy, and against the truth they should cover."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import bootstrap

from reports import stats
from reports.stats import LEAST_BLOCKS, LEAST_EFFECT, Estimate, Verdict


def drawn(median: float, rng: np.random.Generator, disturbance: np.ndarray, per_block: int) -> np.ndarray:
    shared = np.repeat(disturbance, per_block)
    return median * shared * rng.lognormal(0, 0.03, shared.size)


def pair(ratio: float, seed: int, blocks: int = 20, per_block: int = 2) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return base samples, samples `ratio` times as fast and their blocks, disturbed alike."""
    rng = np.random.default_rng(seed)
    disturbance = rng.lognormal(0, 0.05, blocks)
    base, fast = (drawn(median, rng, disturbance, per_block) for median in (ratio, 1.0))
    return base, fast, np.repeat(np.arange(blocks), per_block)


def ratio(base: float, seed: int, interleaved: bool = True, blocks: int = 20) -> Estimate:
    slow, fast, numbers = pair(base, seed, blocks)
    return stats.ratio_of_medians(slow, numbers, fast, numbers, interleaved=interleaved)


@pytest.mark.parametrize("sizes", [(1, 1, 1, 1, 1, 1), (2, 2, 2, 2, 2, 2), (3, 1, 4, 1, 5, 9)])
def test_resampled_medians_are_those_of_the_repeated_samples(sizes: tuple[int, ...]) -> None:
    rng = np.random.default_rng(0)
    blocks = rng.permutation(np.repeat(np.arange(len(sizes)) * 10, sizes))
    samples = rng.integers(1, 20, blocks.size).astype(float)
    draws = stats._draws(len(sizes), stream=0)
    expected = [
        np.median(np.concatenate([np.tile(samples[blocks == 10 * block], times) for block, times in enumerate(draw)]))
        for draw in draws[:300]
    ]
    np.testing.assert_array_equal(stats._resampled_medians(samples, blocks, draws)[:300], expected)


def test_median_and_its_interval_agree_with_scipy() -> None:
    samples = np.random.default_rng(1).lognormal(0, 0.2, 60)
    found = stats.median(samples, np.arange(60))
    oracle = bootstrap(
        (samples,), np.median, method="percentile", n_resamples=4000, rng=np.random.default_rng(2)
    ).confidence_interval
    assert found.value == np.median(samples)
    assert (found.low, found.high) == pytest.approx((oracle.low, oracle.high), rel=0.01)


def test_paired_ratio_agrees_with_scipy() -> None:
    base, fast, blocks = pair(1.3, seed=4, blocks=50, per_block=1)
    found = stats.ratio_of_medians(base, blocks, fast, blocks, interleaved=True)
    oracle = bootstrap(
        (base, fast),
        lambda a, b, axis=-1: np.median(a, axis=axis) / np.median(b, axis=axis),
        paired=True,
        method="percentile",
        n_resamples=4000,
        rng=np.random.default_rng(3),
    ).confidence_interval
    assert (found.low, found.high) == pytest.approx((oracle.low, oracle.high), rel=0.01)


@pytest.mark.parametrize("blocks", [6, 20])
def test_paired_intervals_cover_the_truth(blocks: int) -> None:
    found = [ratio(1.25, seed, blocks=blocks) for seed in range(120)]
    covered = np.mean([estimate.low <= 1.25 <= estimate.high for estimate in found])
    assert covered >= 0.9


def test_intervals_of_medians_cover_the_truth() -> None:
    covered = 0
    for seed in range(120):
        rng = np.random.default_rng(seed)
        samples = drawn(1.0, rng, rng.lognormal(0, 0.1, 20), per_block=3)
        found = stats.median(samples, np.repeat(np.arange(20), 3))
        covered += found.low <= 1.0 <= found.high
    assert covered / 120 >= 0.9


def test_a_case_against_itself_is_the_same() -> None:
    samples, _, blocks = pair(1.0, seed=5)
    found = stats.ratio_of_medians(samples, blocks, samples, blocks, interleaved=True)
    assert (found.low, found.value, found.high) == (1, 1, 1)
    assert stats.verdict(found) is Verdict.SAME


def test_the_same_code_measured_twice_is_hardly_ever_different() -> None:
    few, many = ([stats.verdict(ratio(1.0, seed, blocks=blocks)) for seed in range(40)] for blocks in (20, 100))
    assert many.count(Verdict.SAME) >= 36
    for verdicts in (few, many):
        assert verdicts.count(Verdict.FASTER) + verdicts.count(Verdict.SLOWER) <= 2


@pytest.mark.parametrize(("change", "expected"), [(1 / 1.2, Verdict.SLOWER), (1.2, Verdict.FASTER)])
def test_a_change_of_a_fifth_is_found(change: float, expected: Verdict) -> None:
    assert {stats.verdict(ratio(change, seed)) for seed in range(50)} == {expected}


def test_pairing_cancels_what_disturbs_whole_blocks() -> None:
    paired, apart = ratio(1.2, seed=6), ratio(1.2, seed=6, interleaved=False)
    assert paired.paired
    assert not apart.paired
    assert paired.high - paired.low < 0.7 * (apart.high - apart.low)


def test_only_shared_blocks_are_paired() -> None:
    base, fast, blocks = pair(1.2, seed=7)
    cut = blocks < 12
    found = stats.ratio_of_medians(base, blocks, fast[cut], blocks[cut], interleaved=True)
    assert found == stats.ratio_of_medians(base[cut], blocks[cut], fast[cut], blocks[cut], interleaved=True)
    assert (found.blocks, found.samples) == (12, 24)


def test_without_enough_shared_blocks_the_sides_are_resampled_apart() -> None:
    base, fast, blocks = pair(1.2, seed=8)
    found = stats.ratio_of_medians(base, blocks, fast, blocks + 17, interleaved=True)
    assert not found.paired
    assert found.low < 1.2 < found.high


def test_too_few_blocks_give_no_interval_and_no_verdict() -> None:
    few = LEAST_BLOCKS - 1
    assert 2 * 0.5**few > 1 - stats.CONFIDENCE >= 2 * 0.5**LEAST_BLOCKS
    found = ratio(2.0, seed=9, blocks=few)
    assert (found.low, found.high, found.blocks) == (None, None, few)
    assert stats.verdict(found) is Verdict.UNCLEAR
    assert stats.median(np.ones(few), np.arange(few)).low is None


def test_the_same_samples_give_the_same_interval() -> None:
    assert ratio(1.1, seed=10) == ratio(1.1, seed=10)
    assert ratio(1.1, seed=10, interleaved=False) == ratio(1.1, seed=10, interleaved=False)


ratios = st.floats(0.01, 100)


@st.composite
def estimates(draw: st.DrawFn) -> Estimate:
    low, value, high = sorted(draw(st.tuples(ratios, ratios, ratios)))
    return Estimate(value, low, high, samples=40, blocks=20, paired=True)


@given(estimates())
def test_a_verdict_needs_both_a_clear_interval_and_a_relevant_size(found: Estimate) -> None:
    upper = 1 + LEAST_EFFECT
    verdict = stats.verdict(found)
    if verdict is Verdict.SAME:
        assert 1 / upper <= found.low <= found.high <= upper
    if verdict is Verdict.FASTER:
        assert found.low > 1
        assert found.value > upper
    if verdict is Verdict.SLOWER:
        assert found.high < 1
        assert found.value < 1 / upper
    if found.low <= 1 <= found.high and found.high / found.low > upper**2:
        assert verdict is Verdict.UNCLEAR


@given(estimates())
def test_turning_a_ratio_round_turns_its_verdict_round(found: Estimate) -> None:
    turned = Estimate(1 / found.value, 1 / found.high, 1 / found.low, found.samples, found.blocks, found.paired)
    opposite = {Verdict.FASTER: Verdict.SLOWER, Verdict.SLOWER: Verdict.FASTER}
    verdict = stats.verdict(found)
    near = any(abs(np.log(end) - edge) < 1e-9 for end in (found.low, found.value, found.high) for edge in EDGES)
    assert near or stats.verdict(turned) is opposite.get(verdict, verdict)


EDGES = (-np.log1p(LEAST_EFFECT), 0.0, np.log1p(LEAST_EFFECT))


@given(estimates(), st.floats(0.001, 1))
def test_a_greater_least_effect_never_finds_more_differences(found: Estimate, more: float) -> None:
    different = (Verdict.FASTER, Verdict.SLOWER)
    if stats.verdict(found, LEAST_EFFECT + more) in different:
        assert stats.verdict(found) in different
