"""Fused rows: gate, both products and the weighted sum in one launch, a program for each expert of each row.

With few rows and many experts, little more than the weights in use is read. Each program applies the whole gate
itself, takes the j-th chosen expert in the order of id, and runs it, or a slice of its hidden columns, by multiplying
and adding vectors: a single row gives a tensor core nothing to do.

N rows, D input width, H hidden width of one expert, E experts, k experts per row, C output width.
"""

import triton
import triton.language as tl

from kernels.ops.fused import store_sum
from kernels.ops.ranking import gate_matrix
from kernels.problem.activation import activate, gate_and_up, swiglu


@triton.jit
def _products(x, w, w_is, stride_x_d, stride_w_d, D: tl.constexpr, depth: tl.constexpr):
    """Return the products of one row x and the columns that w (columns,) points to, 0 for columns that do not exist."""
    total = tl.zeros((depth, w.shape[0]), tl.float32)
    for done in range(0, D, depth):
        d = done + tl.arange(0, depth).to(tl.int64)
        x_part = tl.load(x + d * stride_x_d, mask=d < D, other=0.0).to(tl.float32)
        tile = w[None, :] + d[:, None] * stride_w_d
        w_tile = tl.load(tile, mask=(d < D)[:, None] & w_is[None, :], other=0.0)  # (depth, columns)
        total += x_part[:, None] * w_tile.to(tl.float32)
    return tl.sum(total, axis=0)


@triton.jit
def _nth(chosen, e, j):
    """Return the chosen e that has j chosen ones before it."""
    nth = tl.min(tl.where(chosen, e, chosen.shape[1]))
    step = 0
    while step < j:
        nth = tl.min(tl.where(chosen & (e > nth), e, chosen.shape[1]))
        step += 1
    return nth


@triton.jit(do_not_specialize=["N"])
def _fused_rows_kernel(
    x, gate, gate_bias, ids, weights, w1, b1, w2, b2, out, scratch, counters,
    stride_x_n, stride_x_d, stride_gate_e, stride_gate_d, stride_gate_bias_e,
    stride_ids_n, stride_ids_k, stride_weights_n, stride_weights_k,
    stride_w1_e, stride_w1_d, stride_w1_h, stride_b1_e, stride_b1_h,
    stride_w2_e, stride_w2_h, stride_w2_c, stride_b2_e, stride_b2_c,
    temperature, N,
    D: tl.constexpr, H: tl.constexpr, E: tl.constexpr, k: tl.constexpr, C: tl.constexpr,
    standardised: tl.constexpr, over_all: tl.constexpr, activation: tl.constexpr,
    parts: tl.constexpr, slices: tl.constexpr, blocks: tl.constexpr,
    block_e: tl.constexpr, block_h: tl.constexpr, block_c: tl.constexpr, gate_depth: tl.constexpr, depth: tl.constexpr,
):  # fmt: skip
    n = tl.program_id(0).to(tl.int64)
    part = tl.program_id(1)
    c = tl.program_id(2).to(tl.int64) * block_c + tl.arange(0, block_c)
    c_is = c < C
    j = part // slices
    x += n * stride_x_n
    if gate is None:
        expert = tl.load(ids + n * stride_ids_n + j * stride_ids_k).to(tl.int64)
        weight = tl.load(weights + n * stride_weights_n + j * stride_weights_k).to(tl.float32)
    else:
        e = tl.arange(0, block_e)
        e_is = e < E
        gate += e.to(tl.int64) * stride_gate_e
        z = _products(x, gate, e_is, stride_x_d, stride_gate_d, D, gate_depth)  # (block_e,)
        if gate_bias is not None:
            z += tl.load(gate_bias + e * stride_gate_bias_e, mask=e_is, other=0.0).to(tl.float32)
        e_weights, chosen = gate_matrix(
            z[None, :], e, e_is[None, :], E, k, temperature, standardised, over_all
        )  # (1, block_e)
        mine = _nth(chosen, e[None, :], j)
        expert = mine.to(tl.int64)
        weight = tl.sum(tl.where(e[None, :] == mine, e_weights, 0.0))

    used = (expert >= 0) & (expert < E)
    expert = tl.where(used, expert, 0)  # without an expert, read the first and drop it
    total = tl.zeros((block_h, block_c), tl.float32)
    for block in range(blocks):
        h = (part % slices * blocks + block) * block_h + tl.arange(0, block_h).to(tl.int64)
        h_is = h < H
        w2_tile = tl.load(
            w2 + expert * stride_w2_e + h[:, None] * stride_w2_h + c[None, :] * stride_w2_c,
            mask=h_is[:, None] & c_is[None, :],
            other=0.0,
        )  # (block_h, block_c)
        w1_e = w1 + expert * stride_w1_e
        gate_h, up_h = gate_and_up(h, H, activation)
        a = _products(x, w1_e + gate_h * stride_w1_h, h_is, stride_x_d, stride_w1_d, D, depth)  # (block_h,)
        if b1 is not None:
            b1_e = b1 + expert * stride_b1_e
            a += tl.load(b1_e + gate_h * stride_b1_h, mask=h_is, other=0.0).to(tl.float32)
        if activation == "swiglu" or activation == "interleaved_swiglu":
            up = _products(x, w1_e + up_h * stride_w1_h, h_is, stride_x_d, stride_w1_d, D, depth)
            if b1 is not None:
                up += tl.load(b1_e + up_h * stride_b1_h, mask=h_is, other=0.0).to(tl.float32)
            a = swiglu(a, up)
        else:
            a = activate(a, activation)
        a = tl.where(h_is, a, 0.0).to(w2_tile.dtype).to(tl.float32)
        total += a[:, None] * w2_tile.to(tl.float32)
    y = tl.sum(total, axis=0)  # (block_c,)
    if b2 is not None:
        bias = tl.load(b2 + expert * stride_b2_e + c * stride_b2_c, mask=c_is, other=0.0).to(tl.float32)
        y += tl.where(part % slices == 0, bias, 0.0)  # once for all hidden columns

    store_sum(
        out,
        scratch,
        counters + tl.program_id(0) * tl.num_programs(2) + tl.program_id(2) if parts > 1 else None,
        part,
        tl.where(used, weight * y, 0.0),
        n * C + c,
        c_is,
        tl.cast(N, tl.int64) * C,
        parts,
    )
