"""How a call of the native kernel is run; moe.cpp chooses it from the sizes of the call."""

from typing import NamedTuple

from kernels.native.build import load
from kernels.native.operator import native_plan


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
    """Return the kernel's plan for a call on at most `threads` threads, with weights of `element_size` bytes.

    N rows, D input width, W padded columns of an expert's first product, H hidden width of one expert, E experts, k
    experts per row, C output width.
    """
    load()
    return Plan(*native_plan(N, D, W, H, E, C, k, element_size, threads))
