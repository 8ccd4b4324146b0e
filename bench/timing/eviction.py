"""Cold caches: evict what a call reads before it is timed, and prove that this happened."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from bench.errors import BenchError
from bench.timing.caches import last_cache
from bench.timing.clock import Call

LAST_CACHES = 2
"""Size of the buffer, in last-level caches."""


class ColdCaches:
    """A buffer twice as large as the last cache; rewriting it leaves nothing else in the cache.

    Every element counts how often it was rewritten, so that `check` can see whether the whole buffer was touched.
    """

    def __init__(self, device: torch.device) -> None:
        self._buffer = torch.zeros(
            LAST_CACHES * last_cache(device) // torch.int32.itemsize, dtype=torch.int32, device=device
        )
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


class Rotation:
    """One call on copies of the same rows in turn, so that no call finds the rows of the one before in a cache.

    `prepare` makes the call on one copy, `turn` moves on to the next copy before a call, `uses` counts the calls on
    each. Raises `BenchError` if two copies share memory.
    """

    def __init__(self, copies: Sequence[Tensor], prepare: Callable[[Tensor], Call]) -> None:
        if len({copy.data_ptr() for copy in copies if copy.numel()}) < sum(copy.numel() > 0 for copy in copies):
            raise BenchError(
                "rotated rows share memory, so a call would find the rows of the one before in a cache; clone them"
            )
        self._calls = [prepare(copy) for copy in copies]
        self.uses = [0] * len(copies)
        self._turn = 0

    def turn(self) -> None:
        """Move on to the next copy."""
        self._turn = (self._turn + 1) % len(self._calls)

    def call(self) -> object:
        """Make the call on the present copy."""
        self.uses[self._turn] += 1
        return self._calls[self._turn]()

    def check(self) -> None:
        """Raise `BenchError` unless all copies were used equally often, the last round apart."""
        if max(self.uses) - min(self.uses) > 1:
            raise BenchError(f"the copies of the rows were used {self.uses} times instead of in turn; measure again")
