"""Grouped GEMM: one product per expert, over the tiles of a dispatch, in one launch.

N rows, M assignments, E experts; D input width and H output width of this product, the first or the second.
"""

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from kernels.activation import Activation, activate, activate_reference, check_activation
from kernels.checks import FLOATS, bind_shapes, require_dtype
from kernels.dispatch import Dispatch
from kernels.launch import launch, require_device
from kernels.options import ProductOptions

BEYOND = tl.constexpr(2**31 - 1)


@triton.jit
def _tile_and_column(H, columns: tl.constexpr, group: tl.constexpr):
    """Return this program's row tile and column block; `group` tiles take all columns, then the next do."""
    blocks = tl.cdiv(H, columns)
    tiles = tl.num_programs(0) // blocks
    width = group * blocks
    first = tl.program_id(0) // width * group
    height = min(tiles - first, group)
    place = tl.program_id(0) % width
    return first + place % height, place // height


@triton.jit
def _grouped_gemm_kernel(
    a,
    w,
    bias,
    out,
    rows,
    offsets,
    tile_starts,
    stride_am,
    stride_ad,
    stride_we,
    stride_wd,
    stride_wh,
    stride_be,
    stride_bh,
    H,
    E,
    D: tl.constexpr,
    gather: tl.constexpr,
    activation: tl.constexpr,
    tile_rows: tl.constexpr,
    columns: tl.constexpr,
    depth: tl.constexpr,
    group: tl.constexpr,
    block_e: tl.constexpr,
):
    tile, column = _tile_and_column(H, columns, group)
    e = tl.arange(0, block_e)
    starts = tl.load(tile_starts + 1 + e, mask=e < E, other=BEYOND)
    expert = tl.sum((starts <= tile).to(tl.int32))  # experts whose tiles all come before
    if expert >= E:
        return

    begin = tl.load(offsets + expert) + (tile - tl.load(tile_starts + expert)) * tile_rows
    slot = begin + tl.arange(0, tile_rows)
    used = slot < tl.load(offsets + expert + 1)
    row = tl.load(rows + slot, mask=used, other=0) if gather else tl.where(used, slot, 0)
    d = tl.arange(0, depth).to(tl.int64)
    h = column * columns + tl.arange(0, columns)
    a += row.to(tl.int64)[:, None] * stride_am + d[None, :] * stride_ad
    w += expert.to(tl.int64) * stride_we + d[:, None] * stride_wd + h.to(tl.int64)[None, :] * stride_wh

    total = tl.zeros((tile_rows, columns), tl.float32)
    for done in range(0, D, depth):
        deep = d < D - done
        a_tile = tl.load(a, mask=deep[None, :], other=0.0)  # (tile_rows, depth)
        w_tile = tl.load(w, mask=deep[:, None] & (h < H)[None, :], other=0.0)  # (depth, columns)
        total = tl.dot(a_tile, w_tile, total, input_precision="ieee")
        a += tl.cast(stride_ad, tl.int64) * depth
        w += tl.cast(stride_wd, tl.int64) * depth

    bias += expert.to(tl.int64) * stride_be + h.to(tl.int64) * stride_bh
    total += tl.load(bias, mask=h < H, other=0.0).to(tl.float32)[None, :]
    out += slot.to(tl.int64)[:, None] * H + h[None, :]
    tl.store(out, activate(total, activation).to(out.dtype.element_ty), mask=used[:, None] & (h < H)[None, :])


def grouped_gemm(
    a: Tensor,
    w: Tensor,
    bias: Tensor,
    dispatch: Dispatch,
    *,
    gather: bool,
    activation: Activation | None,
    options: ProductOptions,
    out_dtype: torch.dtype | None = None,
) -> Tensor:
    """Return activation(a w_e + bias_e) for the rows of each expert e, (M, H) in slot order.

    Args:
        a: With `gather`, rows (N, D) to be read by dispatch.rows; without, (M, D), by slot. Any strides.
        w: (E, D, H), dtype of `a`, any strides.
        bias: (E, H), dtype of `a`, any strides.
        dispatch: Which slots belong to which expert.
        gather: Whether `a` is read by row or by slot.
        activation: Applied to the fp32 sum; None for none.
        options: Tile sizes; the tile rows come from `dispatch`.
        out_dtype: Dtype of the result, by default that of `a`.

    Sums are fp32; fp32 operands are multiplied without rounding to tf32.

    Raises:
        ValueError: An argument has the wrong shape, dtype or device.
    """
    require_device(a=a, w=w, bias=bias, rows=dispatch.rows)
    require_dtype(*FLOATS, a=a, w=w, bias=bias)
    check_activation(activation)
    sizes = bind_shapes(
        rows=(dispatch.rows, "M"), a=(a, "N D" if gather else "M D"), w=(w, "E D H"), bias=(bias, "E H")
    )
    M, D, E, H = (sizes[letter] for letter in "MDEH")
    if dispatch.experts != E:
        raise ValueError(f"w must have the E = {dispatch.experts} experts of the dispatch, not {E}")
    out = torch.empty(M, H, dtype=out_dtype or a.dtype, device=a.device)
    strides = ("stride_am", "stride_ad", "stride_we", "stride_wd", "stride_wh", "stride_be", "stride_bh")
    arguments: dict[str, Any] = {
        "a": a,
        "w": w,
        "bias": bias,
        "out": out,
        "rows": dispatch.rows,
        "offsets": dispatch.offsets,
        "tile_starts": dispatch.tile_starts,
        **dict(zip(strides, (*a.stride(), *w.stride(), *bias.stride()), strict=True)),
        "D": D,
        "H": H,
        "E": E,
        "gather": gather,
        "activation": activation,
        "tile_rows": dispatch.tile_rows,
        "columns": options.columns,
        "depth": options.depth,
        "group": options.group,
        "block_e": triton.next_power_of_2(E),
    }
    grid = (dispatch.most_tiles * triton.cdiv(H, options.columns),)
    launch(_grouped_gemm_kernel, grid, arguments, warps=options.warps, stages=options.stages)
    return out


def grouped_gemm_reference(
    a: Tensor,
    w: Tensor,
    bias: Tensor,
    dispatch: Dispatch,
    *,
    gather: bool,
    activation: Activation | None,
    out_dtype: torch.dtype | None = None,
) -> Tensor:
    """Return what `grouped_gemm` does, expert by expert; sums are fp32, or fp64 for fp64 operands."""
    exact = torch.promote_types(a.dtype, torch.float32)
    offsets = dispatch.offsets.tolist()
    parts = []
    for e in range(dispatch.experts):
        slots = slice(offsets[e], offsets[e + 1])
        rows = a[dispatch.rows[slots]] if gather else a[slots]  # (m, D)
        total = rows.to(exact) @ w[e].to(exact) + bias[e].to(exact)  # (m, H)
        parts.append(activate_reference(total, activation))
    return torch.cat(parts).to(out_dtype or a.dtype)
