"""The operation of this room: a mixture of experts, from features and a routing to outputs.

N rows, D input width, H hidden width of one expert, E experts, C output width.
"""

import torch
from torch import Tensor

from kernels.call.operator import call
from kernels.ops.router import route_reference
from kernels.paths.options import Options
from kernels.problem.activation import activate_reference
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
        experts: Weights and activation of the experts, in the dtype of `x`.
        precision: How fp32 operands are multiplied: "ieee", or rounded to "tf32". If set, `options` decide.
        options: Path and tiles; by default those tuned for the device, or else the cost model's (`kernels.choice`).

    Sums are fp32. For inference only. Autocast casts nothing here, so `x` and the weights must share a dtype under it
    too. The call never waits for the device, so a CUDA graph of it may be replayed with other values and other routing,
    and repeated runs agree to the bit. It is the torch operator `moegap::moe`, so it works in
    torch.compile(fullgraph=True), and torch's flop counter knows it.

    Raises:
        ValueError: An argument has the wrong shape, dtype, range or device, or needs a gradient.
    """
    if torch.is_grad_enabled():
        _require_no_gradient({"x": x, **routing.tensors(), **experts.tensors()})
    return call(x, routing, experts, precision, options)


def moe_reference(x: Tensor, routing: RoutingSource, experts: Experts) -> Tensor:
    """Return the result of `moe`, expert by expert in plain PyTorch on any device; fp64 operands stay fp64."""
    rows, ids, weights = _assignments(x, routing)  # (M,) each
    w1, b1, w2, b2 = experts.w1, experts.b1, experts.w2, experts.b2
    exact = torch.promote_types(x.dtype, torch.float32)
    out = torch.zeros(x.shape[0], w2.shape[2], dtype=exact, device=x.device)
    for e in range(w1.shape[0]):
        (chosen,) = torch.where(ids == e)
        mine = rows[chosen]  # (m,)
        h = activate_reference(_linear(x[mine], w1[e], None if b1 is None else b1[e]), experts.activation)  # (m, H)
        y = _linear(h.to(x.dtype), w2[e], None if b2 is None else b2[e])  # (m, C)
        out.index_add_(0, mine, y * weights[chosen, None].to(exact))
    return out.to(x.dtype)


def _assignments(x: Tensor, routing: RoutingSource) -> tuple[Tensor, Tensor, Tensor]:
    """Return rows, experts and weights, (M,) each."""
    if isinstance(routing, Flat):
        return routing.rows.long(), routing.experts, routing.weights
    if isinstance(routing, Gate):
        routing = TopK(*route_reference(x, routing))
    assert isinstance(routing, TopK)
    rows = torch.arange(x.shape[0], device=x.device).repeat_interleave(routing.k)
    return rows, routing.ids.flatten(), routing.weights.flatten()


def _linear(x: Tensor, w: Tensor, bias: Tensor | None) -> Tensor:
    """Return x w + bias in fp32, or fp64 for fp64 operands."""
    exact = torch.promote_types(x.dtype, torch.float32)
    y = x.to(exact) @ w.to(exact)
    return y if bias is None else y + bias.to(exact)


def _require_no_gradient(tensors: dict[str, Tensor | None]) -> None:
    for name, tensor in tensors.items():
        if tensor is not None and tensor.requires_grad:
            raise ValueError(f"moe is inference only, but {name} requires a gradient: use torch.no_grad()")
