"""What the fused kernels share: their arguments, and how programs that share a sum add up their parts.

N rows, D input width, H hidden width of one expert, E experts, k experts per row, C output width.
"""

import math
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from kernels.launch.integers import cdiv
from kernels.launch.launch import launch
from kernels.launch.tickets import MOST, counters, take_ticket
from kernels.ops.parts import sum_parts
from kernels.problem.experts import Experts
from kernels.problem.problem import Problem
from kernels.problem.routes import Gate, RoutingSource, TopK

MOST_PARTS = 2**16 - 1
"""CUDA allows no more programs along the axis of the grid that counts the parts of a sum."""

MOST_COLUMNS = 128
"""The most output columns of one program; wider outputs compute the hidden values again for each such part."""

STRIDES = {
    name: tuple(f"stride_{name}_{letter}" for letter in letters)
    for name, letters in {
        "x": "nd",
        "gate": "ed",
        "gate_bias": "e",
        "ids": "nk",
        "weights": "nk",
        "w1": "edh",
        "b1": "eh",
        "w2": "ehc",
        "b2": "ec",
    }.items()
}
"""The kernels' names for the strides of each tensor: its name and the letter of the dimension."""


@triton.jit
def store_sum(out, scratch, counter, part, total, place, inside, size, parts: tl.constexpr) -> None:
    """Store the sum of the totals of `parts` programs; the last one to finish adds them in the order of their parts.

    Args:
        out: Result, `size` elements.
        scratch: fp32, parts x size elements; None for one part.
        counter: Counter of this sum, 0 before and after; None for one part.
        part: Number of this program, 0 to parts - 1.
        total: What this program computed, an fp32 tile.
        place: Places of its elements in `out`, int64, the same in all parts.
        inside: Which of them exist.
        size: Elements of `out`, int64.
        parts: Programs that share this sum.
    """
    if parts == 1:
        tl.store(out + place, total.to(out.dtype.element_ty), mask=inside)
    else:
        tl.store(scratch + part * size + place, total, mask=inside)
        last = take_ticket(counter, parts)
        if last:
            total = sum_parts(scratch, size, place, inside, parts)
            tl.store(out + place, total.to(out.dtype.element_ty), mask=inside)


def sliced(H: int, hidden: int, slices: int) -> tuple[int, int]:
    """Return how many programs end up sharing the hidden columns of an expert, and the blocks of each."""
    blocks = cdiv(cdiv(H, hidden), slices)
    return cdiv(cdiv(H, hidden), blocks), blocks


def launch_fused(
    kernel: Any,
    grid: tuple[int, int, int],
    x: Tensor,
    routing: RoutingSource,
    experts: Experts,
    sizes: dict[str, Any],
    *,
    warps: int,
    stages: int = 1,
) -> Tensor:
    """Launch a fused kernel with the arguments that both take and its `sizes`; return the outputs (N, C).

    The grid counts tiles of rows, programs that share a sum, and blocks of output columns.

    Raises:
        ValueError: The routing is a flat list, weights are stored in 8 or 4 bits, too many programs share a sum, or
            more sums are shared than there are tickets.
    """
    tiles, parts, column_blocks = grid
    if parts > MOST_PARTS:
        raise ValueError(f"at most {MOST_PARTS} programs may share a sum, not {parts}: use fewer slices")
    if experts.is_stored:
        raise ValueError("a fused path takes no weights stored in 8 or 4 bits: let Grouped run them")
    w1, b1, w2, b2, *_ = experts.parts()
    gate = routing if isinstance(routing, Gate) else None
    top_k = routing if isinstance(routing, TopK) else None
    tensors = {
        "x": x,
        "gate": gate.weight if gate else None,
        "gate_bias": gate.bias if gate else None,
        "ids": top_k.ids if top_k else None,
        "weights": top_k.weights if top_k else None,
        "w1": w1,
        "b1": b1,
        "w2": w2,
        "b2": b2,
    }
    strides: dict[str, int] = {}
    for name, tensor in tensors.items():
        names = STRIDES[name]
        strides.update(dict.fromkeys(names, 0) if tensor is None else zip(names, tensor.stride(), strict=True))
    N, D = x.shape
    E, H, C = experts.w2.shape
    out = torch.empty(N, C, dtype=x.dtype, device=x.device)
    arguments = {
        **tensors,
        **strides,
        "out": out,
        "scratch": torch.empty(parts, N, C, dtype=torch.float32, device=x.device) if parts > 1 else None,
        "counters": counters(tiles * column_blocks, x.device) if parts > 1 else None,
        "N": N,
        "D": D,
        "H": H,
        "E": E,
        "C": C,
        "k": experts_per_row(routing),
        "temperature": float(gate.temperature) if gate else 1.0,
        "standardised": gate is not None and gate.standardise,
        "over_all": gate is not None and gate.weights_over == "all",
        "activation": experts.activation,
        "parts": parts,
        **sizes,
    }
    launch("fused", kernel, grid, arguments, warps=warps, stages=stages)
    return out


def experts_per_row(routing: RoutingSource) -> int:
    """Return k, or raise ValueError for a flat list, which has none."""
    if not isinstance(routing, Gate | TopK):
        raise ValueError("a fused path takes a gate or k experts for every row, not a flat list")  # noqa: TRY004 - as elsewhere
    return routing.k


def touched_bytes(problem: Problem) -> int:
    """Return the bytes of different values that a fused launch touches if it uses as many experts as it can."""
    N, D, H, E, C = problem.N, problem.D, problem.H, problem.E, problem.C
    used = min(E, N * problem.k)
    values = N * (D + C) + used * ((D + 1) * H * problem.halves + (H + 1) * C)
    if problem.routing == "gate":
        return problem.element_size * (values + (D + 1) * E)
    return problem.element_size * values + 8 * problem.M  # int32 ids, fp32 weights


def most_rows(problem: Problem, parts: int, tile_rows: int) -> float:
    """Return the largest N with a ticket for each sum, if `parts` programs share the sum of a tile of rows."""
    return math.inf if parts == 1 else MOST // cdiv(problem.C, MOST_COLUMNS) * tile_rows
