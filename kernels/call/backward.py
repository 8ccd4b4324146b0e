"""A call that needs a gradient: the torch operators `moegap::moe_forward` and `moegap::moe_backward`.

They stand apart from `moegap::moe`, because autograd's Python would cost every call for inference 14 us.

N rows, D input width, H hidden width of one expert, E experts, C output width, M assignments.
"""

from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import register_flop_formula

from kernels.call.arguments import problem_of
from kernels.call.gate import applied
from kernels.call.operator import call
from kernels.cost.machine import machine_of
from kernels.paths.backward import Gradients, choose_backward
from kernels.paths.options import Options
from kernels.paths.paths import decode
from kernels.problem.activation import Activation
from kernels.problem.experts import Experts
from kernels.problem.options import Precision
from kernels.problem.routes import Flat, Gate, RoutingSource, TopK

_library = torch.library.Library("moegap", "FRAGMENT")
_library.define(
    "moe_forward(Tensor x, Tensor[] routing, bool ordered, Tensor w1, Tensor? b1, Tensor w2, Tensor? b2, "
    "str activation, str precision, str? options) -> Tensor"
)
_library.define(
    "moe_backward(Tensor dout, Tensor x, Tensor[] routing, bool ordered, Tensor w1, Tensor? b1, Tensor w2, Tensor? b2, "
    "str activation, str precision, bool[] needed) -> (Tensor, Tensor, Tensor, Tensor, Tensor, Tensor)"
)


def needs_gradient(x: Tensor, routing: RoutingSource, experts: Experts) -> bool:
    """Return whether autograd will ask for a gradient of the call."""
    if not torch.is_grad_enabled():
        return False
    tensors = (x, *routing.tensors().values(), *experts.tensors().values())
    return any(tensor is not None and tensor.requires_grad for tensor in tensors)


def call_with_gradients(
    x: Tensor, routing: RoutingSource, experts: Experts, precision: Precision, options: Options | None
) -> Tensor:
    """Call the operator with these arguments of `kernels.moe.moe`, after the gate if there is one.

    Raises:
        ValueError: Weights are stored in 8 or 4 bits.
    """
    if experts.is_stored:
        raise ValueError("moe has no gradient with weights stored in 8 or 4 bits: use torch.no_grad()")
    if isinstance(routing, Gate):
        routing = applied(x, routing, experts.w1.shape[0])
    assert isinstance(routing, TopK | Flat)
    code = options.code if options else None
    parts = (*experts.parts()[:4], experts.activation)
    flat = isinstance(routing, Flat) and routing.ordered
    out: Tensor = torch.ops.moegap.moe_forward.default(
        x, list(routing.tensors().values()), flat, *parts, precision, code
    )
    return out


def _moe_forward(
    x: Tensor,
    routing: list[Tensor],
    ordered: bool,
    w1: Tensor,
    b1: Tensor | None,
    w2: Tensor,
    b2: Tensor | None,
    activation: Activation,
    precision: Precision,
    options: str | None,
) -> Tensor:
    experts = Experts(w1, b1, w2, b2, activation)
    return call(x, _source(routing, ordered), experts, precision, decode(options) if options else None)


def _source(routing: list[Tensor], ordered: bool) -> TopK | Flat:
    """Return the routing that has these tensors: two of k experts per row, or three of a flat list."""
    return TopK(*routing) if len(routing) == 2 else Flat(routing[0], routing[1], routing[2], ordered)


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
    source = _source(routing, ordered)
    experts = Experts(w1, b1, w2, b2, activation)
    problem = problem_of(x, source, experts, precision)
    if problem.N == 0 or problem.M == 0:
        return tuple(torch.zeros_like(out) for out in _fake(dout, x, routing, ordered, w1, b1, w2, b2, needed=needed))
    backward = choose_backward(problem, machine_of(x.device))
    gradients = backward.run(dout, x, source, experts, Gradients[bool](*needed))
    return tuple(x.new_empty(0) if gradient is None else gradient for gradient in gradients)


for device in ("CPU", "CUDA"):  # on the CPU Triton's interpreter
    _library.impl("moe_forward", _moe_forward, device)
    _library.impl("moe_backward", _moe_backward, device)


@torch.library.register_fake("moegap::moe_forward", lib=_library)
def _fake_forward(x: Tensor, routing: list[Tensor], ordered: bool, w1: Tensor, b1: Any, w2: Tensor, *_: Any) -> Tensor:
    return x.new_empty(x.shape[0], w2.shape[2])


@torch.library.register_fake("moegap::moe_backward", lib=_library)
def _fake(
    dout: Tensor, x: Tensor, routing: list[Tensor], ordered: bool, *others: Any, **named: Any
) -> tuple[Tensor, ...]:
    parts, needed = (x, routing[-1], *others[:4]), named.get("needed", others[-1])
    return tuple(
        part.new_empty(part.shape) if wanted and part is not None else x.new_empty(0)
        for part, wanted in zip(parts, needed, strict=True)
    )


@register_flop_formula(torch.ops.moegap.moe_forward)
def _flops_forward(
    x_shape: torch.Size, routing: list[torch.Size], ordered: bool, *others: Any, out_shape: torch.Size
) -> int:
    """Return the operations of the chosen experts, without padding."""
    w1_shape, w2_shape = others[0], others[2]
    M: int = torch.Size(routing[0]).numel()
    return 2 * M * sum(torch.Size(shape[1:]).numel() for shape in (w1_shape, w2_shape))


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
    """Keep the arguments, and nothing that was computed."""
    x, routing, ordered, w1, b1, w2, b2, activation, precision, options = inputs
    ctx.save_for_backward(x, *routing, w1, b1, w2, b2)
    ctx.settings = ordered, activation, getattr(decode(options), "precision", "ieee") if options else precision


def _gradients(ctx: Any, dout: Tensor) -> tuple[Any, ...]:
    """Return the gradient of each argument of `moegap::moe_forward`."""
    x, *routing, w1, b1, w2, b2 = ctx.saved_tensors
    ordered, *others = ctx.settings
    of_x, of_routing, _, *of_experts = ctx.needs_input_grad[:7]
    needed = [of_x, of_routing[-1], *of_experts]
    computed = torch.ops.moegap.moe_backward.default(dout, x, routing, ordered, w1, b1, w2, b2, *others, needed)
    dx, dweights, *dexperts = (part if wanted else None for part, wanted in zip(computed, needed, strict=True))
    return dx, [*(None for _ in routing[1:]), dweights], None, *dexperts, None, None, None


def _no_second(ctx: Any, *gradients: Any) -> None:
    raise NotImplementedError("moegap::moe_backward has no gradient: a loss may not depend on gradients of moe")


torch.library.register_autograd("moegap::moe_forward", _gradients, setup_context=_keep, lib=_library)
torch.library.register_autograd("moegap::moe_backward", _no_second, lib=_library)
