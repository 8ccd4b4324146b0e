"""Parts: how the program that finishes last adds up what others stored (`kernels.launch.tickets`)."""

import triton
import triton.language as tl

from kernels.launch.integers import cdiv


@triton.constexpr_function
def at_once(numel: int) -> int:
    """Return how many parts of `numel` values are loaded before the first is added: as many as registers hold."""
    return max(1, min(8, 2**13 // numel))


def waits(parts: int, numel: int) -> int:
    """Return how often a sum of `parts` parts waits for memory: to store a part, to take a ticket, and to load."""
    return 2 + cdiv(parts, at_once(numel)) if parts > 1 else 0


@triton.jit
def sum_parts(stored, size, place, inside, parts: tl.constexpr) -> tl.tensor:
    """Return the sum of the stored parts, always in the same order.

    Args:
        stored: fp32, parts x size elements.
        size: Elements of one part, int64.
        place: Places to add up in each part; the sum has its shape.
        inside: Which of them exist.
        parts: Their number.
    """
    total = tl.zeros(place.shape, tl.float32)
    several: tl.constexpr = at_once(place.numel)
    whole: tl.constexpr = parts // several * several
    for first in range(0, whole, several):
        for part in tl.static_range(several):
            total += tl.load(stored + (first + part) * size + place, mask=inside, other=0.0, cache_modifier=".cg")
    for part in tl.static_range(whole, parts):
        total += tl.load(stored + part * size + place, mask=inside, other=0.0, cache_modifier=".cg")
    return total
