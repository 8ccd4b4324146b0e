"""The gradient of a grouped product's weights: dW_e = A_e^T B_e over the slots of each expert, in one launch.

N rows, M assignments, E experts; D input width and H output width of the product, S parts whose sum is a gradient.
"""

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from kernels.cost.work import Histogram, LaunchWork, unit_of
from kernels.launch.checks import FLOATS, bind_shapes, remembered, require_dtype
from kernels.launch.integers import cdiv
from kernels.launch.launch import launch, require_device
from kernels.ops.dispatch import Dispatch
from kernels.ops.places import place
from kernels.problem.options import Precision, WeightTile
from kernels.problem.problem import Problem


@triton.jit
def part_of(offsets, expert, part, parts: tl.constexpr, step: tl.constexpr) -> tuple[tl.tensor, tl.tensor]:
    """Return the first slot of one of the equal parts of an expert's slots, and the slot after its last."""
    begin = tl.load(offsets + expert)
    end = tl.load(offsets + expert + 1)
    length = tl.cdiv(end - begin, step * parts) * step
    begin += part * length
    return begin, tl.minimum(begin + length, end)


@triton.jit
def _weight_gradient_kernel(
    a, b, out, rows, offsets,
    stride_am, stride_ad, stride_bm, stride_bh,
    D, H, E,
    gather_a: tl.constexpr, gather_b: tl.constexpr, precision: tl.constexpr,
    tile_rows: tl.constexpr, columns: tl.constexpr, depth: tl.constexpr, group: tl.constexpr, splits: tl.constexpr,
):  # fmt: skip
    unit, block_d, block_h = place(tl.program_id(0), tl.cdiv(D, tile_rows), tl.cdiv(H, columns), group)
    begin, end = part_of(offsets, unit % E, unit // E, splits, depth)
    d = block_d * tile_rows + tl.arange(0, tile_rows)
    h = block_h * columns + tl.arange(0, columns)
    a += d.to(tl.int64)[None, :] * stride_ad
    b += h.to(tl.int64)[None, :] * stride_bh
    total = tl.zeros((tile_rows, columns), tl.float32)
    for first in range(begin, end, depth):
        slot = first + tl.arange(0, depth)
        used = (slot < end)[:, None]
        row = tl.load(rows + slot, mask=slot < end, other=0) if gather_a or gather_b else slot
        a_row = (row if gather_a else slot).to(tl.int64)[:, None]
        b_row = (row if gather_b else slot).to(tl.int64)[:, None]
        a_tile = tl.load(a + a_row * stride_am, mask=used & (d < D)[None, :], other=0.0)  # (depth, tile_rows)
        b_tile = tl.load(b + b_row * stride_bm, mask=used & (h < H)[None, :], other=0.0)  # (depth, columns)
        total = tl.dot(tl.trans(a_tile), b_tile, total, input_precision=precision)
    out_at = out + (unit.to(tl.int64) * D + d[:, None]) * H + h[None, :]
    tl.store(out_at, total.to(out.dtype.element_ty), mask=(d < D)[:, None] & (h < H)[None, :])


def weight_gradient(
    a: Tensor,
    b: Tensor,
    dispatch: Dispatch,
    *,
    gather_a: bool = False,
    gather_b: bool = False,
    options: WeightTile,
    precision: Precision = "ieee",
) -> Tensor:
    """Return a_e^T b_e for the slots of each expert e, (E, D, H) in the dtype of `a`; 0 for an expert without any.

    Args:
        a: Inputs of the product: with `gather_a` rows (N, D) that dispatch.rows indexes, else (M, D) in slot order.
        b: Gradients of its outputs: (N, H) or (M, H) likewise, dtype of `a`. Both may have any strides.
        dispatch: Which slots belong to which expert.
        gather_a: Whether `a` is read by row.
        gather_b: Whether `b` is read by row.
        options: Tile sizes.
        precision: How fp32 operands are multiplied; sums are fp32, in slot order within each part.

    Raises:
        ValueError: An argument has the wrong shape, dtype or device.
    """
    M, D, H = _sizes(a, b, dispatch.rows, gather_a, gather_b)
    E, splits = dispatch.experts, options.splits
    dtype = a.dtype if splits == 1 else torch.float32
    if M == 0:
        return a.new_zeros(E, D, H)
    out = torch.empty(splits, E, D, H, dtype=dtype, device=a.device)
    arguments: dict[str, Any] = {
        "a": a,
        "b": b,
        "out": out,
        "rows": dispatch.rows,
        "offsets": dispatch.offsets,
        **dict(zip(("stride_am", "stride_ad", "stride_bm", "stride_bh"), (*a.stride(), *b.stride()), strict=True)),
        "D": D,
        "H": H,
        "E": E,
        "gather_a": gather_a,
        "gather_b": gather_b,
        "precision": precision,
        "tile_rows": options.rows,
        "columns": options.columns,
        "depth": options.depth,
        "group": options.group,
        "splits": splits,
    }
    units = splits * E * cdiv(D, options.rows) * cdiv(H, options.columns)
    launch("experts", _weight_gradient_kernel, (units,), arguments, warps=options.warps, stages=options.stages)
    return out[0] if splits == 1 else out.sum(dim=0).to(a.dtype)


@remembered
def _sizes(a: Tensor, b: Tensor, rows: Tensor, gather_a: bool, gather_b: bool) -> tuple[int, int, int]:
    """Check the arguments and return M, D and H."""
    require_device(a=a, b=b, rows=rows)
    require_dtype(*FLOATS, a=a, b=b)
    sizes = bind_shapes(rows=(rows, "M"), a=(a, "N D" if gather_a else "M D"), b=(b, "N H" if gather_b else "M H"))
    return sizes["M"], sizes["D"], sizes["H"]


def weight_gradient_work(
    problem: Problem, D: int, H: int, options: WeightTile, experts: Histogram, *, precision: Precision
) -> tuple[LaunchWork, ...]:
    """Return the work of `weight_gradient` for weights of D x H, and of the sum of its parts if there are any."""
    size, splits, steps = problem.element_size, options.splits, options.depth
    blocks = cdiv(D, options.rows) * cdiv(H, options.columns)
    deep = sum(cdiv(rows, steps * splits) * steps * splits * number for rows, number in experts)
    longest = max(cdiv(rows, steps * splits) for rows, _ in experts)
    read = problem.M * (cdiv(H, options.columns) * D + cdiv(D, options.rows) * H) * size
    values, out_size = splits * problem.E * D * H, 4 if splits > 1 else size
    product = LaunchWork(
        stage="experts",
        kernel="_weight_gradient_kernel",
        programs=splits * problem.E * blocks,
        flops=2 * deep * blocks * options.rows * options.columns,
        read=read,
        written=values * out_size,
        touched=problem.M * (D + H) * size + values * out_size,
        unit=unit_of(problem.dtype, precision),
        tile=(options.rows, options.columns),
        start=1,
        fillings=2 * cdiv(longest, options.stages),
        warps=options.warps,
        held=options.rows * options.columns,
        shared=weight_gradient_shared(options, size),
    )
    if splits == 1:
        return (product,)
    read, written = 4 * values, values // splits * size
    programs = cdiv(values // splits, 1024)
    return product, LaunchWork("experts", "torch.sum", programs, read=read, written=written, touched=read + written)


def weight_gradient_shared(options: WeightTile, size: int) -> int:
    """Return the shared bytes that the operands of a program take."""
    return (options.rows + options.columns) * options.depth * options.stages * size


def weight_gradient_reference(
    a: Tensor, b: Tensor, dispatch: Dispatch, *, gather_a: bool = False, gather_b: bool = False
) -> Tensor:
    """Return the result of `weight_gradient`, expert by expert; sums are fp32, or fp64 for fp64 operands."""
    exact = torch.promote_types(a.dtype, torch.float32)
    offsets = dispatch.offsets.tolist()
    out = torch.zeros(dispatch.experts, a.shape[1], b.shape[1], dtype=a.dtype, device=a.device)
    for e in range(dispatch.experts):
        slots = slice(offsets[e], offsets[e + 1])
        a_e = a[dispatch.rows[slots]] if gather_a else a[slots]  # (m, D)
        b_e = b[dispatch.rows[slots]] if gather_b else b[slots]  # (m, H)
        out[e] = (a_e.to(exact).t() @ b_e.to(exact)).to(a.dtype)
    return out
