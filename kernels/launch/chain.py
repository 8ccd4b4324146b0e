"""Chains of launches: each starts while the one before still runs, and waits for it on the device; from sm_90 on.

CUDA calls this programmatic dependent launch. Without it the device idles from the end of a launch until the programs
of the next one are in place. Every kernel of a chain begins with `follow`: its programs wait until the launch before
has ended and what it wrote can be read, and then let the next launch start.

No program reads or writes global memory before its wait, and even one without work waits. So a launch ends after the
one before it has, and after the wait **all** earlier work of the stream has ended, as if no launch had started early:

- The combine may read what the router wrote three launches ago.
- Memory may be used again: a tensor may get the memory of one that an earlier launch, or an earlier call, still read
  when this launch started.
- The counters of `kernels.launch.tickets` are 0 again, because the launch that resets them has ended.

The first launch of a chain is an ordinary one, and so are those of torch between two of the chain: they start after all
earlier work has ended, and the next launch of the chain waits for them. What comes after the chain starts after its
last launch, and so after all of them.

No launch waits for room that the next one holds, because the next one starts only after every program has passed its
wait or ended. The capture of a CUDA graph makes an edge of the same meaning from each early start, between two kernels
alone, so replays keep the order too.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from itertools import count

import triton
import triton.language as tl

_places: ContextVar[Iterator[int] | None] = ContextVar("places", default=None)


@triton.jit
def follow(chained: tl.constexpr) -> None:
    """Wait for the launch before, if `chained`, and let the next one start."""
    if chained:
        tl.extra.cuda.gdc_wait()
        tl.extra.cuda.gdc_launch_dependents()


@contextmanager
def chain(wanted: bool) -> Iterator[None]:
    """Make a chain of the launches inside, if `wanted` and not interpreted; the device must be sm_90 or later."""
    token = _places.set(count() if wanted and not triton.knobs.runtime.interpret else None)
    try:
        yield
    finally:
        _places.reset(token)


def next_place() -> int | None:
    """Return the place in the chain of the launch about to be made, from 0 on, or None outside of one."""
    places = _places.get()
    return None if places is None else next(places)
