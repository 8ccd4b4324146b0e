"""The torch operator `moegap::moe_backward`, and how autograd gets from `moegap::moe` to it.

N rows, D input width, H hidden width of one expert, E experts, C output width, M assignments.
"""

from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import register_flop_formula

import kernels.call.operator  # noqa: F401 - defines moegap::moe
from kernels.call.arguments import problem_of
from kernels.cost.machine import machine_of
from kernels.paths.backward import Gradients, choose_backward
from kernels.paths.paths import decode
from kernels.problem.activation import Activation
from kernels.problem.experts import Experts
from kernels.problem.options import Precision
from kernels.problem.routes import Flat, TopK

_library = torch.library.Library("moegap", "FRAGMENT")
_library.define(
    "moe_backward(Tensor dout, Tensor x, Tensor[] routing, bool ordered, Tensor w1, Tensor? b1, Tensor w2, Tensor? b2, "
    "str activation, str precision, bool[] needed) -> (Tensor, Tensor, Tensor, Tensor, Tensor, Tensor)"
)


def _moe_backward(
    dout: Tensor,
    x: Tensor,
    routing: list[Tensor],
    ordered: bool,
    w1: Tensor,
    b1: Tensor | None,
    w2: Tensor,
    b2: Tensor | None,
    activation: Activation,
    precision: Precision,
    needed: list[bool],
) -> tuple[Tensor, ...]:
    """Return the gradients of x, of the routing's weights, w1, b1, w2 and b2; one that is not needed is empty."""
    source = TopK(*routing) if len(routing) == 2 else Flat(routing[0], routing[1], routing[2], ordered)
    experts = Experts(w1, b1, w2, b2, activation)
    problem = problem_of(x, source, experts, precision)
    if problem.N == 0 or problem.M == 0:
        return tuple(torch.zeros_like(out) for out in _fake(dout, x, routing, ordered, w1, b1, w2, b2, needed=needed))
    backward = choose_backward(problem, machine_of(x.device))
    gradients = backward.run(dout, x, source, experts, Gradients[bool](*needed))
    return tuple(x.new_empty(0) if gradient is None else gradient for gradient in gradients)


_library.impl("moe_backward", _moe_backward, "CPU")  # Triton's interpreter
_library.impl("moe_backward", _moe_backward, "CUDA")


@torch.library.register_fake("moegap::moe_backward", lib=_library)
def _fake(
    dout: Tensor, x: Tensor, routing: list[Tensor], ordered: bool, *others: Any, **named: Any
) -> tuple[Tensor, ...]:
    parts, needed = (x, routing[-1], *others[:4]), named.get("needed", others[-1])
    return tuple(
        part.new_empty(part.shape) if wanted and part is not None else x.new_empty(0)
        for part, wanted in zip(parts, needed, strict=True)
    )


@register_flop_formula(torch.ops.moegap.moe_backward)
def _flops(
    dout_shape: torch.Size, x_shape: torch.Size, routing: list[torch.Size], ordered: bool, *others: Any, out_shape: Any
) -> int:
    """Return the operations of the products: the first again, and one for each operand of each; without padding."""
    w1_shape, w2_shape, needed = others[0], others[2], Gradients[bool](*others[6])
    _, D, wide = w1_shape
    _, H, C = w2_shape
    M: int = torch.Size(routing[0]).numel()
    products: int = D * wide * (1 + needed.x + needed.w1) + H * C * (1 + needed.w2)
    return 2 * M * products


def _keep(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    """Keep the arguments of `moegap::moe`, and nothing that it computed."""
    x, kind, routing, _, _, _, _, ordered, w1, b1, w2, b2, activation, precision, options = inputs
    if kind == "gate":
        raise NotImplementedError(
            "moegap::moe has no gradient through a gate: kernels.moe.moe applies it by moegap::route"
        )
    ctx.save_for_backward(x, *routing, w1, b1, w2, b2)
    ctx.settings = ordered, activation, precision if options is None else getattr(decode(options), "precision", "ieee")


def _gradients(ctx: Any, dout: Tensor) -> tuple[Any, ...]:
    """Return the gradient of each argument of `moegap::moe`."""
    x, *routing, w1, b1, w2, b2 = ctx.saved_tensors
    ordered, activation, precision = ctx.settings
    of_x, _, of_routing, *_ = ctx.needs_input_grad
    needed = [of_x, of_routing[-1], *ctx.needs_input_grad[8:12]]
    arguments = (dout, x, routing, ordered, w1, b1, w2, b2, activation, precision, needed)
    computed = torch.ops.moegap.moe_backward.default(*arguments)
    dx, dweights, *of_experts = (part if wanted else None for part, wanted in zip(computed, needed, strict=True))
    return dx, None, [*(None for _ in routing[1:]), dweights], *(None,) * 5, *of_experts, None, None, None


def _no_second(ctx: Any, *gradients: Any) -> None:
    raise NotImplementedError("moegap::moe_backward has no gradient: a loss may not depend on gradients of moe")


torch.library.register_autograd("moegap::moe", _gradients, setup_context=_keep, lib=_library)
torch.library.register_autograd("moegap::moe_backward", _no_second, lib=_library)
