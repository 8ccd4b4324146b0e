"""Tickets: programs that each computed part of a sum find out which of them comes last and adds the parts up.

Each such sum has a counter that is 0 between launches: every program takes a ticket once its part is stored, and
the last one adds up in a fixed order, so the result does not depend on which came last, and sets the counter back.
Launches that may run at the same time never share a counter: each stream has counters of its own, and so has each
launch captured in a CUDA graph, since the graph may be replayed beside anything.
"""

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import torch
import triton
import triton.language as tl
from torch import Tensor

MOST = 2**14
"""One launch may have this many shared sums at most."""

RESERVE = 2**20
"""Counters that captured launches of one device share out; a captured launch keeps its own for good."""

LINE = 32
"""Counters of one line of the L2 cache; those of a launch start at such a line, as aligned as all others."""


@triton.jit
def take_ticket(counter, programs: tl.constexpr) -> tl.tensor:
    """Return whether this program is the last of `programs` to come here, after setting the counter back to 0.

    What any of them stored before is visible to the last one, which must read it with cache_modifier=".cg".
    """
    tl.debug_barrier()
    last = tl.atomic_add(counter, 1, sem="acq_rel", scope="gpu") == programs - 1
    if last:
        tl.store(counter, 0)
    return last


@dataclass
class _Reserve:
    """Counters that captured launches take their own from."""

    zeros: Tensor  # (RESERVE,) int32
    taken: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def take(self, number: int) -> Tensor | None:
        """Return `number` counters that nobody else has, or None when too few are left."""
        number = -(-number // LINE) * LINE
        with self.lock:
            if self.taken + number > RESERVE:
                return None
            self.taken += number
            return self.zeros[self.taken - number : self.taken]


_streams: dict[tuple[torch.device, int], Tensor] = {}
_reserves: dict[torch.device, _Reserve] = {}


def counters(number: int, device: torch.device) -> Tensor:
    """Return at least `number` int32 counters, all 0, for one launch on the current stream of `device`.

    A launch captured in a CUDA graph has counters of its own; if nothing ran on the device before the capture, or
    the reserve is used up, the graph itself sets them to 0 in each replay.

    Raises:
        ValueError: More than MOST are asked for.
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
    """Return `number` counters, all 0 before the current stream goes on, in memory that no graph's pool owns.

    torch sends what a thread allocates while it warms up a graph to the graph's pool, so another thread allocates.
    """
    with ThreadPoolExecutor(1) as other:
        zeros = other.submit(lambda: torch.zeros(number, dtype=torch.int32, device=device)).result()
    torch.cuda.current_stream(device).wait_stream(torch.cuda.default_stream(device))
    return zeros
