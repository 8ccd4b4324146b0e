"""Samples of one prepared call: a CUDA graph's replays between device events, or calls as their caller sees them.

Replays are sent in bursts without a wait between them, each after work that keeps the device busy until the host has
sent what is timed; otherwise the events would count the host's time. With warm caches that work is the same replay and
a pause, with cold ones a write larger than the L2 cache; what then makes room for the timed call must first be written
back, as after any other work.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
import triton
from torch import Tensor

from bench.timing.clock import synchronise, timed
from reports.records.timing import Cache, Clock

PAUSE_CYCLES = 80_000
"""About 45 microseconds, longer than the host needs to send two events and a graph."""
FLUSH_SHARE = 2
"""Times the L2 cache that a flush writes."""
FLUSH_ON_CPU = 2**23

Call = Callable[[], Tensor | None]


@dataclass(frozen=True)
class Graph:
    """A call captured in a CUDA graph, with the output that every replay overwrites."""

    graph: torch.cuda.CUDAGraph
    output: Tensor | None

    def __call__(self) -> Tensor | None:
        """Replay, and return the output."""
        self.graph.replay()
        return self.output

    @property
    def replay(self) -> Call:
        """The replay alone; where only it is kept, the memory of the output is free for the next graph."""
        return self.graph.replay


@cache
def _pool() -> Any:
    """Return the memory that all graphs share: no output is read after an earlier graph has run again."""
    return torch.cuda.graph_pool_handle()


def waits_for_device(call: Callable[[], object]) -> bool:
    """Return whether `call` waits for the device, so that no CUDA graph can hold it."""
    mode = torch.cuda.get_sync_debug_mode()
    torch.cuda.set_sync_debug_mode("error")
    try:
        call()
    except RuntimeError:
        return True
    finally:
        torch.cuda.set_sync_debug_mode(mode)
    return False


def captured(call: Call) -> Graph:
    """Return `call`, warmed up on a side stream, as a CUDA graph."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(2):
            call()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, pool=_pool()):
        output = call()
    return Graph(graph, output)


def samples(calls: Sequence[Call], clock: Clock, cache: Cache, device: torch.device, number: int) -> list[float]:
    """Return the seconds of `number` calls, taken in turn from `calls`, which differ only in their rows.

    On a CPU, where a rehearsal runs, "graph" is a call like any other.
    """
    turns = itertools.islice(itertools.cycle(calls), number)
    if clock == "graph" and device.type == "cuda":
        return _between_events(turns, cache, device)
    if cache == "cold":
        return [_cold(call, device) for call in turns]
    return [timed(call, "wall", device) for call in turns]


def _cold(call: Call, device: torch.device) -> float:
    _flush(device).zero_()
    return timed(call, "wall", device)


def _between_events(turns: itertools.islice[Call], cache: Cache, device: torch.device) -> list[float]:
    pairs = []
    for call in turns:
        start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        if cache == "warm":
            call()
            torch.cuda._sleep(PAUSE_CYCLES)
        else:
            _flush(device).zero_()
        start.record()
        call()
        end.record()
        pairs.append((start, end))
    synchronise(device)
    return [float(start.elapsed_time(end)) / 1e3 for start, end in pairs]


@cache
def _flush(device: torch.device) -> Tensor:
    """Return a buffer that displaces everything else from the last cache when it is written."""
    if device.type != "cuda":
        return torch.empty(FLUSH_ON_CPU, dtype=torch.uint8)
    size = FLUSH_SHARE * torch.cuda.get_device_properties(device).L2_cache_size
    return torch.empty(size, dtype=torch.uint8, device=device)


@triton.jit  # type: ignore[untyped-decorator]
def nothing(x) -> None:  # type: ignore[no-untyped-def] # noqa: ANN001 - a Triton argument has no Python type
    """Do nothing."""
