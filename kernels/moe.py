"""The operation of this room: a mixture of experts, from features and a routing to outputs.

N rows, D input width, H hidden width of one expert, E experts, C output width.
"""

import torch
from torch import Tensor

from kernels.call.backward import call_with_gradients, needs_gradient
from kernels.call.operator import call
from kernels.ops.combine import combine_reference, row_order
from kernels.ops.dispatch import dispatch_reference
from kernels.ops.grouped_gemm import grouped_gemm_reference
from kernels.ops.router import route_reference
from kernels.paths.options import Options
from kernels.problem.experts import Experts
from kernels.problem.options import Precision
from kernels.problem.routes import Flat, Gate, RoutingSource, TopK


def moe(
    x: Tensor,
    routing: RoutingSource,
    experts: Experts,
    *,
    precision: Precision = "ieee",
    options: Options | None = None,
) -> Tensor:
    """Return, for each row, the weighted sum of its experts' outputs: (N, C) in the dtype of `x`.

    Args:
        x: (N, D) fp32, fp16 or bf16; N may be 0. All tensors may have any strides.
        routing: A `Gate` to apply, ids and weights of `TopK` experts per row, or a `Flat` list of assignments.
        experts: Weights and activation of the experts, in the dtype of `x`, or weights `Stored` in 8 or 4 bits.
        precision: How fp32 operands are multiplied: "ieee", or rounded to "tf32". If set, `options` decide.
        options: Path and tiles; by default those tuned for the device, or else the cost model's (`kernels.choice`).

    Sums are fp32. Autocast casts nothing here, so `x` and the weights must share a dtype under it too. The call never
    waits for the device, so a CUDA graph of it may be replayed with other values and other routing, and repeated runs
    agree to the bit. It is the torch operator `moegap::moe`, so it works in torch.compile(fullgraph=True), and torch's
    flop counter knows it.

    Every floating tensor has a gradient; that of a gate goes through the weights of the experts that it chose. If one
    is needed, the gate has a launch to itself, on any path, and autograd keeps the arguments alone: the backward pass
    (`kernels.paths.backward`) sorts rows and computes hidden values again. There is no second gradient, and none with
    stored weights.

    Raises:
        ValueError: An argument has the wrong shape, dtype, range or device.
    """
    run = call_with_gradients if needs_gradient(x, routing, experts) else call
    return run(x, routing, experts, precision, options)


def moe_reference(x: Tensor, routing: RoutingSource, experts: Experts) -> Tensor:
    """Return the result of `moe` by the references of its steps, on any device; fp64 operands stay fp64."""
    rows, ids, weights = _assignments(x, routing)  # (M,) each
    w1, b1, w2, b2, *_ = experts.dequantised().parts()
    N, exact = x.shape[0], torch.promote_types(x.dtype, torch.float32)
    by_expert = dispatch_reference(ids, w1.shape[0], tile_rows=1, rows=rows)
    hidden = grouped_gemm_reference(x, w1, b1, by_expert, gather=True, activation=experts.activation)  # (M, H)
    y = grouped_gemm_reference(hidden, w2, b2, by_expert, gather=False, activation=None, out_dtype=exact)  # (M, C)
    starts, order = row_order(rows, N, ordered=False)
    return combine_reference(y, weights, by_expert.slots, rows=N, starts=starts, order=order, out_dtype=x.dtype)


def storage_error(x: Tensor, routing: RoutingSource, stored: Experts, full: Experts) -> float:
    """Return what it costs to store weights in 8 or 4 bits: the norm of the error of the outputs over that of outputs.

    Both outputs (N, C) come from `moe_reference`, with fp32 sums, so the number says nothing about kernels.
    """
    got, exact = (moe_reference(x, routing, experts).double() for experts in (stored, full))
    return float((got - exact).norm() / exact.norm())


def _assignments(x: Tensor, routing: RoutingSource) -> tuple[Tensor, Tensor, Tensor]:
    """Return rows, experts and weights, (M,) each."""
    if isinstance(routing, Flat):
        return routing.rows.long(), routing.experts, routing.weights
    if isinstance(routing, Gate):
        routing = TopK(*route_reference(x, routing))
    assert isinstance(routing, TopK)
    rows = torch.arange(x.shape[0], device=x.device).repeat_interleave(routing.k)
    return rows, routing.ids.flatten(), routing.weights.flatten()
