"""Sampling: interleaved blocks in random order, when it stops, and what must not happen inside."""

import gc
import random
import time
import weakref
from functools import partial

import numpy as np
import pytest
import torch

from bench.timing import sampling
from bench.timing.clock import Samples
from bench.timing.sampling import LEAST_BLOCKS, MAX_HALF_WIDTH, MOST_BLOCKS, Timed, is_narrow, sample

CPU = torch.device("cpu")


def nothing(share):
    pass


def timed(call=lambda: None, **more):
    return Timed(call, "wall", CPU, **more)


def taking(monkeypatch, seconds):
    """Let every call take `seconds(call)` on the clock."""
    monkeypatch.setattr(
        sampling, "samples",
        lambda call, clock, device, number, before: Samples([seconds(call) for _ in range(number)], None),
    )  # fmt: skip


def test_every_block_times_every_item_in_a_random_order():
    seen = []
    items = [timed(lambda name=name: seen.append(name)) for name in "abc"]
    found = sample(items, 0.02, random.Random(1), nothing)
    blocks = set(items[0].blocks)
    assert blocks == set(range(max(blocks) + 1))
    assert len(found.anchor) == len(blocks) >= LEAST_BLOCKS
    assert all(set(item.blocks) == blocks and len(item.samples) == len(item.blocks) for item in items)
    firsts = "".join(name for name, before in zip(seen, [None, *seen], strict=False) if name != before)
    assert len({firsts[place : place + 3] for place in range(0, len(firsts) - 3, 3)}) > 1


def test_a_steady_item_stops_by_its_interval_and_a_restless_one_by_time_or_blocks(monkeypatch):
    times = iter(np.random.default_rng(0).lognormal(0, 0.5, 100_000))
    taking(monkeypatch, lambda call: 1e-3)
    steady = timed()
    assert sample([steady], 60, random.Random(0), nothing).stopped_by == "interval"
    assert len(set(steady.blocks)) == LEAST_BLOCKS
    taking(monkeypatch, lambda call: 1e-3 * next(times))
    restless = timed()
    assert sample([restless], 60, random.Random(0), nothing).stopped_by == "blocks"
    assert len(set(restless.blocks)) == MOST_BLOCKS
    assert sample([timed()], 1e-4, random.Random(0), nothing).stopped_by == "time"


def test_one_restless_item_keeps_all_going(monkeypatch):
    noise = iter(np.random.default_rng(0).lognormal(0, 0.5, 100_000))
    steady, restless = timed(lambda: 1.0), timed(lambda: float(next(noise)))
    taking(monkeypatch, lambda call: 1e-3 * call())
    assert sample([steady, restless], 60, random.Random(0), nothing).stopped_by == "blocks"
    assert set(steady.blocks) == set(restless.blocks)


@pytest.mark.parametrize("blocks", [6, 7, 12, 40])
def test_the_interval_of_a_median_covers_it_as_often_as_it_says(blocks):
    rng = np.random.default_rng(blocks)
    half = []  # at which relative half-width each run would have stopped
    for _ in range(400):
        medians = np.sort(1 + 0.01 * rng.standard_normal(blocks))
        widths = [width for width in np.geomspace(1e-4, 1, 60) if _narrow_at(medians, width)]
        half.append((widths[0], float(np.median(medians))))
    covered = np.mean([abs(1 - middle) <= width * middle for width, middle in half])
    assert covered >= 0.93


def _narrow_at(medians, width):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sampling, "MAX_HALF_WIDTH", width)
        return is_narrow(list(medians), list(range(len(medians))))


def test_few_blocks_have_no_interval():
    assert not is_narrow([1.0] * 5, [0, 1, 2, 3, 4])
    assert is_narrow([1.0] * 8, list(range(8)))
    assert not is_narrow([1.0, 1.0 + 3 * MAX_HALF_WIDTH] * 8, list(range(16)))


def test_a_disturbed_warm_up_leaves_an_item_as_many_calls_as_its_twin():
    pauses = iter([partial(time.sleep, 0.02)])  # longer than a block's share, so that nothing else warms it up
    disturbed, twin = timed(lambda: next(pauses, int)()), timed(lambda: 0)
    sample([disturbed, twin], 0.4, random.Random(0), nothing)
    for block in range(1, LEAST_BLOCKS):
        assert disturbed.blocks.count(block) == twin.blocks.count(block) == sampling.MOST_CALLS


def test_an_item_that_raises_fails_alone():
    calls = []

    def tiring():
        calls.append(1)
        if len(calls) > 6:
            raise RuntimeError("tired")

    broken, well = timed(tiring), timed()
    sample([broken, well], 0.01, random.Random(0), nothing)
    assert "tired" in broken.failure
    assert well.failure == ""
    assert well.samples


def test_garbage_collected_inside_a_timed_region_fails_the_item():
    def collecting():
        gc.collect(0)

    dirty, clean = timed(collecting), timed()
    sample([dirty, clean], 0.01, random.Random(0), nothing)
    assert "garbage" in dirty.failure
    assert clean.failure == ""
    assert gc.isenabled()


def test_what_comes_before_a_sample_is_not_timed(monkeypatch):
    order = []
    item = timed(lambda: order.append("call"), before=lambda: order.append("before"))
    sample([item], 0.01, random.Random(0), nothing)
    assert order[0] == "before"
    assert order[::2] == ["before"] * (len(order) // 2)
    assert order[1::2] == ["call"] * (len(order) // 2)


def test_the_output_of_the_last_timed_call_is_kept_and_no_earlier_one():
    alive = []

    def call():
        gone = [reference for reference in alive if reference() is None]
        assert len(gone) == len(alive)
        output = torch.ones(3)
        alive.append(weakref.ref(output))
        return output

    item = timed(call)
    sample([item], 0.01, random.Random(0), nothing)
    assert item.failure == ""
    assert item.output is alive[-1]()


def test_nothing_to_sample_is_no_error():
    assert sample([], 1.0, random.Random(0), nothing).stopped_by == "time"
