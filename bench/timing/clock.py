"""Clocks: how calls are timed, in seconds.

Replays of a CUDA graph are sent in a burst, without waiting in between. Before each timed replay some work keeps the
device busy until the host has sent the replay; otherwise the events would count the host's time. With warm caches that
work is the same replay and a pause. With cold caches it is the eviction, a write larger than the L2 cache: the timed
call then pays for writing dirty lines back, as after any other work.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from statistics import median
from typing import NamedTuple

import torch

from bench.errors import BenchError
from reports.records.record import ClockName

Call = Callable[[], object]

PAUSE_CYCLES = 80_000
"""About 45 microseconds, longer than the host needs to send two events and a graph."""


class Samples(NamedTuple):
    """The seconds of some calls, in the order taken, and the output of the last one.

    `offsets` are the seconds of replays beside their calls, if two graphs were timed.
    """

    seconds: list[float]
    output: object
    offsets: list[float] = []  # noqa: RUF012 - never changed


class Longer(NamedTuple):
    """The replay of a CUDA graph that holds `further` calls more than another one, which holds `calls`."""

    replay: Call
    calls: int
    further: int


def clocks(device: torch.device) -> tuple[ClockName, ...]:
    """Return the clocks that can time any call on `device`: `wall` everywhere, `device` on a GPU too."""
    return ("wall", "device") if device.type == "cuda" else ("wall",)


def samples(
    call: Call, clock: ClockName, device: torch.device, number: int, before: Callable[[], object] | None = None
) -> Samples:
    """Time `number` calls on `clock`, each after an untimed `before` if there is one.

    `wall` is how long the caller waits for the result. `device` is the time between two events on the GPU's stream
    around the call, including gaps in which the GPU waits for the host. `graph` is the time between two events around
    the replay of a CUDA graph; `call` must be such a replay.
    """
    if clock == "graph":
        return _replays(call, device, number, before)
    time_one = _device if clock == "device" else _wall
    seconds: list[float] = []
    output: object = None
    for _ in range(number):
        output = None  # its memory is free again for the next call
        if before:
            before()
        taken, output = time_one(call, device)
        seconds.append(taken)
    return Samples(seconds, output)


def slopes(one: Call, longer: Longer, device: torch.device, number: int) -> Samples:
    """Time `number` replays of a graph and as many of a longer one: a sample is what one more call adds.

    A replay costs some microseconds beside its calls, more than a small kernel takes; the difference is free of them.
    The shorter graph enters with its median, so that each sample is that of one longer replay.

    Raises `BenchError` if the longer graph takes no longer.
    """
    short = _replays(one, device, number, None).seconds
    long, output, _ = _replays(longer.replay, device, number, None)
    added = [(whole - median(short)) / longer.further for whole in long]
    if min(added) <= 0:
        raise BenchError(f"a graph with {longer.further} further calls took no longer; measure again")
    beside = longer.calls * median(added)
    return Samples(added, output, [whole - beside for whole in short])


def timed(call: Call, clock: ClockName, device: torch.device) -> float:
    """Return the seconds that one `call` takes on `clock`."""
    return samples(call, clock, device, 1).seconds[0]


def _wall(call: Call, device: torch.device) -> tuple[float, object]:
    synchronise(device)
    start = time.perf_counter()
    output = call()
    synchronise(device)
    return time.perf_counter() - start, output


def _device(call: Call, device: torch.device) -> tuple[float, object]:
    start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    synchronise(device)
    start.record()
    output = call()
    end.record()
    end.synchronize()
    return float(start.elapsed_time(end)) / 1e3, output


def _replays(replay: Call, device: torch.device, number: int, before: Callable[[], object] | None) -> Samples:
    pairs = []
    output: object = None
    for _ in range(number):
        start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        if before:
            before()
        else:
            replay()
            torch.cuda._sleep(PAUSE_CYCLES)
        start.record()
        output = replay()
        end.record()
        pairs.append((start, end))
    synchronise(device)
    return Samples([float(start.elapsed_time(end)) / 1e3 for start, end in pairs], output)


def synchronise(device: torch.device) -> None:
    """Wait until the GPU has finished its work; on a CPU return at once."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
