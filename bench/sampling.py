"""Sampling: prepared calls timed interleaved, in blocks of a random order, until intervals are narrow or time is up."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import torch
from scipy.stats import binom

from bench.anchor import Anchor
from bench.clock import Call, ClockName, timed
from bench.disturbance import Disturbances, quiet
from bench.errors import told
from bench.gpu_watch import GpuWatch

MOST_BLOCKS, LEAST_BLOCKS = 40, 8
MOST_CALLS = 25
"""Timed calls of one item within one block."""
WARM_UP_CALLS = 3
LONG = 0.003
"""Seconds of a call beyond which bringing its data back into the caches first makes no difference worth the time."""
NARROW = 0.02
"""Half the width of a median's interval, relative, at which more samples of it are not worth their time."""
CONFIDENCE = 0.95

StoppedBy = Literal["interval", "blocks", "time"]
Progress = Callable[[float], None]
"""Called with the share that is done, 0 to 1."""


@dataclass
class Timed:
    """A call ready to be timed, and its samples in seconds so far, each with the block in which it was taken.

    `before`, untimed, precedes every sample where it is given: with it caches are made cold. `share` scales the time
    that the item may take.
    """

    call: Call
    clock: ClockName
    device: torch.device
    before: Call | None = None
    share: float = 1.0
    samples: list[float] = field(default_factory=list)
    blocks: list[int] = field(default_factory=list)
    quickest: float = float("inf")
    failure: str = ""


@dataclass(frozen=True)
class Sampled:
    """How the sampling went: what ended it, the anchor's time in each block, and the blocks with a throttled GPU."""

    stopped_by: StoppedBy
    anchor: list[float]
    throttled: list[int]


def sample(items: Sequence[Timed], seconds: float, rng: random.Random, progress: Progress) -> Sampled:
    """Fill the samples of `items`, block by block, in about `seconds` times their shares.

    Every block times each item a few times, in random order, and an unchanged anchor. An item that raises, or during
    which something is compiled or collected, has failed and the others go on.
    """
    device = items[0].device if items else torch.device("cpu")
    anchor, watch, gpu = Anchor(device), Disturbances(), GpuWatch(device)
    anchored: list[float] = []
    throttled: list[int] = []
    calls = {id(item): _calls_per_block(item, seconds * item.share) for item in items}
    budget, start = seconds * sum(item.share for item in items), time.perf_counter()
    with quiet() as collect, watch:
        for block in range(MOST_BLOCKS):
            collect()
            anchored.append(anchor.time())
            order = [item for item in items if not item.failure]
            rng.shuffle(order)
            for item in order:
                _take_block(item, block, calls[id(item)], watch)
            if gpu.throttled():
                throttled.append(block)
            spent = time.perf_counter() - start
            progress(min(1.0, max(spent / budget if budget else 1.0, (block + 1) / MOST_BLOCKS)))
            if block + 1 >= LEAST_BLOCKS and (stopped_by := _stopped_by(order, spent, budget)):
                return Sampled(stopped_by, anchored, throttled)
    return Sampled("blocks", anchored, throttled)


def _stopped_by(items: Sequence[Timed], spent: float, budget: float) -> Literal["interval", "time"] | None:
    if spent >= budget:
        return "time"
    return "interval" if all(item.failure or is_narrow(item.samples, item.blocks) for item in items) else None


def is_narrow(samples: Sequence[float], blocks: Sequence[int]) -> bool:
    """Return whether the median of the blocks' medians has an interval within `NARROW` of it.

    The interval is that between two order statistics, which needs no distribution (David and Nagaraja 2003, section
    7.1): the number of blocks below the true median is binomial.
    """
    times, numbers = np.asarray(samples), np.asarray(blocks)
    medians = np.sort([np.median(times[numbers == block]) for block in np.unique(numbers)])
    low = int(binom.ppf((1 - CONFIDENCE) / 2, medians.size, 0.5)) - 1
    if low < 0:
        return False
    middle = float(np.median(medians))
    return bool(medians[-1 - low] - middle <= NARROW * middle and middle - medians[low] <= NARROW * middle)


def _calls_per_block(item: Timed, seconds: float) -> int:
    """Warm the item up and return how many calls, with what precedes them, give each block its share of `seconds`."""
    share = seconds / MOST_BLOCKS
    cost, start = float("inf"), time.perf_counter()
    try:
        for _ in range(WARM_UP_CALLS):
            before = time.perf_counter()
            if item.before:
                item.before()
            item.quickest = min(item.quickest, timed(item.call, item.clock, item.device))
            cost = min(cost, time.perf_counter() - before)
            if time.perf_counter() - start > share and item.quickest > LONG:
                break
    except Exception as error:
        item.failure = told(error)
        return 0
    return max(1, min(MOST_CALLS, int(share / max(cost, 1e-7))))


def _take_block(item: Timed, block: int, calls: int, watch: Disturbances) -> None:
    """Time `calls` calls, after an untimed one that brings the item's own data back into the caches if it is short."""
    watch.reset()
    try:
        if item.quickest < LONG and not item.before:
            item.call()
        for _ in range(calls):
            if item.before:
                item.before()
            item.samples.append(timed(item.call, item.clock, item.device))
            item.blocks.append(block)
    except Exception as error:
        item.failure = told(error)
    item.failure = item.failure or watch.found()
