"""The gradient of a bias: the weighted sum of the rows of each expert, in one launch.

N rows, M assignments, E experts, H width of the bias, S parts whose sum is a gradient.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from kernels.launch.checks import FLOATS, bind_shapes, remembered, require_dtype
from kernels.launch.integers import cdiv, next_power_of_2
from kernels.launch.launch import launch, require_device
from kernels.ops.dispatch import Dispatch
from kernels.ops.weight_gradient import part_of

TILE = 2048
"""Values that a program reads at once."""

PART = 2048
"""Slots of an even share of an expert from which programs share its sum."""


@triton.jit
def _bias_gradient_kernel(
    b, weights, out, rows, offsets,
    stride_bm, stride_bh,
    H, E,
    gather: tl.constexpr, parts: tl.constexpr, block_m: tl.constexpr, block_h: tl.constexpr,
):  # fmt: skip
    unit = tl.program_id(0)
    begin, end = part_of(offsets, unit % E, unit // E, parts, block_m)
    h = tl.program_id(1) * block_h + tl.arange(0, block_h)
    b += h.to(tl.int64)[None, :] * stride_bh
    total = tl.zeros((block_m, block_h), tl.float32)
    for first in range(begin, end, block_m):
        slot = first + tl.arange(0, block_m)
        used = slot < end
        row = tl.load(rows + slot, mask=used, other=0) if gather else slot
        inside = used[:, None] & (h < H)[None, :]
        value = tl.load(b + row.to(tl.int64)[:, None] * stride_bm, mask=inside, other=0.0).to(tl.float32)
        if weights is not None:
            value *= tl.load(weights + slot, mask=used, other=0.0)[:, None]
        total += value
    tl.store(out + unit.to(tl.int64) * H + h, tl.sum(total, axis=0).to(out.dtype.element_ty), mask=h < H)


def bias_gradient(b: Tensor, dispatch: Dispatch, *, weights: Tensor | None = None, gather: bool = False) -> Tensor:
    """Return the sum of weights[s] b[s] over the slots s of each expert, (E, H) in the dtype of `b`.

    Args:
        b: With `gather`, rows (N, H) that dispatch.rows indexes; without, (M, H) in slot order. Any strides.
        dispatch: Which slots belong to which expert.
        weights: (M,) fp32, contiguous, in slot order; None for 1.
        gather: Whether `b` is read by row or by slot.

    Sums are fp32, in an order that depends only on the sizes of the call and on the slots of the expert.

    Raises:
        ValueError: An argument has the wrong shape, dtype or device.
    """
    M, H = _sizes(b, dispatch.rows, weights, gather)
    E = dispatch.experts
    if M == 0:
        return b.new_zeros(E, H)
    block_h = min(next_power_of_2(H), 128)
    parts = min(cdiv(M, E * PART), 64)
    out = torch.empty(parts, E, H, dtype=b.dtype if parts == 1 else torch.float32, device=b.device)
    launch(
        "experts",
        _bias_gradient_kernel,
        (parts * E, cdiv(H, block_h)),
        {
            "b": b,
            "weights": weights,
            "out": out,
            "rows": dispatch.rows,
            "offsets": dispatch.offsets,
            "stride_bm": b.stride(0),
            "stride_bh": b.stride(1),
            "H": H,
            "E": E,
            "gather": gather,
            "parts": parts,
            "block_m": min(TILE // block_h, 128),
            "block_h": block_h,
        },
    )
    return out[0] if parts == 1 else out.sum(dim=0).to(b.dtype)


@remembered
def _sizes(b: Tensor, rows: Tensor, weights: Tensor | None, gather: bool) -> tuple[int, int]:
    """Check the arguments and return M and H."""
    require_device(b=b, rows=rows, weights=weights)
    require_dtype(*FLOATS, b=b)
    sizes = bind_shapes(rows=(rows, "M"), b=(b, "N H" if gather else "M H"), weights=(weights, "M"))
    return sizes["M"], sizes["H"]


def bias_gradient_reference(
    b: Tensor, dispatch: Dispatch, *, weights: Tensor | None = None, gather: bool = False
) -> Tensor:
    """Return the result of `bias_gradient`, expert by expert; sums are fp32, or fp64 for fp64 gradients."""
    exact = torch.promote_types(b.dtype, torch.float32)
    offsets = dispatch.offsets.tolist()
    out = torch.zeros(dispatch.experts, b.shape[1], dtype=b.dtype, device=b.device)
    for e in range(dispatch.experts):
        slots = slice(offsets[e], offsets[e + 1])
        values = (b[dispatch.rows[slots]] if gather else b[slots]).to(exact)  # (m, H)
        out[e] = (values if weights is None else values * weights[slots, None].to(exact)).sum(dim=0).to(b.dtype)
    return out
