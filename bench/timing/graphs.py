"""CUDA graphs of calls: which calls can be captured, and their capture."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
import triton
from torch import Tensor

from bench.timing.clock import Call, Longer, samples


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
        """The replay alone; if the graph is not kept, the memory of its output is free for the next graph."""
        return self.graph.replay


@cache
def _pool() -> Any:
    """Return the memory pool of all graphs: what one graph needs only while it runs, the next one can use."""
    return torch.cuda.graph_pool_handle()


FURTHER = range(2, 21)
"""Calls that the longer of two graphs has more: as many as `LONGEST` seconds allow."""
LONGEST = 2e-3


def longer(call: Callable[[], Any], one: Graph, calls: int, device: torch.device) -> tuple[Graph, Longer]:
    """Return a graph with further calls than `one`, which has `calls`, and how both are timed.

    If `one` holds a call on each of several copies, the longer one holds a second round of them.
    """
    further = calls
    if calls == 1:
        seconds = min(samples(one, "graph", device, 3).seconds)
        further = max(FURTHER[0], min(FURTHER[-1], int(LONGEST / seconds)))
    graph = captured(call, calls + further)
    return graph, Longer(graph, calls, further)


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


def captured(call: Callable[[], Any], calls: int = 1) -> Graph:
    """Return so many calls in a row, warmed up on a side stream, as one CUDA graph with the output of the last."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(max(2, calls)):
            call()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, pool=_pool()):
        for _ in range(calls):
            output = None  # its memory is free again for the next call
            output = call()
    return Graph(graph, output)


@triton.jit  # type: ignore[untyped-decorator]
def nothing(x) -> None:  # type: ignore[no-untyped-def] # noqa: ANN001 - a Triton argument has no Python type
    """Do nothing."""
