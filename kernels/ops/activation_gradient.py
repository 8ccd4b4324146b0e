"""The gradient between the two products: through the weights of the assignments and the activation, in one launch.

N rows, M assignments, E experts, H hidden width of one expert, C output width.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from kernels.launch.checks import FLOATS, bind_shapes, remembered, require_dtype
from kernels.launch.integers import cdiv, next_power_of_2
from kernels.launch.launch import launch, require_device
from kernels.ops.dispatch import Dispatch
from kernels.problem.activation import (
    Activation,
    activate,
    activate_reference,
    check_activation,
    gate_and_up,
    halves,
)

TILE = 2048
"""Hidden values that a program reads at once."""


@triton.jit
def derivative(x, name: tl.constexpr) -> tl.tensor:
    """Return the derivative of activation `name` at an fp32 tile; NaN stays NaN, and relu has 0 at 0."""
    if name == "relu":
        return tl.where(x <= 0.0, 0.0, tl.where(x > 0.0, 1.0, x))
    if name == "gelu":
        density = 0.3989422804014327 * tl.exp(-0.5 * x * x)
        return 0.5 * (1.0 + tl.erf(x * 0.7071067811865476)) + x * density
    sigmoid = 1.0 / (1.0 + tl.exp(-x))
    return sigmoid * (1.0 + x * (1.0 - sigmoid))


@triton.jit(do_not_specialize=["M"])
def _activation_gradient_kernel(
    z, grad, weights, slots, ids, rows, bias, dout, dweights, slot_weights,
    stride_bias_e, stride_bias_c, stride_dout_n, stride_dout_c,
    M, H, C,
    activation: tl.constexpr, halves: tl.constexpr, block_m: tl.constexpr, block_h: tl.constexpr,
):  # fmt: skip
    m = tl.program_id(0).to(tl.int64) * block_m + tl.arange(0, block_m)
    slot = tl.load(slots + m, mask=m < M, other=-1).to(tl.int64)
    there = slot >= 0
    weight = tl.load(weights + m, mask=there, other=0.0).to(tl.float32)
    total = tl.zeros((block_m, block_h), tl.float32)
    for first in range(0, H, block_h):
        h = first + tl.arange(0, block_h)
        inside = there[:, None] & (h < H)[None, :]
        gate_h, up_h = gate_and_up(h, H, activation)
        z_at = z + slot[:, None] * (halves * H) + gate_h[None, :]
        up_at = z + slot[:, None] * (halves * H) + up_h[None, :]
        grad_at = grad + slot[:, None] * H + h[None, :]
        x = tl.load(z_at, mask=inside, other=0.0).to(tl.float32)
        gradient = tl.load(grad_at, mask=inside, other=0.0).to(tl.float32)
        if halves == 2:
            up = tl.load(up_at, mask=inside, other=0.0).to(tl.float32)
            gate = activate(x, "silu")
            hidden = gate * up
            dup = weight[:, None] * gradient * gate
            tl.store(up_at, dup.to(z.dtype.element_ty), mask=inside)
            dz = weight[:, None] * gradient * up * derivative(x, "silu")
        else:
            hidden = activate(x, activation)
            dz = weight[:, None] * gradient * derivative(x, activation)
        total += gradient * hidden
        tl.store(z_at, dz.to(z.dtype.element_ty), mask=inside)
        tl.store(grad_at, (weight[:, None] * hidden).to(grad.dtype.element_ty), mask=inside)
    if bias is not None:
        expert = tl.load(ids + m, mask=there, other=0).to(tl.int64)
        row = tl.load(rows + slot, mask=there, other=0).to(tl.int64)
        for first in range(0, C, block_h):
            c = first + tl.arange(0, block_h)
            inside = there[:, None] & (c < C)[None, :]
            bias_at = bias + expert[:, None] * stride_bias_e + c.to(tl.int64)[None, :] * stride_bias_c
            dout_at = dout + row[:, None] * stride_dout_n + c.to(tl.int64)[None, :] * stride_dout_c
            offset = tl.load(bias_at, mask=inside, other=0.0).to(tl.float32)
            total += offset * tl.load(dout_at, mask=inside, other=0.0).to(tl.float32)
    tl.store(dweights + m, tl.sum(total, axis=1), mask=m < M)
    tl.store(slot_weights + slot, weight, mask=there)


def activation_gradient(
    z: Tensor,
    grad: Tensor,
    weights: Tensor,
    ids: Tensor,
    dispatch: Dispatch,
    bias: Tensor | None,
    dout: Tensor,
    activation: Activation,
) -> tuple[Tensor, Tensor]:
    """Replace `z` by its gradient and `grad` by the weighted hidden values; return gradients and order of the weights.

    With h = activation(z) of a slot s and the weight g of its assignment, z[s] becomes g grad[s] activation'(z[s]),
    and grad[s] becomes g h[s], from which follow the gradients of the first and of the second product's weights. The
    gradient of g is h[s] grad[s] + bias[e] dout[row]. Slots that no expert owns are left alone.

    Args:
        z: Values before the activation by slot, (M, H), or (M, 2H) for both kinds of swiglu; contiguous.
        grad: dout w2_e^T by slot, (M, H), dtype of `z`, contiguous.
        weights: (M,), any floating dtype.
        ids: Expert of each assignment, (M,) int32 or int64.
        dispatch: The slots of the assignments.
        bias: Bias of the second product, (E, C), or None.
        dout: Gradient of the outputs, (N, C); both of the dtype of `z`, with any strides.
        activation: Applied to `z`.

    Returns:
        The gradients of the weights, (M,) fp32, 0 for an assignment without an expert; and the weights by slot, (M,)
        fp32. Sums are fp32.

    Raises:
        ValueError: An argument has the wrong shape, dtype or device.
    """
    M, H, C = _sizes(z, grad, weights, ids, dispatch, bias, dout, activation)
    dweights, slot_weights = (torch.empty(M, dtype=torch.float32, device=z.device) for _ in range(2))
    if M == 0:
        return dweights, slot_weights
    block_h = min(next_power_of_2(H), 256)
    block_m = min(TILE // block_h, 128)
    bias_strides = (0, 0) if bias is None else bias.stride()
    strides = ("stride_bias_e", "stride_bias_c", "stride_dout_n", "stride_dout_c")
    launch(
        "experts",
        _activation_gradient_kernel,
        (cdiv(M, block_m),),
        {
            "z": z,
            "grad": grad,
            "weights": weights.contiguous(),
            "slots": dispatch.slots,
            "ids": ids.contiguous(),
            "rows": dispatch.rows,
            "bias": bias,
            "dout": dout,
            "dweights": dweights,
            "slot_weights": slot_weights,
            **dict(zip(strides, (*bias_strides, *dout.stride()), strict=True)),
            "M": M,
            "H": H,
            "C": C,
            "activation": activation,
            "halves": halves(activation),
            "block_m": block_m,
            "block_h": block_h,
        },
    )
    return dweights, slot_weights


@remembered
def _sizes(
    z: Tensor,
    grad: Tensor,
    weights: Tensor,
    ids: Tensor,
    dispatch: Dispatch,
    bias: Tensor | None,
    dout: Tensor,
    activation: Activation,
) -> tuple[int, int, int]:
    """Check the arguments and return M, H and C."""
    check_activation(activation)
    require_device(z=z, grad=grad, weights=weights, ids=ids, bias=bias, dout=dout)
    require_dtype(*FLOATS, z=z, grad=grad, bias=bias, dout=dout)
    require_dtype(torch.float64, *FLOATS, weights=weights)
    require_dtype(torch.int32, torch.int64, ids=ids)
    wide = "H" if halves(activation) == 1 else "2H"
    sizes = bind_shapes(
        slots=(dispatch.slots, "M"),
        weights=(weights, "M"),
        ids=(ids, "M"),
        grad=(grad, "M H"),
        z=(z, f"M {wide}"),
        dout=(dout, "N C"),
        bias=(bias, "E C"),
    )
    if not (z.is_contiguous() and grad.is_contiguous()):
        raise ValueError("z and grad must be contiguous: they are written")
    return sizes["M"], sizes["H"], sizes["C"]


def activation_gradient_reference(
    z: Tensor,
    grad: Tensor,
    weights: Tensor,
    ids: Tensor,
    dispatch: Dispatch,
    bias: Tensor | None,
    dout: Tensor,
    activation: Activation,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return what `activation_gradient` makes of z and grad, then its results; slots without an expert keep theirs.

    It differentiates the activation by torch; sums are fp32, or fp64 for fp64 values.
    """
    exact = torch.promote_types(z.dtype, torch.float32)
    m = (dispatch.slots >= 0).nonzero().flatten()  # assignments that have an expert
    slot = dispatch.slots[m].long()
    g = weights[m, None].to(exact)
    upstream = grad[slot].to(exact)
    with torch.enable_grad():
        x = z[slot].to(exact).requires_grad_()
        h = activate_reference(x, activation)
        (dz,) = torch.autograd.grad(h, x, g * upstream)
    h = h.detach()
    dweights, slot_weights = (torch.zeros(len(weights), dtype=exact, device=z.device) for _ in range(2))
    dweights[m] = (h * upstream).sum(dim=1)
    if bias is not None:
        dweights[m] += (bias[ids[m].long()].to(exact) * dout[dispatch.rows[slot].long()].to(exact)).sum(dim=1)
    slot_weights[slot] = weights[m].to(exact)
    return (
        z.index_copy(0, slot, dz.to(z.dtype)),
        grad.index_copy(0, slot, (g * h).to(grad.dtype)),
        dweights,
        slot_weights,
    )
