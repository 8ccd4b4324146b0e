"""The last caches before memory: their size, and how a call is timed with nothing in them."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor

from bench.errors import BenchError
from bench.timing.clock import Call

LAST_CACHES = 2
"""Size of the buffer that empties the caches, in last-level caches."""
UNKNOWN = 64 * 2**20
"""Bytes assumed of a CPU that does not say how large its caches are."""
_CPUS = Path("/sys/devices/system/cpu")
_UNITS = {"K": 2**10, "M": 2**20, "G": 2**30}


def last_cache(device: torch.device, cpus: Path = _CPUS) -> int:
    """Return the bytes of a GPU's L2 cache, or of all last-level caches of this process's CPUs together.

    Linux lists the CPUs' caches under `cpus`; `UNKNOWN` is assumed if it lists none.
    """
    if device.type == "cuda":
        return int(torch.cuda.get_device_properties(device).L2_cache_size)
    last: dict[str, int] = {}  # by the CPUs that share the cache, so that each is counted once
    for number in os.sched_getaffinity(0):
        levels = {_read(entry, "level"): entry for entry in (cpus / f"cpu{number}" / "cache").glob("index*")}
        if levels:
            entry = levels[max(levels, key=int)]
            last[_read(entry, "shared_cpu_list")] = _bytes(_read(entry, "size"))
    return sum(last.values()) or UNKNOWN


def _read(entry: Path, name: str) -> str:
    return (entry / name).read_text().strip()


def _bytes(size: str) -> int:
    """Return the bytes of a size in Linux's spelling, such as `32768K`."""
    return int(size[:-1]) * _UNITS[size[-1]] if size[-1] in _UNITS else int(size)


class ColdCaches:
    """A buffer twice as large as the last cache; rewriting it leaves nothing else in the cache.

    Every element counts how often it was rewritten, so that `check` can see whether the whole buffer was touched.
    """

    def __init__(self, device: torch.device) -> None:
        numbers = LAST_CACHES * last_cache(device) // torch.int32.itemsize
        self._buffer = torch.zeros(numbers, dtype=torch.int32, device=device)
        self._evictions = 0

    def evict(self) -> None:
        """Rewrite the buffer; call this before a sample, outside the timed region."""
        self._buffer.add_(1)
        self._evictions += 1

    def check(self) -> None:
        """Raise `BenchError` unless every element was rewritten in every eviction."""
        least, most = (int(value) for value in self._buffer.aminmax())
        if not least == most == self._evictions:
            raise BenchError(
                f"the caches were not cold: after {self._evictions} evictions parts of the buffer were rewritten "
                f"{least} to {most} times; measure without cold caches on this machine"
            )


MOST_COPIES = 512
"""Copies of rows and weights that are worth preparing."""


def copies_beyond(size: int, cache: int) -> int:
    """Return how many copies of `size` bytes, used in turn, drive each other out of `cache` bytes.

    Reading the others replaces a copy and, unlike a write, leaves no lines that a later call must write back. Raises
    `BenchError` if they would be too many.
    """
    copies = 1 + max(1, -(-LAST_CACHES * cache // max(1, size)))
    if copies > MOST_COPIES:
        raise BenchError(f"{copies:,} copies of {size:,} bytes would be needed to exceed the caches")
    return copies


class Rotation:
    """One call on copies of the same rows in turn, so that no call finds the rows of the one before in a cache.

    `prepare` makes the call on one copy, and `calls` are all of them. `turn` moves on to the next copy before a call,
    `uses` counts the calls on each. Raises `BenchError` if two copies share memory.
    """

    def __init__(self, copies: Sequence[Tensor], prepare: Callable[[Tensor], Call]) -> None:
        if len({copy.data_ptr() for copy in copies if copy.numel()}) < sum(copy.numel() > 0 for copy in copies):
            raise BenchError(
                "rotated rows share memory, so a call would find the rows of the one before in a cache; clone them"
            )
        self.calls = [prepare(copy) for copy in copies]
        self.uses = [0] * len(copies)
        self._turn = 0

    def turn(self) -> None:
        """Move on to the next copy."""
        self._turn = (self._turn + 1) % len(self.calls)

    def call(self) -> object:
        """Make the call on the present copy."""
        self.uses[self._turn] += 1
        return self.calls[self._turn]()

    def check(self) -> None:
        """Raise `BenchError` unless all copies were used equally often, the last round apart."""
        if max(self.uses) - min(self.uses) > 1:
            raise BenchError(f"the copies of the rows were used {self.uses} times instead of in turn; measure again")
