"""Sampling: time prepared calls interleaved, in blocks of random order, until intervals are narrow or time is up."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from statistics import median
from typing import Literal

import torch

from bench.errors import message
from bench.timing.anchor import Anchor
from bench.timing.blocks import block_medians, median_interval
from bench.timing.clock import Call, Longer, samples, slopes
from bench.timing.disturbance import Disturbances, quiet
from bench.timing.gpu_watch import GpuWatch
from reports.records.record import ClockName

MOST_BLOCKS, LEAST_BLOCKS = 30, 8
MOST_CALLS = 25
"""Most timed calls of one item in one block."""
WARM_UP_CALLS = 3
MIN_WARMED_CALLS = 3
"""With at least this many timed calls in a block, one untimed call goes first."""
MAX_HALF_WIDTH = 0.02
"""An item has enough samples once its median's interval is this close to it on both sides, relative to it."""
CONFIDENCE = 0.95

StoppedBy = Literal["interval", "blocks", "time"]
OnProgress = Callable[[float], None]
"""A callback for the share that is done, from 0 to 1."""


def part_of(progress: OnProgress, done: float, share: float) -> OnProgress:
    """Return the callback of a part that is `share` of the work and begins when `done` of it is done."""
    return lambda part: progress(min(1.0, done + share * part))


@dataclass
class Timed:
    """A call ready to be timed, and its samples so far, in seconds, each with its block.

    `before`, if any, runs untimed before every sample, to make caches cold. On the clock `graph` the call is the replay
    of a CUDA graph. With `longer`, a sample is what one more call adds, and `offsets` are what replays cost beside
    their calls. `cost` is the least time of a call so far, with `before`; `output` is that of the last timed call.
    """

    call: Call
    clock: ClockName
    device: torch.device
    before: Call | None = None
    longer: Longer | None = None
    samples: list[float] = field(default_factory=list)
    blocks: list[int] = field(default_factory=list)
    offsets: list[float] = field(default_factory=list)
    cost: float = float("inf")
    output: object = None
    failure: str = ""


@dataclass(frozen=True)
class Sampled:
    """How the sampling went: what ended it, and for each block the anchor's time and a GPU's clock and power.

    `throttled` lists the blocks in which a GPU lowered its clock.
    """

    stopped_by: StoppedBy = "time"
    anchor: list[float] = field(default_factory=list)
    throttled: list[int] = field(default_factory=list)
    clock_mhz: list[float] = field(default_factory=list)
    power_w: list[float] = field(default_factory=list)


def rounded(samples: Iterable[float], digits: int) -> tuple[float, ...]:
    """Return the samples to so many significant digits."""
    return tuple(float(f"{value:.{digits}g}") for value in samples)


def sample(items: Sequence[Timed], seconds: float, rng: random.Random, progress: OnProgress) -> Sampled:
    """Fill the samples of `items`, block by block, in about `seconds` for each.

    Every block times an unchanged anchor and each item a few times, the items in random order. An item fails, and the
    others go on, if it raises or if anything is compiled or collected while it is timed.
    """
    if not items:
        return Sampled()
    device = items[0].device
    anchor, watch, gpu = Anchor(device), Disturbances(), GpuWatch(device)
    sampled = Sampled("blocks")
    for item in items:
        _warm_up(item, seconds / MOST_BLOCKS)
    budget, start = seconds * len(items), time.perf_counter()
    with quiet() as collect, watch:
        for block in range(MOST_BLOCKS):
            collect()
            sampled.anchor.append(anchor.time())
            order = [item for item in items if not item.failure]
            rng.shuffle(order)
            for item in order:
                _take_block(item, block, seconds / MOST_BLOCKS, watch)
            _note(sampled, gpu, block)
            spent = time.perf_counter() - start
            progress(min(1.0, max(spent / budget if budget else 1.0, (block + 1) / MOST_BLOCKS)))
            if block + 1 >= LEAST_BLOCKS and (stopped_by := _stopped_by(order, spent, budget)):
                return replace(sampled, stopped_by=stopped_by)
    return sampled


def _note(sampled: Sampled, gpu: GpuWatch, block: int) -> None:
    """Add the GPU's state after a block."""
    if gpu.throttled():
        sampled.throttled.append(block)
    state = gpu.state()
    for name, values in (("gpu_clock_mhz", sampled.clock_mhz), ("gpu_power_w", sampled.power_w)):
        if (value := state.get(name)) is not None:
            values.append(value)


def _stopped_by(items: Sequence[Timed], spent: float, budget: float) -> Literal["interval", "time"] | None:
    if spent >= budget:
        return "time"
    return "interval" if all(item.failure or is_narrow(item.samples, item.blocks) for item in items) else None


def is_narrow(samples: Sequence[float], blocks: Sequence[int]) -> bool:
    """Return whether the median of the blocks' medians has an interval within `MAX_HALF_WIDTH` of it."""
    medians = list(block_medians(samples, blocks).values())
    interval, middle = median_interval(medians, CONFIDENCE), median(medians)
    return interval is not None and max(interval[1] - middle, middle - interval[0]) <= MAX_HALF_WIDTH * middle


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
    """Time as many calls as fit into `seconds`; an untimed call first brings their data into the caches.

    The number follows from the least cost so far, not from the warm-up alone. If a disturbed warm-up gave one of two
    equal items fewer calls in every block, their medians would differ: that of a block's first 3 calls is not that of
    20.
    """
    watch.reset()
    item.output = None
    calls = max(1, min(MOST_CALLS, int(seconds / max(item.cost, 1e-7))))
    try:
        if calls >= MIN_WARMED_CALLS and not item.before:
            item.call()
        taken, offsets = _take(item, calls)
        item.samples += taken
        item.offsets += offsets
        item.blocks += [block] * calls
    except Exception as error:
        item.failure = message(error)
    item.failure = item.failure or watch.message()


def _take(item: Timed, calls: int) -> tuple[list[float], list[float]]:
    """Return the seconds of each of `calls` and the offsets of replays, and keep the output of the last one.

    Replays of a graph are sent together, other calls one by one, each with its cost.
    """
    together = calls if item.clock == "graph" else 1
    taken: list[float] = []
    beside: list[float] = []
    while len(taken) < calls:
        start = time.perf_counter()
        item.output = None  # its memory is free again for the next call
        seconds, item.output, offsets = (
            samples(item.call, item.clock, item.device, together, item.before)
            if item.longer is None
            else slopes(item.call, item.longer, item.device, together)
        )
        item.cost = min(item.cost, (time.perf_counter() - start) / together)
        taken += seconds
        beside += offsets
    return taken, beside
