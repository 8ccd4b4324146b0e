"""The torch operator `moegap::route`: a gate applied by itself, so that a gradient can go through its weights.

Which experts a row takes is piecewise constant, so the gradient goes through the softmax alone. It is written in torch.

N rows, D input width, E experts, k experts per row.
"""

from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import register_flop_formula

from kernels.cost.machine import Machine, machine_of
from kernels.cost.seconds import total_seconds
from kernels.ops.router import route, route_work
from kernels.paths.grouped_tiles import routers
from kernels.problem.options import Router
from kernels.problem.problem import Problem
from kernels.problem.routes import Gate, TopK, WeightsOver

_library = torch.library.Library("moegap", "FRAGMENT")
_library.define(
    "route(Tensor x, Tensor weight, Tensor? bias, int experts, int k, float temperature, bool standardise, "
    "str weights_over) -> (Tensor, Tensor)"
)


def applied(x: Tensor, gate: Gate, experts: int) -> TopK:
    """Return the ids (N, k) int32 and the weights (N, k) fp32 of a gate of that many `experts`.

    Autograd knows the gradient of the weights.
    """
    settings = (getattr(gate, name) for name in gate.settings)
    return TopK(*torch.ops.moegap.route.default(x, gate.weight, gate.bias, experts, *settings))


def _route(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    experts: int,
    k: int,
    temperature: float,
    standardise: bool,
    weights_over: WeightsOver,
) -> tuple[Tensor, Tensor]:
    gate = Gate(weight, bias, k, temperature, standardise, weights_over)
    gate.sizes(x, experts)
    N = max(x.shape[0], 1)
    problem = Problem(N, x.shape[1], 1, experts, 1, k, N * k, x.dtype)
    routed = route(x, gate, _router(problem, machine_of(x.device)))
    return routed.ids, routed.weights


def _router(problem: Problem, machine: Machine) -> Router:
    """Return the options of least estimated time for the gate alone."""
    return min(routers(problem, machine), key=lambda part: total_seconds([route_work(problem, part)], machine))


_library.impl("route", _route, "CPU")  # Triton's interpreter
_library.impl("route", _route, "CUDA")


@torch.library.register_fake("moegap::route", lib=_library)
def _fake(x: Tensor, weight: Tensor, bias: Tensor | None, experts: int, k: int, *_: Any) -> tuple[Tensor, Tensor]:
    return x.new_empty(x.shape[0], k, dtype=torch.int32), x.new_empty(x.shape[0], k, dtype=torch.float32)


@register_flop_formula(torch.ops.moegap.route)
def _flops(x_shape: torch.Size, weight_shape: torch.Size, *others: Any, out_shape: Any) -> int:
    """Return the operations of the scores, without padding."""
    operations: int = 2 * x_shape[0] * weight_shape[0] * weight_shape[1]
    return operations


def _keep(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    x, weight, bias, _, _, *settings = inputs
    ctx.save_for_backward(x, weight, bias, output[0])
    ctx.settings = settings


def _gradients(ctx: Any, _: Any, dweights: Tensor) -> tuple[Any, ...]:
    """Return the gradient of each argument of `moegap::route`, from scores computed again in fp32."""
    x, weight, bias, ids = ctx.saved_tensors
    temperature, standardise, weights_over = ctx.settings
    scores = x.float() @ weight.float().t()  # (N, E)
    scores = scores if bias is None else scores + bias.float()
    s, spread = _standardised(scores) if standardise else (scores, None)
    chosen = torch.zeros_like(s, dtype=torch.bool).scatter(1, ids.long(), True)
    among = s if weights_over == "all" else s.masked_fill(~chosen, -torch.inf)
    p = torch.softmax(among / temperature, dim=1)
    dp = torch.zeros_like(s).scatter(1, ids.long(), dweights)
    ds = p * (dp - (p * dp).sum(dim=1, keepdim=True)) / temperature  # (N, E)
    if spread is not None:
        along = (s * ds).sum(dim=1, keepdim=True) / max(s.shape[1] - 1, 1)
        ds = (ds - ds.mean(dim=1, keepdim=True) - s * along) / spread
    of_x, of_weight, of_bias, *_ = ctx.needs_input_grad
    return (
        (ds @ weight.float()).to(x.dtype) if of_x else None,
        (ds.t() @ x.float()).to(weight.dtype) if of_weight else None,
        ds.sum(dim=0).to(weight.dtype) if of_bias else None,
        *(None,) * 5,
    )


def _standardised(scores: Tensor) -> tuple[Tensor, Tensor]:
    """Return the standardised scores (N, E) and their spread (N, 1); equal scores give 0, and no gradient."""
    centred = scores - scores.mean(dim=1, keepdim=True)
    variance = centred.square().sum(dim=1, keepdim=True) / max(scores.shape[1] - 1, 1)
    spread = torch.where(variance == 0, torch.inf, variance.sqrt())
    return centred / spread, spread


torch.library.register_autograd("moegap::route", _gradients, setup_context=_keep, lib=_library)
