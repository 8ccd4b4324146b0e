"""A grouped product whose warps are specialised: one copies tiles, and two groups of four multiply what it copied.

The kernel is written in Gluon for sm_90. It was compiled with the versions of Triton below and never ran on a GPU, so
only `Product.specialised` asks for it. The interpreter knows no Gluon.

M assignments, E experts; D input width and H output width of this product.
"""

from functools import lru_cache
from importlib import import_module
from typing import Any

import triton
from torch import Tensor

from kernels.cost.machine import machine_of
from kernels.launch.integers import cdiv, next_power_of_2
from kernels.launch.launch import launch
from kernels.ops.dispatch import Dispatch
from kernels.problem.options import Product

VERSIONS = ("3.6",)
"""Triton's versions whose Gluon compiles the kernel."""

TILE_ROWS = 128
"""Rows of a tile: 64 for each group of warps, as many as one wgmma has."""

SWIZZLE = 64
"""16-bit values of a row of 128 bytes in shared memory: the least width of a tile."""


@lru_cache
def kernel() -> Any:
    """Return the kernel, or None if this Triton interprets or is of another version."""
    if triton.knobs.runtime.interpret or triton.__version__.rpartition(".")[0] not in VERSIONS:
        return None
    return import_module("kernels.ops.specialised_kernel").specialised_gemm_kernel


def launch_specialised(
    a: Tensor,
    w: Tensor,
    bias: Tensor | None,
    out: Tensor,
    dispatch: Dispatch,
    options: Product,
    programs: int | None,
) -> bool:
    """Store a w_e + bias_e for the slots of each expert e in `out` (M, H), or return False if the plain kernel must.

    Args:
        a: (M, D) in slot order, describable.
        w: (E, D, H), describable.
        bias: (E, H) or None.
        out: (M, H), contiguous.
        dispatch: Which slots belong to which expert.
        options: Tile sizes; `warps` is of the plain kernel.
        programs: By default one for each multiprocessor.
    """
    (E, D, H), rows, columns, depth = w.shape, dispatch.tile_rows, options.columns, options.depth
    machine = machine_of(a.device)
    usable = options.specialised and options.splits == 1 and machine.capability == 90 and a.element_size() == 2
    if not usable or kernel() is None or rows != TILE_ROWS or min(columns, depth) < SWIZZLE:
        return False
    module = import_module("kernels.ops.specialised_kernel")
    stride_be, stride_bh = (0, 0) if bias is None else bias.stride()
    arguments: dict[str, Any] = {
        "a": module.described(a, [rows, depth]),
        "w": module.described(w, [1, depth, columns]),
        "bias": bias,
        "out": out,
        "offsets": dispatch.offsets,
        "tile_starts": dispatch.tile_starts,
        "stride_be": stride_be,
        "stride_bh": stride_bh,
        "H": H,
        "E": E,
        "D": D,
        "tile_rows": rows,
        "columns": columns,
        "depth": depth,
        "ring": options.stages,
        "group": options.group,
        "block_e": next_power_of_2(E),
    }
    units = min(dispatch.most_tiles * cdiv(H, columns), programs or machine.multiprocessors)
    launch("experts", kernel(), (units,), arguments, warps=4)
    return True
