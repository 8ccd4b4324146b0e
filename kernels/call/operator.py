"""The torch operator `moegap::moe`: how compiled graphs and torch's flop counter see the operation.

An operator takes only tensors, numbers and strings, so routing, experts and options are taken apart to call it and put
together inside.

N rows, D input width, H hidden width of one expert, E experts, k experts per row, C output width, M assignments.
"""

from typing import Any, cast

import torch
from torch import Tensor
from torch.utils.flop_counter import register_flop_formula

from kernels.call.arguments import problem_of
from kernels.call.unseen import is_unseen
from kernels.choice.tuning import options_for
from kernels.cost.machine import assumed
from kernels.launch.checks import Tensors
from kernels.launch.plan import planned
from kernels.paths.options import Options
from kernels.paths.paths import decode
from kernels.problem.activation import Activation, halves
from kernels.problem.experts import Experts
from kernels.problem.options import Precision
from kernels.problem.routes import SOURCES, RoutingSource, WeightsOver

_library = torch.library.Library("moegap", "DEF")
_library.define(
    "moe(Tensor x, str kind, Tensor?[] routing, int k, float temperature, bool standardise, str weights_over, "
    "bool ordered, Tensor w1, Tensor? b1, Tensor w2, Tensor? b2, Tensor? s1, Tensor? s2, "
    "str activation, str precision, str? options) -> Tensor"
)

NO_SETTINGS: dict[str, Any] = {
    "k": 0,
    "temperature": 1.0,
    "standardise": False,
    "weights_over": "selected",
    "ordered": False,
}
"""The settings of a routing that has none, in the order of the operator."""


def call(x: Tensor, routing: RoutingSource, experts: Experts, precision: Precision, options: Options | None) -> Tensor:
    """Run a call of `kernels.moe.moe`: by the operator, unless nothing in torch would see it.

    The operator costs 7 us of Python per call.
    """
    tensors = x, *experts.parts(), *routing.tensors().values()
    values = [getattr(routing, name) for name in routing.settings]
    rest = experts.activation, precision, options.code if options else None
    if is_unseen(tensors):
        return _planned(tensors, (routing.kind, *values, *rest, assumed()))
    settings = NO_SETTINGS | dict(zip(routing.settings, values, strict=True))
    out: Tensor = torch.ops.moegap.moe.default(x, routing.kind, tensors[7:], *settings.values(), *tensors[1:7], *rest)
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
    s1: Tensor | None,
    s2: Tensor | None,
    activation: Activation,
    precision: Precision,
    options: str | None,
) -> Tensor:
    settings = dict(zip(NO_SETTINGS, (k, temperature, standardise, weights_over, ordered), strict=True))
    values = [settings[name] for name in SOURCES[kind].settings]
    return _planned((x, w1, b1, w2, b2, s1, s2, *routing), (kind, *values, activation, precision, options, assumed()))


@planned
def _planned(tensors: Tensors, settings: Any) -> Tensor:
    """Run a call whose arguments are taken apart; the choice of its options also depends on the machine assumed."""
    x, *parts = cast("list[Any]", tensors)
    kind, *values, activation, precision, options, _ = settings
    source = SOURCES[kind]
    routing = source(*parts[6:], **dict(zip(source.settings, values, strict=True)))
    experts = Experts.of(parts[:6], activation)
    return run(x, routing, experts, precision, None if options is None else decode(options))


def run(x: Tensor, routing: RoutingSource, experts: Experts, precision: Precision, options: Options | None) -> Tensor:
    """Check the arguments and run `options`, or those chosen for the device; return the outputs (N, C)."""
    problem = problem_of(x, routing, experts, precision)
    if problem.N == 0 or problem.M == 0:
        return x.new_zeros(problem.N, problem.C)
    return (options or options_for(problem, x.device)).run(x, routing, experts)


_library.impl("moe", _moe, "CPU")  # Triton's interpreter
_library.impl("moe", _moe, "CUDA")


@torch.library.register_fake("moegap::moe", lib=_library)
def _fake(x: Tensor, *others: Any) -> Tensor:
    w2: Tensor = others[9]
    return x.new_empty(x.shape[0], w2.shape[2])


@register_flop_formula(torch.ops.moegap.moe)
def _flops(x_shape: torch.Size, kind: str, routing: list[Any], k: int, *others: Any, out_shape: torch.Size) -> int:
    """Return the operations of the gate and of the chosen experts, without padding."""
    (E, _, wide), (*_, C), activation = others[4], others[6], others[10]
    N, D = x_shape
    M: int = N * k if kind == "gate" else torch.Size(routing[0]).numel()
    experts: int = 2 * M * (D * wide + wide // halves(activation) * C)
    return experts + 2 * N * D * E if kind == "gate" else experts
