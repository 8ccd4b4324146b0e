"""The torch operator `moegap::moe`: how compiled graphs and torch's flop counter see the operation.

An operator takes tensors, numbers and strings, so routing and options travel in parts and are put together inside.

N rows, D input width, H hidden width of one expert, E experts, k experts per row, C output width, M assignments.
"""

from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import register_flop_formula

from kernels.paths import run
from kernels.problem.activation import Activation
from kernels.problem.options import Options, Precision, decode
from kernels.problem.routes import Flat, Gate, Routing, TopK, WeightsOver, tensors_of

_library = torch.library.Library("moegap", "DEF")
_library.define(
    "moe(Tensor x, str kind, Tensor?[] routing, int k, float temperature, bool standardise, str weights_over, "
    "bool ordered, Tensor w1, Tensor? b1, Tensor w2, Tensor? b2, str activation, str precision, str? options) -> Tensor"
)


def call(
    x: Tensor,
    routing: Routing,
    w1: Tensor,
    b1: Tensor | None,
    w2: Tensor,
    b2: Tensor | None,
    activation: Activation,
    precision: Precision,
    options: Options | None,
) -> Tensor:
    """Return what the operator makes of these arguments of `kernels.moe.moe`."""
    gate = routing if isinstance(routing, Gate) else None
    out: Tensor = torch.ops.moegap.moe.default(
        x,
        "gate" if gate else "flat" if isinstance(routing, Flat) else "top_k",
        list(tensors_of(routing).values()),
        gate.k if gate else 0,
        gate.temperature if gate else 1.0,
        gate.standardise if gate else False,
        gate.weights_over if gate else "selected",
        routing.ordered if isinstance(routing, Flat) else False,
        w1,
        b1,
        w2,
        b2,
        activation,
        precision,
        options.code if options else None,
    )
    return out


def _moe(
    x: Tensor,
    kind: str,
    routing: list[Any],
    k: int,
    temperature: float,
    standardise: bool,
    weights_over: WeightsOver,
    ordered: bool,
    w1: Tensor,
    b1: Tensor | None,
    w2: Tensor,
    b2: Tensor | None,
    activation: Activation,
    precision: Precision,
    options: str | None,
) -> Tensor:
    whole: Routing
    if kind == "gate":
        weight, bias = routing
        whole = Gate(weight, bias, k, temperature, standardise, weights_over)
    elif kind == "flat":
        rows, experts, weights = routing
        whole = Flat(rows, experts, weights, ordered)
    else:
        ids, weights = routing
        whole = TopK(ids, weights)
    chosen = None if options is None else decode(options)
    return run(x, whole, w1, b1, w2, b2, activation=activation, precision=precision, options=chosen)


_library.impl("moe", _moe, "CPU")  # Triton's interpreter
_library.impl("moe", _moe, "CUDA")


@torch.library.register_fake("moegap::moe", lib=_library)
def _fake(x: Tensor, *others: Any) -> Tensor:
    w2: Tensor = others[9]
    return x.new_empty(x.shape[0], w2.shape[2])


@register_flop_formula(torch.ops.moegap.moe)
def _flops(x_shape: torch.Size, kind: str, routing: list[Any], k: int, *others: Any, out_shape: torch.Size) -> int:
    """Return the operations of the products that are needed: the gate's and the chosen experts', no padding."""
    w1_shape, w2_shape = others[4], others[6]
    (N, D), (E, H, C) = x_shape, w2_shape
    M: int = N * k if kind == "gate" else torch.Size(routing[0]).numel()
    experts: int = 2 * M * (D * w1_shape[2] + H * C)
    return experts + 2 * N * D * E if kind == "gate" else experts
