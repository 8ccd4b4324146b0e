"""How a call of the native kernel is run, chosen from its sizes.

Threads take blocks of rows through all steps, each its own, if the weights stay in a cache that they share: then nobody
waits. Otherwise they share every step of a block, so that weights are read from memory once. Limits were measured on
an AMD EPYC with 512 KB of second and 32 MB of last cache, and matter little around their values.

N rows, D input width, W padded columns of an expert's first product, H hidden width of one expert, E experts, k experts
per row, C output width.
"""

from typing import NamedTuple

from kernels.launch.integers import cdiv

BLOCK = 256
"""Rows that one thread takes through all steps, unless their hidden values are wide."""
LEAST_BLOCK = 96
"""Rows of a block, of whatever width; the kernel multiplies so many at once."""
CACHED = 2**18
"""Bytes of the hidden values of a thread's block: half of the second cache."""
SHARED = 2**28
"""Bytes of the hidden values of a block that threads share."""
RESIDENT = 2**24
"""Bytes of weights that stay in the last cache."""
THREAD_WORK = 1_000_000
"""Operations that are worth another thread: about as long as it takes to wake one."""


class Plan(NamedTuple):
    """How a call is run.

    Attributes:
        threads: Threads that take part.
        block: Rows that go through all steps together.
        shared: Whether threads share every step of a block, or each takes blocks of its own.
    """

    threads: int
    block: int
    shared: bool


def plan_of(N: int, D: int, W: int, H: int, E: int, C: int, k: int, element_size: int, threads: int) -> Plan:
    """Return the plan for a call on at most `threads` threads, with weights of `element_size` bytes."""
    weights = D * W + H * C  # of one expert
    used = min(E, N * k) * weights * element_size
    threads = max(1, min(threads, 2 * N * k * weights // THREAD_WORK))
    row = 4 * max(1, k) * W  # bytes of hidden values
    if used > RESIDENT or threads > N:
        return Plan(threads, max(1, min(N, max(LEAST_BLOCK, SHARED // row))), True)
    most = min(BLOCK, max(LEAST_BLOCK, CACHED // row))
    rounds = max(1, cdiv(N, threads * most))
    return Plan(threads, max(1, cdiv(N, threads * rounds)), False)
