"""Fused tiles: gate, both products and the weighted sum for a tile of rows in one launch, without a dispatch.

Each program runs some experts, or a slice of their hidden columns, for all rows of its tile, and drops the outputs that
a row did not choose. It applies the whole gate itself, in the loop that reads x for its first expert.

A tile of few rows can be computed transposed, with rows last: they become the narrow side of a wgmma, whose other side
is padded to 64.

N rows, D input width, H hidden width of one expert, E experts, k experts per row, C output width.
"""

import triton
import triton.language as tl

from kernels.ops.fused import store_sum
from kernels.ops.ranking import gate_matrix
from kernels.problem.activation import activate, gate_and_up, swiglu


@triton.jit
def _product(rows, w, total, rows_axis: tl.constexpr, precision: tl.constexpr):
    """Return total + rows w; `rows` and `total` have their rows along rows_axis."""
    left = rows if rows_axis == 0 else tl.trans(w)
    right = w if rows_axis == 0 else rows
    return tl.dot(left, right, total, input_precision=precision)


@triton.jit
def _expert(
    x, gate, w1, b1, w2, b2, expert, first_h, row_is, c,
    D: tl.constexpr, H: tl.constexpr, E: tl.constexpr, C: tl.constexpr,
    block_e: tl.constexpr, block_h: tl.constexpr, hidden: tl.constexpr, depth: tl.constexpr,
    activation: tl.constexpr, precision: tl.constexpr, rows_axis: tl.constexpr,
):  # fmt: skip
    """Return the scores of all experts, and the share of `hidden` columns from first_h on in this expert's outputs.

    Both are fp32, (block_n, block_e) and (block_n, block_c), or transposed for rows_axis 1; without a gate the scores
    are 0. Each tensor comes with its strides; `x` points to the rows, (block_n, 1).
    """
    x, stride_x_d = x
    gate, stride_gate_e, stride_gate_d = gate
    w1, stride_w1_e, stride_w1_d, stride_w1_h = w1
    b1, stride_b1_e, stride_b1_h = b1
    w2, stride_w2_e, stride_w2_h, stride_w2_c = w2
    b2, stride_b2_e, stride_b2_c = b2
    block_n: tl.constexpr = row_is.shape[0]
    block_c: tl.constexpr = c.shape[0]
    expert = expert.to(tl.int64)
    e = tl.arange(0, block_e).to(tl.int64)
    h = first_h + tl.arange(0, block_h).to(tl.int64)
    h_is = h < min(first_h + hidden, H)
    c_is = c < C
    w2 += expert * stride_w2_e + h[:, None] * stride_w2_h + c[None, :] * stride_w2_c
    w2_tile = tl.load(w2, mask=h_is[:, None] & c_is[None, :], other=0.0)  # (block_h, block_c)

    gate_h, up_h = gate_and_up(h, H, activation)
    gated: tl.constexpr = activation == "swiglu" or activation == "interleaved_swiglu"
    w1 += expert * stride_w1_e
    z = tl.zeros((block_n, block_e) if rows_axis == 0 else (block_e, block_n), tl.float32)
    a = tl.zeros((block_n, block_h) if rows_axis == 0 else (block_h, block_n), tl.float32)
    up = a
    for done in range(0, D, depth):
        d = done + tl.arange(0, depth).to(tl.int64)
        d_is = d < D
        x_tile = tl.load(x + d[None, :] * stride_x_d, mask=row_is[:, None] & d_is[None, :], other=0.0)
        x_tile = x_tile if rows_axis == 0 else tl.trans(x_tile)
        if gate is not None:
            gate_tile = tl.load(
                gate + d[:, None] * stride_gate_d + e[None, :] * stride_gate_e,
                mask=d_is[:, None] & (e < E)[None, :],
                other=0.0,
            )  # (depth, block_e)
            z = _product(x_tile.to(gate_tile.dtype), gate_tile, z, rows_axis, "ieee")
        w1_is = d_is[:, None] & h_is[None, :]
        w1_d = w1 + d[:, None] * stride_w1_d
        w1_tile = tl.load(w1_d + gate_h[None, :] * stride_w1_h, mask=w1_is, other=0.0)  # (depth, block_h)
        a = _product(x_tile, w1_tile, a, rows_axis, precision)
        if gated:
            up_tile = tl.load(w1_d + up_h[None, :] * stride_w1_h, mask=w1_is, other=0.0)
            up = _product(x_tile, up_tile, up, rows_axis, precision)

    if b1 is not None:
        b1 += expert * stride_b1_e
        a += tl.expand_dims(tl.load(b1 + gate_h * stride_b1_h, mask=h_is, other=0.0).to(tl.float32), rows_axis)
        if gated:
            up += tl.expand_dims(tl.load(b1 + up_h * stride_b1_h, mask=h_is, other=0.0).to(tl.float32), rows_axis)
    a = swiglu(a, up) if gated else activate(a, activation)
    a = tl.where(tl.expand_dims(h_is, rows_axis), a, 0.0).to(w2_tile.dtype)
    y = tl.zeros((block_n, block_c) if rows_axis == 0 else (block_c, block_n), tl.float32)
    y = _product(a, w2_tile, y, rows_axis, precision)
    if b2 is not None:
        b2 += expert * stride_b2_e + c * stride_b2_c
        bias = tl.load(b2, mask=c_is, other=0.0).to(tl.float32)
        y += tl.expand_dims(tl.where(first_h == 0, bias, 0.0), rows_axis)  # once for all hidden columns
    return z, y


@triton.jit
def _weighted(y, ids, weights, expert, rows_axis: tl.constexpr):
    """Return y times each row's weight of this expert, and 0 in rows that do not use it, even if y is NaN there."""
    here = ids == expert  # (block_n, width)
    weight = tl.sum(tl.where(here, weights, 0.0), axis=1)
    used = tl.max(here.to(tl.int32), axis=1) > 0
    return tl.where(tl.expand_dims(used, 1 - rows_axis), tl.expand_dims(weight, 1 - rows_axis) * y, 0.0)


@triton.jit(do_not_specialize=["N"])
def _fused_tiles_kernel(
    x, gate, gate_bias, ids, weights, w1, b1, w2, b2, out, scratch, counters,
    stride_x_n, stride_x_d, stride_gate_e, stride_gate_d, stride_gate_bias_e,
    stride_ids_n, stride_ids_k, stride_weights_n, stride_weights_k,
    stride_w1_e, stride_w1_d, stride_w1_h, stride_b1_e, stride_b1_h,
    stride_w2_e, stride_w2_h, stride_w2_c, stride_b2_e, stride_b2_c,
    temperature, N,
    D: tl.constexpr, H: tl.constexpr, E: tl.constexpr, k: tl.constexpr, C: tl.constexpr,
    standardised: tl.constexpr, over_all: tl.constexpr, activation: tl.constexpr, precision: tl.constexpr,
    parts: tl.constexpr, experts: tl.constexpr, slices: tl.constexpr, blocks: tl.constexpr, rows_axis: tl.constexpr,
    block_n: tl.constexpr, block_e: tl.constexpr, block_h: tl.constexpr, block_c: tl.constexpr, block_k: tl.constexpr,
    hidden: tl.constexpr, depth: tl.constexpr,
):  # fmt: skip
    part = tl.program_id(1)
    first_expert = part // slices * experts
    first_block = part % slices * blocks
    n = tl.program_id(0).to(tl.int64) * block_n + tl.arange(0, block_n)
    c = tl.program_id(2).to(tl.int64) * block_c + tl.arange(0, block_c)
    row_is = n < N
    x += n[:, None] * stride_x_n
    if gate is None:
        j = tl.arange(0, block_k)
        listed = row_is[:, None] & (j < k)[None, :]
        ids += n[:, None] * stride_ids_n + j[None, :] * stride_ids_k
        weights += n[:, None] * stride_weights_n + j[None, :] * stride_weights_k
        ids = tl.load(ids, mask=listed, other=-1)  # (block_n, block_k)
        ids = tl.where(ids < E, ids, -1)
        weights = tl.load(weights, mask=listed, other=0.0).to(tl.float32)
        total = tl.zeros((block_n, block_c) if rows_axis == 0 else (block_c, block_n), tl.float32)
    else:
        e = tl.arange(0, block_e)
        e_is = e < E
        z, y = _expert(
            (x, stride_x_d), (gate, stride_gate_e, stride_gate_d),
            (w1, stride_w1_e, stride_w1_d, stride_w1_h), (b1, stride_b1_e, stride_b1_h),
            (w2, stride_w2_e, stride_w2_h, stride_w2_c), (b2, stride_b2_e, stride_b2_c),
            first_expert, first_block * hidden, row_is, c, D, H, E, C,
            block_e, block_h, hidden, depth, activation, precision, rows_axis,
        )  # fmt: skip
        z = z if rows_axis == 0 else tl.trans(z)
        if gate_bias is not None:
            z += tl.load(gate_bias + e * stride_gate_bias_e, mask=e_is, other=0.0).to(tl.float32)[None, :]
        weights, chosen = gate_matrix(z, e, e_is[None, :], E, k, temperature, standardised, over_all)
        ids = tl.where(chosen & row_is[:, None], e[None, :], -1)  # (block_n, block_e)
        total = _weighted(y, ids, weights, first_expert, rows_axis)

    for item in range(0 if gate is None else 1, experts * blocks):
        expert = first_expert + item // blocks
        first_h = (first_block + item % blocks) * hidden
        if (tl.max((ids == expert).to(tl.int32)) > 0) & (first_h < H):
            _, y = _expert(
                (x, stride_x_d), (None, 0, 0),
                (w1, stride_w1_e, stride_w1_d, stride_w1_h), (b1, stride_b1_e, stride_b1_h),
                (w2, stride_w2_e, stride_w2_h, stride_w2_c), (b2, stride_b2_e, stride_b2_c),
                expert, first_h, row_is, c, D, H, E, C,
                block_e, block_h, hidden, depth, activation, precision, rows_axis,
            )  # fmt: skip
            total += _weighted(y, ids, weights, expert, rows_axis)

    store_sum(
        out,
        scratch,
        counters + tl.program_id(0) * tl.num_programs(2) + tl.program_id(2) if parts > 1 else None,
        part,
        total,
        tl.expand_dims(n * C, 1 - rows_axis) + tl.expand_dims(c, rows_axis),
        tl.expand_dims(row_is, 1 - rows_axis) & tl.expand_dims(c < C, rows_axis),
        tl.cast(N, tl.int64) * C,
        parts,
    )
