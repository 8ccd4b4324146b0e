"""Sampling: prepared calls timed interleaved, in blocks of a random order, until intervals are narrow or time is up."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from statistics import median
from typing import Literal

import torch

from bench.errors import message
from bench.timing.anchor import Anchor
from bench.timing.blocks import block_medians, median_interval
from bench.timing.clock import Call, samples
from bench.timing.disturbance import Disturbances, quiet
from bench.timing.gpu_watch import GpuWatch
from reports.records.record import ClockName

MOST_BLOCKS, LEAST_BLOCKS = 30, 8
MOST_CALLS = 25
"""Timed calls of one item within one block."""
WARM_UP_CALLS = 3
WARMED = 3
"""Timed calls of an item within a block from which on an untimed one precedes them; of fewer the first is timed too."""
NARROW = 0.02
"""Half the width of a median's interval, relative, at which more samples of it are not worth their time."""
CONFIDENCE = 0.95

StoppedBy = Literal["interval", "blocks", "time"]
Progress = Callable[[float], None]
"""Called with the share that is done, 0 to 1."""


@dataclass
class Timed:
    """A call ready to be timed, and its samples in seconds so far, each with the block in which it was taken.

    `before`, untimed, precedes every sample if it is given: with it caches are made cold. On the clock `graph` the call
    is the replay of a CUDA graph. `cost` is the least time of a call so far with what precedes it, `output` what the
    last timed call returned.
    """

    call: Call
    clock: ClockName
    device: torch.device
    before: Call | None = None
    samples: list[float] = field(default_factory=list)
    blocks: list[int] = field(default_factory=list)
    cost: float = float("inf")
    output: object = None
    failure: str = ""


@dataclass(frozen=True)
class Sampled:
    """How the sampling went: what ended it, and in each block the anchor's time and a GPU's clock and power.

    `throttled` are the blocks in which a GPU lowered its clock.
    """

    stopped_by: StoppedBy = "time"
    anchor: list[float] = field(default_factory=list)
    throttled: list[int] = field(default_factory=list)
    clock_mhz: list[float] = field(default_factory=list)
    power_w: list[float] = field(default_factory=list)


def sample(items: Sequence[Timed], seconds: float, rng: random.Random, progress: Progress) -> Sampled:
    """Fill the samples of `items`, block by block, in about `seconds` for each.

    Every block times each item a few times, in random order, and an unchanged anchor. An item that raises, or during
    which something is compiled or collected, has failed and the others go on.
    """
    if not items:
        return Sampled()
    device = items[0].device
    anchor, watch, gpu = Anchor(device), Disturbances(), GpuWatch(device)
    found = Sampled("blocks")
    for item in items:
        _warm_up(item, seconds / MOST_BLOCKS)
    budget, start = seconds * len(items), time.perf_counter()
    with quiet() as collect, watch:
        for block in range(MOST_BLOCKS):
            collect()
            found.anchor.append(anchor.time())
            order = [item for item in items if not item.failure]
            rng.shuffle(order)
            for item in order:
                _take_block(item, block, seconds / MOST_BLOCKS, watch)
            _note(found, gpu, block)
            spent = time.perf_counter() - start
            progress(min(1.0, max(spent / budget if budget else 1.0, (block + 1) / MOST_BLOCKS)))
            if block + 1 >= LEAST_BLOCKS and (stopped_by := _stopped_by(order, spent, budget)):
                return replace(found, stopped_by=stopped_by)
    return found


def _note(found: Sampled, gpu: GpuWatch, block: int) -> None:
    """Add what a GPU says of itself after a block."""
    if gpu.throttled():
        found.throttled.append(block)
    state = gpu.state()
    found.clock_mhz.extend(value for value in [state.get("gpu_clock_mhz")] if value is not None)
    found.power_w.extend(value for value in [state.get("gpu_power_w")] if value is not None)


def _stopped_by(items: Sequence[Timed], spent: float, budget: float) -> Literal["interval", "time"] | None:
    if spent >= budget:
        return "time"
    return "interval" if all(item.failure or is_narrow(item.samples, item.blocks) for item in items) else None


def is_narrow(samples: Sequence[float], blocks: Sequence[int]) -> bool:
    """Return whether the median of the blocks' medians has an interval within `NARROW` of it."""
    medians = list(block_medians(samples, blocks).values())
    interval, middle = median_interval(medians, CONFIDENCE), median(medians)
    return interval is not None and max(interval[1] - middle, middle - interval[0]) <= NARROW * middle


def _warm_up(item: Timed, seconds: float) -> None:
    """Call the item a few times, or once if that takes longer than `seconds`."""
    try:
        for _ in range(WARM_UP_CALLS):
            _take(item, 1)
            if item.cost > seconds:
                break
    except Exception as error:
        item.failure = message(error)


def _take_block(item: Timed, block: int, seconds: float, watch: Disturbances) -> None:
    """Time as many calls as fit into `seconds`, of some after an untimed one that brings their data into the caches.

    What fits is told by the least cost so far, not by that of the few calls that warmed up: disturbed there, one of two
    equal items would get fewer calls in every block, and the median of a block's first 3 calls is not that of 20.
    """
    watch.reset()
    item.output = None
    calls = max(1, min(MOST_CALLS, int(seconds / max(item.cost, 1e-7))))
    try:
        if calls >= WARMED and not item.before:
            item.call()
        item.samples += _take(item, calls)
        item.blocks += [block] * calls
    except Exception as error:
        item.failure = message(error)
    item.failure = item.failure or watch.found()


def _take(item: Timed, calls: int) -> list[float]:
    """Return the seconds of each of `calls`, and keep what the last one returned.

    Replays of a graph are sent together, other calls one by one, each with its own cost.
    """
    together = calls if item.clock == "graph" else 1
    taken: list[float] = []
    while len(taken) < calls:
        start = time.perf_counter()
        item.output = None  # its memory is free again for the next call
        seconds, item.output = samples(item.call, item.clock, item.device, together, item.before)
        item.cost = min(item.cost, (time.perf_counter() - start) / together)
        taken += seconds
    return taken
