"""Gradients of the whole operation in float64, from its definition, and how close to them is close enough.

N rows, D input width, H hidden width of one expert, E experts, k experts per row, C output width, M assignments.
"""

from collections.abc import Callable, Iterator
from dataclasses import fields

import torch
from torch import Tensor
from torch.nn.functional import gelu, silu

from kernels.moe import moe
from kernels.problem.routes import Flat, Gate, TopK
from tests.kernels.calls import Call
from tests.kernels.oracle import best, exact

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": torch.relu,
    "gelu": gelu,
    "silu": silu,
    "swiglu": lambda z: silu(z.chunk(2, dim=1)[0]) * z.chunk(2, dim=1)[1],
    "interleaved_swiglu": lambda z: silu(z[:, 0::2]) * z[:, 1::2],
}


def differentiable(call: Call) -> dict[str, Tensor]:
    """Return the tensors of `call` that have a gradient, by name."""
    parts = ((part, field.name) for part in (call, call.routing) for field in fields(part))
    named = {name: getattr(part, name) for part, name in parts}
    return {name: t for name, t in named.items() if isinstance(t, Tensor) and t.is_floating_point()}


def gradients(call: Call, dout: Tensor, function: Callable[[Call], Tensor] | None = None) -> dict[str, Tensor]:
    """Return the gradients of the sum of dout times the outputs of `function`, by default `moe`, by name."""
    call = call.map(lambda tensor: tensor.detach().requires_grad_(tensor.is_floating_point()))
    out = function(call) if function else call.run(moe)
    names, tensors = zip(*differentiable(call).items(), strict=True)
    return dict(zip(names, torch.autograd.grad(out, tensors, dout.to(out.dtype)), strict=True))


def plain(call: Call) -> Tensor:
    """Return the outputs (N, C) of a float64 call by its definition, one product for each assignment."""
    rows, ids, weights = _assignments(call)
    b1 = 0 if call.b1 is None else call.b1[ids]
    b2 = 0 if call.b2 is None else call.b2[ids]
    z = (call.x[rows, None] @ call.w1[ids]).squeeze(1) + b1  # (M, H) or (M, 2H)
    y = (ACTIVATIONS[call.activation](z)[:, None] @ call.w2[ids]).squeeze(1) + b2  # (M, C)
    return torch.zeros(len(call.x), y.shape[1], dtype=y.dtype).index_add(0, rows, weights[:, None] * y)


def _assignments(call: Call) -> tuple[Tensor, Tensor, Tensor]:
    """Return rows, experts and weights (M,) of the assignments that have an expert."""
    routing = call.routing
    if isinstance(routing, Flat):
        rows, ids, weights = routing.rows, routing.experts, routing.weights
    else:
        if isinstance(routing, Gate):
            routing = _routed(call.x, routing)
        assert isinstance(routing, TopK)
        rows = torch.arange(len(call.x)).repeat_interleave(routing.k)
        ids, weights = routing.ids.flatten(), routing.weights.flatten()
    there = (ids >= 0) & (ids < len(call.w2))
    return rows[there].long(), ids[there].long(), weights[there]


def _routed(x: Tensor, gate: Gate) -> TopK:
    scores = x @ gate.weight.t() + (0 if gate.bias is None else gate.bias)
    if gate.standardise:
        scores = (scores - scores.mean(dim=1, keepdim=True)) / scores.std(dim=1, keepdim=True)
    ids = torch.tensor([best(row, gate.k) for row in exact(scores)]).view(len(x), gate.k)
    powers = (scores / gate.temperature).exp()
    among = powers.gather(1, ids) if gate.weights_over == "selected" else powers
    return TopK(ids, powers.gather(1, ids) / among.sum(dim=1, keepdim=True))


def expected(call: Call, dout: Tensor) -> dict[str, Tensor]:
    """Return the right gradients of `call`, in float64."""
    double = call.map(lambda tensor: tensor.double() if tensor.is_floating_point() else tensor)
    return gradients(double, dout, plain)


def wrong(got: dict[str, Tensor], right: dict[str, Tensor], dtype: torch.dtype) -> Iterator[str]:
    """Yield the names of the gradients that are further from the right ones than roundings to `dtype` explain."""
    assert got.keys() == right.keys()
    for name, gradient in got.items():
        assert gradient.shape == right[name].shape
        largest = max(right[name].abs().flatten().tolist(), default=0.0) + 1e-6  # 0 in float64 is a rounding error too
        limit = (4 * torch.finfo(dtype).eps + 64 * torch.finfo(torch.float32).eps) * largest
        error = (gradient.double() - right[name]).abs()
        if not ((error <= limit) | (gradient.isnan() & right[name].isnan())).all():
            yield name


def assert_gradients(call: Call, dout: Tensor) -> None:
    """Fail unless the gradients of `moe` are right for `call`, with the dtypes of their tensors."""
    got = gradients(call, dout)
    assert {n: g.dtype for n, g in got.items()} == {n: t.dtype for n, t in differentiable(call).items()}
    assert list(wrong(got, expected(call, dout), call.x.dtype)) == []
