"""Grouped GEMM with weights stored in 8 or 4 bits: the product of `kernels.ops.grouped_gemm`, with narrower reads.

A product is always transposed: weights, columns x depth, are its left operand. On sm_90 wgmma takes that operand from
registers, so weights go from memory to shared memory as they are stored, become 16 bits wide in the registers that
multiply, and never return to shared memory. An e4m3 value is exact in fp16 and bf16, so its scale multiplies fp32 sums:
after the loop, or for blocks after each step, which lies within one block. The scales of mxfp4 are powers of two, which
multiply the weights: exactly in bf16 and fp32 for scales from 2^-61 to 2^65, and in fp16 as far as its range goes. A
larger scale, like NaN, leaves no finite output.

N rows, M assignments, E experts; D input width and H output width of this product, the first or the second. The result
is `blocks` column blocks wide, and `parts` programs share the depth of a sum.
"""

from dataclasses import replace
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from kernels.cost.machine import machine_of
from kernels.cost.work import Histogram, LaunchWork, tiles_of
from kernels.launch.chain import follow
from kernels.launch.checks import FLOATS, remembered, require_dtype
from kernels.launch.integers import cdiv, next_power_of_2
from kernels.launch.launch import launch, require_device
from kernels.ops.dispatch import Dispatch
from kernels.ops.grouped_gemm import Which, bound, finish, grouped_gemm_work, new_result, product_sizes
from kernels.ops.places import find, place
from kernels.problem.activation import Activation, check_activation
from kernels.problem.options import Precision, Product
from kernels.problem.problem import Problem
from kernels.problem.stored import BLOCK, GROUP, Scheme, Stored, matrix_bytes

CONVERTS = 89
"""The compute capability, times 10, from which a GPU converts e4m3 by itself."""

INSTRUCTIONS = 3.5
"""Instructions of a thread for each weight that it makes an operand, read off the machine code for sm_90."""

STEP = {"fp8": 90, "fp8_channels": 90, "fp8_blocks": 75, "mxfp4": 45}
"""Instructions of a thread for each step beside those, from the same code."""

PASSING = {"fp8": 3.0, "fp8_channels": 3.0, "fp8_blocks": 3.0, "mxfp4": 1.1}
"""Bytes by which a weight keeps the port of the shared memory busy (`kernels.cost.port`)."""

SIDE = tl.constexpr(BLOCK)
SHARING = tl.constexpr(GROUP)

CODES = tl.constexpr(0x81C081C0 - 2**32)
"""The bits of one code of e2m1 in each half of a word: sign and magnitude where bf16 has them."""

SIGNS = tl.constexpr(0x80008000 - 2**32)
"""The sign of each half of a word."""

MULTIPLY = tl.constexpr("fma.rn.bf16x2 $0, $1, $2, $3;")
"""One instruction for two products, with -0 as the third operand; LLVM would shuffle the halves of words first."""

LIFT = tl.constexpr(2.0**64)
"""What mxfp4 weights are too small by: so one multiplication by their scale makes the bits of e2m1 weights."""


@triton.jit
def e4m3(values, dtype: tl.constexpr) -> tl.tensor:
    """Return values of e4m3, or their bits as uint8, in `dtype`."""
    if values.dtype == tl.uint8:
        bits = values.to(tl.int8, bitcast=True).to(tl.int16)
        halves = ((bits << 7) & -16512).to(tl.float16, bitcast=True) * 256.0  # 0xBF80: the exponent's bias is 8 less
        values = tl.where((bits & 127) == 127, float("nan"), halves)
    else:
        values = values.to(tl.float16)
    return values.to(tl.float32).to(dtype)  # by way of fp32, since no instruction makes bf16 of fp16


@triton.jit
def mxfp4(words, scales, dtype: tl.constexpr, columns: tl.constexpr, depth: tl.constexpr) -> tl.tensor:
    """Return the weights of words (columns, depth / 8) and scales (columns, depth / 32), 2^64 times too small.

    Masks make pairs of bf16 that are 2^126 times too small, because then their bits are those of e2m1. Powers are
    2^(scale - 127 + 62), or inf and NaN for scales from 193 on. In fp16, which has no such range, weights keep their
    size.
    """
    first = words & CODES
    second = (words << 3) & CODES
    third = (words << 6) & CODES
    fourth = ((words << 1) & SIGNS) | ((words >> 3) & 0x01800180) | ((words >> 7) & 0x00400040)
    pairs = tl.join(tl.join(first, third), tl.join(second, fourth))  # (columns, depth / 8, 2, 2)
    pairs = pairs.reshape(columns, depth // 32, 4, 4).permute(0, 1, 3, 2)  # (columns, depth / 32, p, t)
    powers = tl.minimum((scales.to(tl.int32) + 62) * 128, 0x7FC0) * 65537  # pairs of bf16
    pairs, powers = tl.broadcast(pairs, powers[:, :, None, None])
    if dtype == tl.bfloat16:
        pairs = tl.inline_asm_elementwise(MULTIPLY, "=r,r,r,r", [pairs, powers, SIGNS], tl.int32, is_pure=True, pack=1)
        values = tl.join(pairs.to(tl.int16), (pairs >> 16).to(tl.int16)).to(tl.bfloat16, bitcast=True)
    else:
        power = (powers & -65536).to(tl.float32, bitcast=True)
        lower = (pairs << 16).to(tl.float32, bitcast=True) * power
        upper = (pairs & -65536).to(tl.float32, bitcast=True) * power
        values = tl.join(lower, upper)  # (columns, depth / 32, p, t, h)
        if dtype == tl.float16:
            values = (values * LIFT).to(tl.float16)
    return values.reshape(columns, depth)


@triton.jit(do_not_specialize=["M"])
def _stored_gemm_kernel(
    a, w, scales, bias, out, rows, offsets, tile_starts,
    stride_am, stride_ad, stride_we, stride_wd, stride_wh, stride_se, stride_sd, stride_sh, stride_be, stride_bh,
    M, H, E,
    D: tl.constexpr, gather: tl.constexpr, activation: tl.constexpr, precision: tl.constexpr, scheme: tl.constexpr,
    tile_rows: tl.constexpr, columns: tl.constexpr, depth: tl.constexpr, group: tl.constexpr, splits: tl.constexpr,
    block_e: tl.constexpr, chained: tl.constexpr,
):  # fmt: skip
    follow(chained)
    steps: tl.constexpr = (D + depth * splits - 1) // (depth * splits)
    ragged: tl.constexpr = D % (depth * splits) > 0
    halves: tl.constexpr = 2 if activation == "swiglu" else 1  # products of a tile
    pairs: tl.constexpr = 2 if activation == "interleaved_swiglu" else 1  # columns of a product for one of the result
    wide: tl.constexpr = columns * pairs
    packed: tl.constexpr = 8 if scheme == "mxfp4" else 1  # weights of one value along the depth
    dtype: tl.constexpr = a.dtype.element_ty
    blocks = tl.cdiv(H, columns)
    tiles = tl.load(tile_starts + E)
    if tl.program_id(0) >= tiles * blocks * splits:
        return

    part, tile, block = place(tl.program_id(0), tiles, blocks, group)
    expert, begin, end = find(tl.arange(0, block_e), tile, offsets, tile_starts, E, tile_rows)
    slot = begin + tl.arange(0, tile_rows)
    start = part * steps * depth
    d = start + tl.arange(0, depth)
    word = start // packed + tl.arange(0, depth // packed)
    column = block * wide + tl.arange(0, wide)
    inside = column < H * pairs
    row = tl.load(rows + slot, mask=slot < end, other=0) if gather else tl.where(slot < end, slot, 0)
    a_at = a + row.to(tl.int64)[:, None] * stride_am + d.to(tl.int64)[None, :] * stride_ad
    w_at = w + expert.to(tl.int64) * stride_we
    w_at += column.to(tl.int64)[:, None] * stride_wh + word.to(tl.int64)[None, :] * stride_wd
    scales_at = scales + expert.to(tl.int64) * stride_se

    total = tl.zeros((wide, tile_rows), tl.float32)
    up = tl.zeros((wide, tile_rows), tl.float32)
    for step in range(steps):
        done = start + step * depth
        deep = d < D - step * depth if ragged else tl.full((depth,), True, tl.int1)
        stored = word < D // packed - step * (depth // packed) if ragged else tl.full((depth // packed,), True, tl.int1)
        a_tile = tl.trans(tl.load(a_at, mask=deep[None, :], other=0.0))
        for half in tl.static_range(halves):
            across = tl.cast(half * H, tl.int64)  # from gate to up
            values = tl.load(w_at + across * stride_wh, mask=inside[:, None] & stored[None, :], other=0.0)
            if scheme == "mxfp4":
                sharing = done // SHARING + tl.arange(0, depth // SHARING)
                scale_at = (column + across)[:, None] * stride_sh + sharing.to(tl.int64)[None, :] * stride_sd
                known = inside[:, None] & (sharing < D // SHARING)[None, :]
                shared = tl.load(scales_at + scale_at, mask=known, other=127)
                w_tile = mxfp4(values, shared, dtype, wide, depth)
            else:
                w_tile = e4m3(values, dtype)
            if scheme == "fp8_blocks":
                scale_at = (column + across) // SIDE * stride_sh + tl.cast(done // SIDE, tl.int64) * stride_sd
                known = column < tl.where(done < D, H * pairs, 0)
                scale = tl.load(scales_at + scale_at, mask=known, other=0.0)[:, None]
                if half == 0:
                    total += tl.dot(w_tile, a_tile, input_precision=precision) * scale
                else:
                    up += tl.dot(w_tile, a_tile, input_precision=precision) * scale
            elif half == 0:
                total = tl.dot(w_tile, a_tile, total, input_precision=precision)
            else:
                up = tl.dot(w_tile, a_tile, up, input_precision=precision)
        a_at += tl.cast(stride_ad, tl.int64) * depth
        w_at += tl.cast(stride_wd, tl.int64) * (depth // packed)

    if scheme == "fp8" or scheme == "fp8_channels":
        scale_at = scales_at + column.to(tl.int64) * stride_sh
        total *= tl.load(scale_at, mask=inside, other=0.0)[:, None]
        if halves == 2:
            up *= tl.load(scale_at + tl.cast(H, tl.int64) * stride_sh, mask=inside, other=0.0)[:, None]
    if scheme == "mxfp4" and dtype != tl.float16:
        total *= LIFT
        up *= LIFT
    bias_at = bias + expert.to(tl.int64) * stride_be if bias is not None else None
    finish(total, up, bias_at, stride_bh, out, part, slot, end, block, M, H, activation, columns, True)


def stored_gemm(
    a: Tensor,
    w: Stored,
    bias: Tensor | None,
    dispatch: Dispatch,
    *,
    gather: bool,
    activation: Activation | None,
    options: Product,
    precision: Precision = "ieee",
    out_dtype: torch.dtype | None = None,
) -> Tensor:
    """Return activation(a w_e + bias_e) for the rows of each expert e, as `kernels.ops.grouped_gemm.grouped_gemm` does.

    Only `w` and `options` differ: w (E, D, H), or (E, D, 2H) for both kinds of swiglu, is stored, and the options are
    `swapped`, and neither `described` nor `persistent`.

    Raises:
        ValueError: An argument has the wrong shape, dtype or device, or `options` do not suit stored weights.
    """
    M, D, E, H = _sizes(a, w, bias, dispatch.rows, dispatch.experts, gather, activation)
    _require_options(options)
    out = new_result(a, M, H, activation, options, out_dtype)
    if M == 0:
        return out
    integers = w.values.dtype == torch.int32 or machine_of(a.device).capability >= CONVERTS
    values = w.values if integers else w.values.view(torch.uint8)
    strides = ("stride_am", "stride_ad", "stride_we", "stride_wd", "stride_wh")
    stride_se, *inner = w.scales.stride()
    arguments: dict[str, Any] = {
        "a": a,
        "w": values,
        "scales": w.scales,
        "bias": bias,
        "out": out,
        "rows": dispatch.rows,
        "offsets": dispatch.offsets,
        "tile_starts": dispatch.tile_starts,
        **dict(zip(strides, (*a.stride(), *values.stride()), strict=True)),
        "stride_se": stride_se,
        **dict(zip(("stride_sd", "stride_sh"), (0, 0, *inner)[-2:], strict=True)),
        **dict(zip(("stride_be", "stride_bh"), (0, 0) if bias is None else bias.stride(), strict=True)),
        "M": M,
        "D": D,
        "H": H,
        "E": E,
        "gather": gather,
        "activation": activation,
        "precision": precision,
        "scheme": w.scheme,
        "tile_rows": dispatch.tile_rows,
        "columns": options.columns,
        "depth": options.depth,
        "group": options.group,
        "splits": options.splits,
        "block_e": next_power_of_2(E),
    }
    units = dispatch.most_tiles * cdiv(H, options.columns) * options.splits
    launch("experts", _stored_gemm_kernel, (units,), arguments, warps=options.warps, stages=options.stages)
    return out


def _require_options(options: Product) -> None:
    """Raise ValueError unless `options` suit a product with stored weights."""
    if not options.swapped or options.described or options.persistent:
        raise ValueError("a product with stored weights is swapped, and neither described nor persistent")
    if not GROUP <= options.depth <= BLOCK:
        raise ValueError(f"a product with stored weights reads {GROUP} to {BLOCK} deep, not {options.depth}")


@remembered
def _sizes(
    a: Tensor, w: Stored, bias: Tensor | None, rows: Tensor, experts: int, gather: bool, activation: Activation | None
) -> tuple[int, int, int, int]:
    """Check the arguments and return M, D, E and H."""
    require_device(a=a, w=w.values, scales=w.scales, rows=rows, bias=bias)
    require_dtype(*FLOATS, a=a, bias=bias)
    check_activation(activation)
    w.check("w")
    return bound(a, w, bias, rows, experts, gather, activation)


def stored_gemm_work(
    problem: Problem,
    which: Which,
    options: Product,
    experts: Histogram,
    *,
    tile_rows: int,
    precision: Precision,
    out_size: int,
) -> LaunchWork:
    """Return the work of `stored_gemm` as the first or the second product; its values have `out_size` bytes."""
    scheme = problem.stored[which == "second"]
    assert scheme is not None
    deep, wide, halves = product_sizes(problem, which)
    full = grouped_gemm_work(
        problem, which, options, experts, tile_rows=tile_rows, precision=precision, out_size=out_size
    )
    weights, columns = deep * wide * halves * problem.element_size, wide * halves
    tiles = tiles_of(experts, tile_rows)
    used = sum(number for _, number in experts)
    steps = full.programs * cdiv(deep, options.depth * options.splits)
    threads = 32 * options.warps
    reads = cdiv(deep, options.depth) if scheme == "fp8_blocks" else options.splits  # of the scale of a column
    asked = matrix_bytes(scheme, deep, columns, 1) if scheme == "mxfp4" else columns * (deep + 4 * reads)
    return replace(
        full,
        kernel="_stored_gemm_kernel",
        read=full.read + tiles * (asked - weights),
        touched=full.touched + used * (matrix_bytes(scheme, deep, columns, 1) - weights),
        shared=stored_bytes(options, tile_rows, halves, problem.element_size, scheme),
        unpacked=round(steps * (INSTRUCTIONS * options.columns * halves * options.depth + STEP[scheme] * threads)),
        passing=PASSING[scheme],
    )


def stored_bytes(options: Product, tile_rows: int, halves: int, size: int, scheme: Scheme) -> int:
    """Return the shared bytes of a program's operands."""
    columns = options.columns * halves
    values = matrix_bytes(scheme, options.depth, columns, 1) if scheme == "mxfp4" else options.depth * columns
    return (tile_rows * options.depth * size + values) * options.stages
