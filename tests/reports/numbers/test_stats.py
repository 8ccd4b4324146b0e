"""Statistics against brute force, against exact distributions, and against the truth they should cover."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.stats import binom

from reports.numbers import stats
from reports.numbers.stats import CONFIDENCE, LEAST_BLOCKS, LEAST_EFFECT, Estimate, Verdict


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


times = st.floats(1e-6, 1.0)


@given(st.lists(st.tuples(st.integers(-3, 3), times), min_size=1, max_size=40))
def test_block_medians_are_the_medians_of_the_blocks(drawn: list[tuple[int, float]]) -> None:
    blocks, samples = (np.array(column) for column in zip(*drawn, strict=True))
    numbers, medians = stats.block_medians(samples, blocks)
    assert numbers.tolist() == sorted(set(blocks.tolist()))
    assert medians.tolist() == [np.median(samples[blocks == number]) for number in numbers]


def order_statistics(values: np.ndarray) -> tuple[int, int]:
    """Return which of the sorted values (B,), B odd, the ends of the bootstrap interval of the median are, exactly.

    A resample's median is at most the i-th of B values where more than half of its draws are.
    """
    B = values.size
    below = binom.sf(B // 2, B, np.arange(1, B + 1) / B)
    tail = (1 - CONFIDENCE) / 2
    return int(np.argmax(below >= tail)), int(np.argmax(below >= 1 - tail))


@pytest.mark.parametrize("blocks", [9, 21, 41])
def test_the_interval_of_a_median_is_that_of_its_exact_bootstrap_distribution(blocks: int) -> None:
    samples = np.random.default_rng(1).lognormal(0, 0.2, blocks)
    found = stats.median(samples, np.arange(blocks))
    ranked = np.sort(samples)
    low, high = order_statistics(samples)
    assert found.value == np.median(samples)
    assert ranked[max(low - 1, 0)] <= found.low <= ranked[low + 1]
    assert ranked[high - 1] <= found.high <= ranked[min(high + 1, blocks - 1)]


def test_a_paired_ratio_is_the_median_of_the_blocks_ratios() -> None:
    base, fast, blocks = pair(1.3, seed=4, blocks=41, per_block=3)
    ratios = np.median(base.reshape(41, 3), axis=1) / np.median(fast.reshape(41, 3), axis=1)
    found, oracle = stats.ratio_of_medians(base, blocks, fast, blocks, interleaved=True), np.sort(ratios)
    low, high = order_statistics(ratios)
    assert found.paired
    assert found.value == pytest.approx(np.median(ratios))
    assert oracle[low - 1] * 0.9999 <= found.low <= oracle[low + 1] * 1.0001
    assert oracle[high - 1] * 0.9999 <= found.high <= oracle[high + 1] * 1.0001


def test_an_unpaired_ratio_is_that_of_the_medians_resampled_apart() -> None:
    base, fast, blocks = pair(1.3, seed=4, blocks=25, per_block=1)
    found = stats.ratio_of_medians(base, blocks, fast, blocks, interleaved=False)
    rng = np.random.default_rng(0)
    medians = [np.median(side[rng.integers(25, size=(40_000, 25))], axis=1) for side in (base, fast)]
    tail = (1 - CONFIDENCE) / 2
    assert found.value == pytest.approx(np.median(base) / np.median(fast))
    assert (found.low, found.high) == pytest.approx(np.quantile(medians[0] / medians[1], [tail, 1 - tail]), rel=0.02)


@given(arrays(np.float64, (2, 12), elements=times), arrays(np.float64, 12, elements=st.floats(0.1, 10)))
def test_what_slows_a_block_for_both_sides_changes_nothing(sides: np.ndarray, slowed: np.ndarray) -> None:
    blocks = np.arange(12)
    calm = stats.ratio_of_medians(sides[0], blocks, sides[1], blocks, interleaved=True)
    disturbed = stats.ratio_of_medians(slowed * sides[0], blocks, slowed * sides[1], blocks, interleaved=True)
    ends = [(found.low, found.value, found.high) for found in (calm, disturbed)]
    assert ends[0] == pytest.approx(ends[1])


@given(arrays(np.float64, (2, 10), elements=times), st.booleans())
def test_turning_the_sides_round_gives_the_reciprocal_estimate(sides: np.ndarray, interleaved: bool) -> None:
    blocks = np.arange(10)
    there = stats.ratio_of_medians(sides[0], blocks, sides[1], blocks, interleaved)
    back = stats.ratio_of_medians(sides[1], blocks, sides[0], blocks, interleaved)
    assert there.value == pytest.approx(1 / back.value)


Sides = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]
Method = Callable[[Sides], Estimate]


def paired(sides: Sides) -> Estimate:
    return stats.ratio_of_medians(*sides, interleaved=True)


def unpaired(sides: Sides) -> Estimate:
    return stats.ratio_of_medians(*sides, interleaved=False)


def by_sample(sides: Sides) -> Estimate:
    """Resample samples as if each were a block of its own."""
    base, _, own, _ = sides
    return stats.ratio_of_medians(base, np.arange(base.size), own, np.arange(own.size), interleaved=True)


def by_means(sides: Sides) -> Estimate:
    """Resample blocks of the ratio of all samples' means."""
    base, blocks, own, _ = sides
    means = [np.array([side[blocks == block].mean() for block in np.unique(blocks)]) for side in (base, own)]
    draws = np.random.default_rng(0).integers(means[0].size, size=(1000, means[0].size))
    ratios = means[0][draws].mean(axis=1) / means[1][draws].mean(axis=1)
    low, high = np.quantile(ratios, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return Estimate(float(means[0].mean() / means[1].mean()), float(low), float(high), base.size, means[0].size)


def measured(ratio: float, rng: np.random.Generator) -> Sides:
    """Return two calls of one block plan on a busy machine, of which the second takes 1 / `ratio` times as long.

    The machine's level wanders from block to block and jumps between two speeds. Within a block each call has noise
    with heavy tails; and a neighbour's burst slows what one call does in a block, where it falls on it, as a whole.
    """
    blocks, calls = int(rng.integers(12, 41)), int(rng.integers(1, 16))
    level = np.exp(np.cumsum(rng.normal(0, 0.03, blocks))) * np.where(np.cumsum(rng.random(blocks) < 0.15) % 2, 1.4, 1)
    sides = []
    for quickest in (1e-3 * ratio, 1e-3):
        bursts = np.where(rng.random(blocks) < 0.25, 1 + rng.exponential(0.5, blocks), 1) * rng.lognormal(
            0, 0.01, blocks
        )
        noise = 1 + 0.02 * np.abs(rng.standard_t(2, (blocks, calls)))
        sides += [(quickest * (level * bursts)[:, None] * noise).ravel(), np.repeat(np.arange(blocks), calls)]
    return sides[0], sides[1], sides[2], sides[3]


@dataclass(frozen=True)
class Shares:
    """What a method says of comparisons whose answer is known, as shares of them."""

    wrong: float  # equal code called different
    missed: float  # code slower by a twentieth or a fifth called the same or faster
    covered: float  # intervals that hold the truth
    found: float  # code slower by a fifth called slower

    @property
    def hold(self) -> bool:
        return self.wrong <= 0.05 and self.missed == 0 and self.covered >= 0.95 and self.found >= 0.75


def shares(method: Method, comparisons: int = 120) -> Shares:
    rng = np.random.default_rng(5)
    slower = (1.0, 1.02, 1.05, 1.2)
    found = {by: [method(measured(1 / by, rng)) for _ in range(comparisons)] for by in slower}
    verdicts = {by: [stats.verdict(estimate) for estimate in estimates] for by, estimates in found.items()}
    wrong = [verdict in (Verdict.FASTER, Verdict.SLOWER) for verdict in verdicts[1.0]]
    missed = [verdict in (Verdict.FASTER, Verdict.SAME) for verdict in verdicts[1.05] + verdicts[1.2]]
    covered = [estimate.low <= 1 / by <= estimate.high for by in slower for estimate in found[by]]
    return Shares(
        *(float(np.mean(each)) for each in (wrong, missed, covered, np.array(verdicts[1.2]) == Verdict.SLOWER))
    )


def test_equal_code_is_hardly_called_different_and_known_slowdowns_lie_within_their_intervals() -> None:
    assert shares(paired).hold


@pytest.mark.parametrize("mutant", [unpaired, by_sample, by_means])
def test_another_method_does_not_do_as_well(mutant: Method) -> None:
    assert not shares(mutant).hold


def test_a_lower_confidence_does_not_do_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stats, "CONFIDENCE", 0.9)
    assert not shares(paired).hold


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


def test_resampling_in_parts_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    times = np.random.default_rng(0).lognormal(size=101)
    whole = stats.median(times, np.arange(101))
    monkeypatch.setattr(stats, "AT_ONCE", 1_000)
    assert stats.median(times, np.arange(101)) == whole


def test_a_million_blocks_take_bounded_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stats, "RESAMPLES", 20)
    monkeypatch.setattr(stats, "AT_ONCE", 2**17)
    times = np.linspace(1, 2, 2**17)
    tracemalloc.start()
    stats.median(times, np.arange(times.size))
    assert tracemalloc.get_traced_memory()[1] < 16 * times.nbytes
    tracemalloc.stop()
