"""Grouped GEMM: one product per expert, over the tiles of a dispatch, in one launch.

N rows, M assignments, E experts; D input width and H output width of this product, the first or the second.
The weights are H wide, or 2H for swiglu, interleaved or all gates before all ups. The result is `blocks` column blocks
wide, and `parts` programs share the depth of a sum.
"""

from typing import Any, Literal

import torch
import triton
import triton.language as tl
from torch import Tensor

from kernels.cost.machine import machine_of
from kernels.cost.work import Histogram, LaunchWork, tiles_of, unit_of
from kernels.launch.chain import follow
from kernels.launch.checks import ALIGNMENT, FLOATS, bind_shapes, remembered, require_dtype
from kernels.launch.descriptors import describable, describe
from kernels.launch.integers import cdiv, next_power_of_2
from kernels.launch.launch import launch, require_device
from kernels.ops.dispatch import Dispatch
from kernels.ops.places import find, place
from kernels.ops.specialised import launch_specialised
from kernels.problem.activation import (
    Activation,
    activate,
    activate_reference,
    check_activation,
    column_blocks,
    halves,
    swiglu,
)
from kernels.problem.options import Precision, Product
from kernels.problem.problem import Problem
from kernels.problem.stored import Stored

Which = Literal["first", "second"]


@triton.jit
def _finish(total, bias, inside, swapped: tl.constexpr):
    """Return the sums as (tile_rows, columns), plus the bias in the columns that are `inside`."""
    if swapped:
        total = tl.trans(total)
    if bias is not None:
        total += tl.load(bias, mask=inside, other=0.0).to(tl.float32)[None, :]
    return total


@triton.jit
def finish(
    total, up, bias, stride_bh, out, part, slot, end, block, M, H,
    activation: tl.constexpr, columns: tl.constexpr, swapped: tl.constexpr,
) -> None:  # fmt: skip
    """Add the bias of an expert to the sums of a tile, apply the activation and store the result."""
    pairs: tl.constexpr = 2 if activation == "interleaved_swiglu" else 1  # columns of a sum for one of the result
    column = block * columns * pairs + tl.arange(0, columns * pairs)
    inside = column < tl.where(part == 0, H * pairs, 0)
    bias_at = bias + column.to(tl.int64) * stride_bh if bias is not None else None
    total = _finish(total, bias_at, inside, swapped)
    if pairs == 2:
        total, up = tl.split(total.reshape(total.shape[0], columns, 2))
        total = swiglu(total, up)
    elif activation == "swiglu":
        bias_up = bias_at + tl.cast(H, tl.int64) * stride_bh if bias is not None else None
        total = swiglu(total, _finish(up, bias_up, inside, swapped))
    else:
        total = activate(total, activation)
    h = block * columns + tl.arange(0, columns)
    out_at = out + (part.to(tl.int64) * M + slot)[:, None] * H + h[None, :]
    tl.store(out_at, total.to(out.dtype.element_ty), mask=(slot < end)[:, None] & (h < H)[None, :])


@triton.jit(do_not_specialize=["M"])
def _grouped_gemm_kernel(
    a, w, bias, out, rows, offsets, tile_starts,
    stride_am, stride_ad, stride_we, stride_wd, stride_wh, stride_be, stride_bh,
    M, H, E,
    D: tl.constexpr, gather: tl.constexpr, activation: tl.constexpr, precision: tl.constexpr,
    tile_rows: tl.constexpr, columns: tl.constexpr, depth: tl.constexpr, group: tl.constexpr, splits: tl.constexpr,
    swapped: tl.constexpr, described: tl.constexpr, described_rows: tl.constexpr, persistent: tl.constexpr,
    block_e: tl.constexpr, chained: tl.constexpr,
):  # fmt: skip
    follow(chained)
    steps: tl.constexpr = (D + depth * splits - 1) // (depth * splits)
    ragged: tl.constexpr = D % (depth * splits) > 0
    halves: tl.constexpr = 2 if activation == "swiglu" else 1  # products of a tile
    pairs: tl.constexpr = 2 if activation == "interleaved_swiglu" else 1  # columns of a product for one of the result
    wide: tl.constexpr = columns * pairs
    shape: tl.constexpr = (wide, tile_rows) if swapped else (tile_rows, wide)
    blocks = tl.cdiv(H, columns)
    tiles = tl.load(tile_starts + E)
    if tl.program_id(0) >= tiles * blocks * splits:
        return

    rounds = tl.cdiv(tiles * blocks * splits - tl.program_id(0), tl.num_programs(0)) if persistent else 1
    for turn in range(rounds):  # flattened, two sums would wait for each wgmma
        part, tile, block = place(tl.program_id(0) + turn * tl.num_programs(0), tiles, blocks, group)
        expert, begin, end = find(tl.arange(0, block_e), tile, offsets, tile_starts, E, tile_rows)
        slot = begin + tl.arange(0, tile_rows)
        d = part * steps * depth + tl.arange(0, depth)
        column = block * wide + tl.arange(0, wide)
        across = tl.cast(H, tl.int64) * stride_wh  # from gate to up
        if described_rows:
            a_at = a
        else:
            row = tl.load(rows + slot, mask=slot < end, other=0) if gather else tl.where(slot < end, slot, 0)
            a_at = a + row.to(tl.int64)[:, None] * stride_am + d.to(tl.int64)[None, :] * stride_ad
        if described:
            w_at = w
        else:
            w_at = w + expert.to(tl.int64) * stride_we
            w_at += d.to(tl.int64)[:, None] * stride_wd + column.to(tl.int64)[None, :] * stride_wh

        total = tl.zeros(shape, tl.float32)
        up = tl.zeros(shape, tl.float32)
        for step in range(steps):
            done = (part * steps + step) * depth
            deep = d < D - step * depth if ragged else tl.full((depth,), True, tl.int1)
            inside = deep[:, None] & (column < H * pairs)[None, :]
            a_tile = a_at.load([begin, done]) if described_rows else tl.load(a_at, mask=deep[None, :], other=0.0)
            for half in tl.static_range(halves):
                if described:
                    w_tile = w_at.load([expert, done, half * H + block * wide]).reshape(depth, wide)
                else:
                    w_tile = tl.load(w_at + half * across, mask=inside, other=0.0)
                left, right = (tl.trans(w_tile), tl.trans(a_tile)) if swapped else (a_tile, w_tile)
                if half == 0:
                    total = tl.dot(left, right, total, input_precision=precision)
                else:
                    up = tl.dot(left, right, up, input_precision=precision)
            if not described_rows:
                a_at += tl.cast(stride_ad, tl.int64) * depth
            if not described:
                w_at += tl.cast(stride_wd, tl.int64) * depth

        bias_at = bias + expert.to(tl.int64) * stride_be if bias is not None else None
        finish(total, up, bias_at, stride_bh, out, part, slot, end, block, M, H, activation, columns, swapped)


def grouped_gemm(
    a: Tensor,
    w: Tensor,
    bias: Tensor | None,
    dispatch: Dispatch,
    *,
    gather: bool,
    activation: Activation | None,
    options: Product,
    precision: Precision = "ieee",
    out_dtype: torch.dtype | None = None,
    programs: int | None = None,
) -> Tensor:
    """Return activation(a w_e + bias_e) for the rows of each expert e, (M, H) in slot order.

    Slots that no expert owns are not written. If `options.splits` is S > 1, the result is S partial sums (S, M, H) in
    fp32, and the first of them has the bias.

    Args:
        a: With `gather`, rows (N, D) that dispatch.rows indexes; without, (M, D) in slot order. Any strides.
        w: (E, D, H), or (E, D, 2H) for both kinds of swiglu, dtype of `a`, any strides.
        bias: (E, H), or (E, 2H) for both kinds of swiglu, dtype of `a`, any strides; or None.
        dispatch: Which slots belong to which expert.
        gather: Whether `a` is read by row or by slot.
        activation: Applied to the fp32 sum; None for none.
        options: Tile sizes; their rows come from `dispatch`.
        precision: How fp32 operands are multiplied; sums are fp32.
        out_dtype: Dtype of the result, by default that of `a`; partial sums are fp32.
        programs: Programs of a persistent product; by default one for each multiprocessor.

    Raises:
        ValueError: An argument has the wrong shape, dtype or device, an activation is asked of partial sums, or
            `options` wants descriptors of weights that cannot have any.
    """
    M, D, E, H = _sizes(a, w, bias, dispatch.rows, dispatch.experts, gather, activation)
    out = new_result(a, M, H, activation, options, out_dtype)
    if M == 0:
        return out
    row = a.stride(0) if M > 1 else D  # a single row has no stride: code must not depend on M
    row_aligned = row * a.element_size() % ALIGNMENT == 0
    described_rows = options.described and not gather and row_aligned and describable(a)
    if described_rows and activation is None and launch_specialised(a, w, bias, out, dispatch, options, programs):
        return out
    strides = ("stride_am", "stride_ad", "stride_we", "stride_wd", "stride_wh", "stride_be", "stride_bh")
    bias_strides = (0, 0) if bias is None else bias.stride()
    wide = options.columns * halves(activation) // column_blocks(activation)
    arguments: dict[str, Any] = {
        "a": describe("a", a, [dispatch.tile_rows, options.depth]) if described_rows else a,
        "w": describe("w", w, [1, options.depth, wide], column_blocks(activation)) if options.described else w,
        "bias": bias,
        "out": out,
        "rows": dispatch.rows,
        "offsets": dispatch.offsets,
        "tile_starts": dispatch.tile_starts,
        **dict(zip(strides, (*a.stride(), *w.stride(), *bias_strides), strict=True)),
        "M": M,
        "D": D,
        "H": H,
        "E": E,
        "gather": gather,
        "activation": activation,
        "precision": precision,
        "tile_rows": dispatch.tile_rows,
        "columns": options.columns,
        "depth": options.depth,
        "group": options.group,
        "splits": options.splits,
        "swapped": options.swapped,
        "described": options.described,
        "described_rows": described_rows,
        "persistent": options.persistent,
        "block_e": next_power_of_2(E),
    }
    units = dispatch.most_tiles * cdiv(H, options.columns) * options.splits
    if options.persistent:
        units = min(units, programs or machine_of(a.device).multiprocessors)
    launch("experts", _grouped_gemm_kernel, (units,), arguments, warps=options.warps, stages=options.stages)
    return out


def new_result(
    a: Tensor, M: int, H: int, activation: Activation | None, options: Product, out_dtype: torch.dtype | None
) -> Tensor:
    """Return memory for the result of a product of `a`: (M, H), or (S, M, H) in fp32 for S = `options.splits` > 1.

    Raises:
        ValueError: An activation is asked of partial sums.
    """
    S = options.splits
    if S == 1:
        return torch.empty((M, H), dtype=out_dtype or a.dtype, device=a.device)
    if activation is not None:
        raise ValueError(f"a product in {S} parts cannot apply {activation}: no part knows the sum")
    return torch.empty((S, M, H), dtype=torch.float32, device=a.device)


@remembered
def _sizes(
    a: Tensor, w: Tensor, bias: Tensor | None, rows: Tensor, experts: int, gather: bool, activation: Activation | None
) -> tuple[int, int, int, int]:
    """Check the arguments and return M, D, E and H."""
    require_device(a=a, w=w, rows=rows, bias=bias)
    require_dtype(*FLOATS, a=a, w=w, bias=bias)
    check_activation(activation)
    return bound(a, w, bias, rows, experts, gather, activation)


def bound(
    a: Tensor,
    w: Tensor | Stored,
    bias: Tensor | None,
    rows: Tensor,
    experts: int,
    gather: bool,
    activation: Activation | None,
) -> tuple[int, int, int, int]:
    """Check the shapes of a product's arguments and return M, D, E and H."""
    width = "2H" if halves(activation) == 2 else "H"
    sizes = bind_shapes(
        rows=(rows, "M"), a=(a, "N D" if gather else "M D"), w=(w, f"E D {width}"), bias=(bias, f"E {width}")
    )
    if sizes["E"] != experts:
        raise ValueError(f"w must have the E = {experts} experts of the dispatch, not {sizes['E']}")
    if sizes[width] % halves(activation):
        raise ValueError(f"w must have 2H columns for {activation}, not {sizes[width]}")
    return sizes["M"], sizes["D"], sizes["E"], sizes[width] // halves(activation)


def grouped_gemm_work(
    problem: Problem,
    which: Which,
    options: Product,
    experts: Histogram,
    *,
    tile_rows: int,
    precision: Precision,
    out_size: int,
) -> LaunchWork:
    """Return the work of `grouped_gemm` as the first or the second product; its values have `out_size` bytes."""
    deep, wide, halves = product_sizes(problem, which)
    dots = column_blocks(problem.activation) if which == "first" else 1
    size, splits = problem.element_size, options.splits
    tiles = tiles_of(experts, tile_rows)
    used = sum(number for _, number in experts)
    blocks, steps = cdiv(wide, options.columns), cdiv(deep, options.depth * splits)
    weights = (deep + 1) * wide * halves * size
    written = splits * problem.M * wide * (4 if splits > 1 else out_size)
    a_rows = min(problem.N, problem.M) if which == "first" else problem.M
    return LaunchWork(
        stage="experts",
        kernel="_grouped_gemm_kernel",
        programs=tiles * blocks * splits,
        flops=2 * tiles * tile_rows * blocks * options.columns * splits * steps * options.depth * halves,
        read=tiles * (blocks * tile_rows * deep * size + weights),
        written=written,
        touched=a_rows * deep * size + used * weights + written,
        unit=unit_of(problem.dtype, precision),
        tile=(options.columns * halves, tile_rows)
        if options.swapped
        else (tile_rows, options.columns * halves // dots),
        dots=1 if options.swapped else dots,
        start=5,
        fillings=cdiv(steps, options.stages),
        warps=options.warps,
        held=tile_rows * options.columns * halves,
        shared=shared_bytes(options, tile_rows, halves, size),
        persistent=options.persistent,
    )


def product_sizes(problem: Problem, which: Which) -> tuple[int, int, int]:
    """Return the depth of a product, its width, and how many columns of weights make one of its values."""
    return (problem.D, problem.H, problem.halves) if which == "first" else (problem.H, problem.C, 1)


def shared_bytes(options: Product, tile_rows: int, halves: int, size: int) -> int:
    """Return the shared bytes of a program's operands."""
    return (tile_rows + options.columns * halves) * options.depth * options.stages * size


def grouped_gemm_reference(
    a: Tensor,
    w: Tensor,
    bias: Tensor | None,
    dispatch: Dispatch,
    *,
    gather: bool,
    activation: Activation | None,
    out_dtype: torch.dtype | None = None,
) -> Tensor:
    """Return the result of `grouped_gemm` in one part, expert by expert, with 0 in slots that no expert owns.

    Sums are fp32, or fp64 for fp64 operands.
    """
    exact = torch.promote_types(a.dtype, torch.float32)
    offsets = dispatch.offsets.tolist()
    H = w.shape[2] // halves(activation)
    out = torch.zeros(dispatch.rows.shape[0], H, dtype=out_dtype or a.dtype, device=a.device)
    for e in range(dispatch.experts):
        slots = slice(offsets[e], offsets[e + 1])
        rows = a[dispatch.rows[slots]] if gather else a[slots]  # (m, D)
        total = rows.to(exact) @ w[e].to(exact)  # (m, H) or (m, 2H)
        if bias is not None:
            total += bias[e].to(exact)
        out[slots] = activate_reference(total, activation).to(out.dtype)
    return out
