"""Tickets: programs that share a sum find out which of them finishes last and has to add up the parts.

Each shared sum has a counter that is 0 between launches. Every program stores its part and then takes a ticket. The
last one adds up the parts in a fixed order, so the result does not depend on which program that is, and resets the
counter. Launches that may run at the same time never share a counter: each stream has its counters, and so has each
launch captured in a CUDA graph, because the graph may be replayed beside anything.
"""

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import torch
import triton
import triton.language as tl
from torch import Tensor

from kernels.launch.plan import noted

MOST = 2**14
"""The most shared sums of one launch."""

RESERVE = 2**20
"""Counters set aside for the captured launches of one device; a captured launch keeps the ones it takes."""

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


@dataclass
class _Reserve:
    """The counters that captured launches take theirs from."""

    zeros: Tensor  # (RESERVE,) int32
    taken: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def take(self, number: int) -> Tensor | None:
        """Return `number` counters that no other launch has, or None if too few are left."""
        number = -(-number // LINE) * LINE
        with self.lock:
            if self.taken + number > RESERVE:
                return None
            self.taken += number
            return self.zeros[self.taken - number : self.taken]


_streams: dict[tuple[torch.device, int], Tensor] = {}
_reserves: dict[torch.device, _Reserve] = {}


@noted
def counters(number: int, device: torch.device) -> Tensor:
    """Return at least `number` int32 counters, all 0, for one launch on the current stream of `device`.

    A launch captured in a CUDA graph gets counters that no other launch has. If nothing ran on the device before the
    capture, or the reserve is used up, the graph itself sets them to 0 in each replay.

    Raises:
        ValueError: `number` is above MOST.
    """
    if number > MOST:
        raise ValueError(f"one launch may have at most {MOST} split sums, not {number}: use larger tiles")
    if device.type != "cuda":
        return torch.zeros(number, dtype=torch.int32, device=device)
    with torch.cuda.device(device):
        if torch.cuda.is_current_stream_capturing():
            taken = _reserves[device].take(number) if device in _reserves else None
            return torch.zeros(number, dtype=torch.int32, device=device) if taken is None else taken
        key = (device, torch.cuda.current_stream().cuda_stream)
        if key not in _streams:
            _streams[key] = _lasting_zeros(MOST, device)
        if device not in _reserves:
            _reserves[device] = _Reserve(_lasting_zeros(RESERVE, device))
        return _streams[key]


def _lasting_zeros(number: int, device: torch.device) -> Tensor:
    """Return `number` counters in memory that belongs to no graph's pool, all 0 before the current stream goes on.

    While a thread warms up a graph, torch serves its allocations from the graph's pool, so another thread allocates.
    """
    with ThreadPoolExecutor(1) as other:
        zeros = other.submit(lambda: torch.zeros(number, dtype=torch.int32, device=device)).result()
    torch.cuda.current_stream(device).wait_stream(torch.cuda.default_stream(device))
    return zeros
