"""Combine: the weighted sum of each row's k expert outputs, gathered from their slots without atomics.

N rows, k experts per row, C output width, M = N k assignments.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from kernels.checks import FLOATS, bind_shapes, require_dtype
from kernels.launch import launch, require_device


@triton.jit(do_not_specialize=["N"])
def _combine_kernel(
    y,
    weights,
    slots,
    out,
    stride_ym,
    stride_yc,
    N,
    C,
    k: tl.constexpr,
    block_n: tl.constexpr,
    block_c: tl.constexpr,
):
    n = tl.program_id(0).to(tl.int64) * block_n + tl.arange(0, block_n)
    c = tl.program_id(1) * block_c + tl.arange(0, block_c)
    inside = (n < N)[:, None] & (c < C)[None, :]
    total = tl.zeros((block_n, block_c), tl.float32)
    for j in range(k):
        weight = tl.load(weights + n * k + j, mask=n < N, other=0.0)
        slot = tl.load(slots + n * k + j, mask=n < N, other=0).to(tl.int64)
        part = tl.load(y + slot[:, None] * stride_ym + c.to(tl.int64)[None, :] * stride_yc, mask=inside, other=0.0)
        total += weight[:, None] * part.to(tl.float32)
    tl.store(out + n[:, None] * C + c[None, :], total.to(out.dtype.element_ty), mask=inside)


def combine(y: Tensor, weights: Tensor, slots: Tensor, *, out_dtype: torch.dtype | None = None) -> Tensor:
    """Return sum_j weights[n, j] y[slots[n, j]], (N, C).

    Args:
        y: (M, C) outputs in slot order, any strides.
        weights: (N, k) fp32.
        slots: (N, k) int32, each within 0 to M - 1 (not checked: that would wait).
        out_dtype: Dtype of the result, by default that of `y`.

    The sum is fp32, in the order of j.

    Raises:
        ValueError: An argument has the wrong shape, dtype or device.
    """
    require_device(y=y, weights=weights, slots=slots)
    require_dtype(torch.int32, slots=slots)
    require_dtype(torch.float32, weights=weights)
    require_dtype(*FLOATS, y=y)
    N, k, M, C = bind_shapes(slots=(slots, "N k"), weights=(weights, "N k"), y=(y, "M C")).values()
    if N * k != M:
        raise ValueError(f"y must have N k = {N * k} rows, not {M}")
    out = torch.empty(N, C, dtype=out_dtype or y.dtype, device=y.device)
    block_c = min(triton.next_power_of_2(C), 256)
    block_n = max(1, 1024 // block_c)
    launch(
        _combine_kernel,
        (triton.cdiv(N, block_n), triton.cdiv(C, block_c)),
        {
            "y": y,
            "weights": weights.contiguous(),
            "slots": slots.contiguous(),
            "out": out,
            "stride_ym": y.stride(0),
            "stride_yc": y.stride(1),
            "N": N,
            "C": C,
            "k": k,
            "block_n": block_n,
            "block_c": block_c,
        },
    )
    return out


def combine_reference(y: Tensor, weights: Tensor, slots: Tensor, *, out_dtype: torch.dtype | None = None) -> Tensor:
    """Return what `combine` does; the sum is fp32, or fp64 for fp64 outputs."""
    exact = torch.promote_types(y.dtype, torch.float32)
    parts = y[slots].to(exact) * weights[:, :, None].to(exact)  # (N, k, C)
    return parts.sum(dim=1).to(out_dtype or y.dtype)
