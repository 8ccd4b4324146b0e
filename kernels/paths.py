"""From arguments to a path: check them, name the problem, take the options given or chosen, run.

N rows, D input width, H hidden width of one expert, E experts, k experts per row, C output width, M assignments.
"""

import torch
from torch import Tensor

from kernels.choice.tuning import options_for
from kernels.launch.checks import FLOATS, bind_shapes, remembered, require_dtype
from kernels.launch.descriptors import describable
from kernels.launch.launch import require_device
from kernels.ops.fused_rows import fused_rows
from kernels.ops.fused_tiles import fused_tiles
from kernels.ops.grouped import grouped
from kernels.ops.router import check_gate
from kernels.problem.activation import Activation, check_activation, halves
from kernels.problem.options import FusedRows, FusedTiles, Options, Precision
from kernels.problem.problem import Problem, RoutingKind
from kernels.problem.routes import Flat, Gate, Routing, tensors_of

INTEGERS = (torch.int32, torch.int64)
MOST_EXPERTS = 512


def run(
    x: Tensor,
    routing: Routing,
    w1: Tensor,
    b1: Tensor | None,
    w2: Tensor,
    b2: Tensor | None,
    *,
    activation: Activation,
    precision: Precision,
    options: Options | None,
) -> Tensor:
    """Return what `kernels.moe.moe` does, on the path that `options` name or that is chosen here."""
    problem = problem_of(x, routing, w1, b1, w2, b2, activation, precision)
    if problem.N == 0 or problem.M == 0:
        return x.new_zeros(problem.N, problem.C)
    options = options or options_for(problem, x.device)
    if isinstance(options, FusedTiles):
        return fused_tiles(x, routing, w1, b1, w2, b2, activation=activation, options=options)
    if isinstance(options, FusedRows):
        return fused_rows(x, routing, w1, b1, w2, b2, activation=activation, options=options)
    return grouped(x, routing, w1, b1, w2, b2, activation=activation, options=options)


@remembered
def problem_of(
    x: Tensor,
    routing: Routing,
    w1: Tensor,
    b1: Tensor | None,
    w2: Tensor,
    b2: Tensor | None,
    activation: Activation,
    precision: Precision,
) -> Problem:
    """Return the sizes of a call whose arguments are right, or raise ValueError."""
    biases = {name: bias for name, bias in (("b1", b1), ("b2", b2)) if bias is not None}
    given = {name: tensor for name, tensor in tensors_of(routing).items() if tensor is not None}
    require_device(x=x, **given, w1=w1, w2=w2, **biases)
    require_dtype(*FLOATS, x=x, w1=w1, w2=w2, **biases)
    check_activation(activation)
    if precision not in ("ieee", "tf32"):
        raise ValueError(f'precision must be "ieee" or "tf32", not {precision!r}')
    wide = "H" if halves(activation) == 1 else "2H"
    shapes = {"w2": (w2, "E H C"), "w1": (w1, f"E D {wide}"), "b1": (b1, f"E {wide}"), "b2": (b2, "E C")}
    present = {name: (tensor, letters) for name, (tensor, letters) in shapes.items() if tensor is not None}
    sizes = bind_shapes(x=(x, "N D"), **present)
    N, D, E, H, C = (sizes[letter] for letter in "NDEHC")
    if E > MOST_EXPERTS:
        raise ValueError(f"w1 may have at most {MOST_EXPERTS} experts, not {E}")
    kind, k, M = _routing_sizes(x, routing, E)
    return Problem(
        N,
        D,
        H,
        E,
        C,
        k,
        M,
        x.dtype,
        activation,
        kind,
        precision,
        described=(describable(w1, halves(activation)), describable(w2)),
    )


def _routing_sizes(x: Tensor, routing: Routing, E: int) -> tuple[RoutingKind, int, int]:
    """Return kind, k and M of a routing that fits the other arguments, or raise ValueError."""
    if isinstance(routing, Gate):
        _, _, gates = check_gate(x, routing)
        if gates != E:
            raise ValueError(f"gate.weight must have a row for each of the E = {E} experts of w1, not {gates}")
        return "gate", routing.k, x.shape[0] * routing.k
    require_dtype(torch.float64, *FLOATS, weights=routing.weights)
    if isinstance(routing, Flat):
        require_dtype(*INTEGERS, rows=routing.rows, experts=routing.experts)
        flat = {"rows": routing.rows, "experts": routing.experts, "weights": routing.weights}
        M = bind_shapes(**{name: (tensor, "M") for name, tensor in flat.items()})["M"]
        return "flat", max(1, -(-M // max(x.shape[0], 1))), M
    require_dtype(*INTEGERS, ids=routing.ids)
    N, _, k = bind_shapes(x=(x, "N D"), ids=(routing.ids, "N k"), weights=(routing.weights, "N k")).values()
    return "top_k", k, N * k
