"""Tickets: programs that share a sum find out which of them finishes last and has to add up the parts.

Each shared sum has a counter that is 0 between launches. Every program stores its part and then takes a ticket. The
last one adds up the parts in a fixed order, so the result does not depend on which program that is, and resets the
counter. Launches that may run at the same time never share a counter: each stream has its counters, and so has each
CUDA graph, because it may be replayed beside anything.
"""

import threading
import warnings
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import torch
import triton
import triton.language as tl
from torch import Tensor

from kernels.launch.captures import Lifetime, capture_number, lifetime
from kernels.launch.integers import next_power_of_2
from kernels.launch.plan import noted

MOST = 2**14
"""The most shared sums of one launch."""

RESERVE = 2**20
"""Counters set aside for the CUDA graphs of one device; a graph keeps the ones it takes as long as it exists."""

LINE = 32
"""Counters of one line of the L2 cache; the counters of every launch start at such a line."""


@triton.jit
def take_ticket(counter, programs: tl.constexpr) -> tl.tensor:
    """Return whether this program is the last of `programs` to come here; the last one resets the counter to 0.

    The last one sees everything that the others stored before, if it reads with cache_modifier=".cg".
    """
    tl.debug_barrier()
    last = tl.atomic_add(counter, 1, sem="acq_rel", scope="gpu") == programs - 1
    if last:
        tl.store(counter, 0)
    return last


@dataclass(frozen=True)
class _Held:
    """Counters of a captured graph, and whether it still exists; None if nobody says so."""

    counters: Tensor
    life: Lifetime | None


@dataclass
class _Reserve:
    """The counters that captured launches take theirs from, in pieces whose sizes are powers of two."""

    zeros: Tensor  # (RESERVE,) int32
    taken: int = 0
    free: defaultdict[int, list[Tensor]] = field(default_factory=lambda: defaultdict(list))
    held: dict[tuple[int, int, int], _Held] = field(default_factory=dict)
    warned: bool = False

    def take(self, number: int, stream: int) -> Tensor | None:
        """Return `number` counters that no launch beside the graph under capture has, or None if too few are left.

        All launches of one size that a graph captures from one stream run one after the other, so they share a piece.
        """
        size, capture = max(LINE, next_power_of_2(number)), capture_number()
        if capture is not None and (capture, stream, size) in self.held:
            return self.held[capture, stream, size].counters
        self._give_back()
        counters = self.free[size].pop() if self.free[size] else self._cut(size)
        if counters is not None and capture is not None:
            self.held[capture, stream, size] = _Held(counters, lifetime())
        return counters

    def _cut(self, size: int) -> Tensor | None:
        if self.taken + size > RESERVE:
            self._warn()
            return None
        self.taken += size
        return self.zeros[self.taken - size : self.taken]

    def _give_back(self) -> None:
        """Free the counters of graphs that no longer exist; their last launch left them 0."""
        for key, held in list(self.held.items()):
            if held.life is not None and held.life.over:
                self.free[key[-1]].append(held.counters)
                del self.held[key]

    def _warn(self) -> None:
        if not self.warned:
            self.warned = True
            warnings.warn(
                f"CUDA graphs hold all {RESERVE} counters of the device, so further ones set theirs to 0 in each "
                "replay, one more launch per split sum: capture fewer graphs, or drop old ones",
                stacklevel=2,
            )


_streams: dict[tuple[torch.device, int], Tensor] = {}
_reserves: dict[torch.device, _Reserve] = {}
_lock = threading.Lock()


@noted
def counters(number: int, device: torch.device) -> Tensor:
    """Return at least `number` int32 counters, all 0, for one launch on the current stream of `device`.

    A launch captured in a CUDA graph gets counters that nothing outside the graph has; once the graph is destroyed,
    another may get them. If nothing ran on the device before the capture, or the reserve is used up, the graph itself
    sets them to 0 in each replay.

    Raises:
        ValueError: `number` is above MOST.
    """
    if number > MOST:
        raise ValueError(f"one launch may have at most {MOST} split sums, not {number}: use larger tiles")
    if device.type != "cuda":
        return torch.zeros(number, dtype=torch.int32, device=device)
    with torch.cuda.device(device):
        stream = torch.cuda.current_stream().cuda_stream
        if torch.cuda.is_current_stream_capturing():
            with _lock:
                taken = _reserves[device].take(number, stream) if device in _reserves else None
            return torch.zeros(number, dtype=torch.int32, device=device) if taken is None else taken
        zeros = _streams.get((device, stream))
        return _first_zeros(device, stream) if zeros is None else zeros


def _first_zeros(device: torch.device, stream: int) -> Tensor:
    """Return the counters of a stream at its first call, and set a reserve aside at the device's first."""
    with _lock:
        if (device, stream) not in _streams:
            _streams[device, stream] = _lasting_zeros(MOST, device)
        if device not in _reserves:
            _reserves[device] = _Reserve(_lasting_zeros(RESERVE, device))
        return _streams[device, stream]


def _lasting_zeros(number: int, device: torch.device) -> Tensor:
    """Return `number` counters in memory that belongs to no graph's pool, all 0 before the current stream goes on.

    While a thread warms up a graph, torch serves its allocations from the graph's pool, so another thread allocates.
    """
    with ThreadPoolExecutor(1) as other:
        zeros = other.submit(lambda: torch.zeros(number, dtype=torch.int32, device=device)).result()
    torch.cuda.current_stream(device).wait_stream(torch.cuda.default_stream(device))
    return zeros
