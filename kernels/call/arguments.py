"""From the arguments of a call to its problem: check them and name their sizes.

N rows, D input width, H hidden width of one expert, E experts, k experts per row, C output width, M assignments.
"""

from torch import Tensor

from kernels.launch.checks import FLOATS, bind_shapes, remembered, require_dtype
from kernels.launch.descriptors import describable
from kernels.launch.launch import require_device
from kernels.problem.activation import check_activation, column_blocks, halves
from kernels.problem.experts import MOST_EXPERTS, Experts
from kernels.problem.options import Precision, require_precision
from kernels.problem.problem import Problem
from kernels.problem.routes import RoutingSource
from kernels.problem.stored import Scheme, Stored


@remembered
def problem_of(x: Tensor, routing: RoutingSource, experts: Experts, precision: Precision) -> Problem:
    """Return the sizes of a call whose arguments are right, or raise ValueError."""
    require_device(x=x, **routing.tensors(), **experts.tensors())
    weights = {"w1": experts.w1, "w2": experts.w2}
    full = {name: w for name, w in weights.items() if isinstance(w, Tensor)}
    require_dtype(*FLOATS, x=x, **full, b1=experts.b1, b2=experts.b2)
    for name, w in weights.items():
        if isinstance(w, Stored):
            w.check(name)
    check_activation(experts.activation)
    require_precision(precision)
    wide = "H" if halves(experts.activation) == 1 else "2H"
    sizes = bind_shapes(
        x=(x, "N D"),
        w2=(experts.w2, "E H C"),  # before w1: it says what H is
        w1=(experts.w1, f"E D {wide}"),
        b1=(experts.b1, f"E {wide}"),
        b2=(experts.b2, "E C"),
    )
    N, D, E, H, C = (sizes[letter] for letter in "NDEHC")
    if E > MOST_EXPERTS:
        raise ValueError(f"w1 may have at most {MOST_EXPERTS} experts, not {E}")
    k, M = routing.sizes(x, E)
    described = _described(experts.w1, column_blocks(experts.activation)), _described(experts.w2, 1)
    stored = _scheme(experts.w1), _scheme(experts.w2)
    return Problem(N, D, H, E, C, k, M, x.dtype, experts.activation, routing.kind, precision, described, stored)


def _described(weights: Tensor | Stored, blocks: int) -> bool:
    """Return whether descriptors can read `weights` in that many blocks of columns."""
    return isinstance(weights, Tensor) and describable(weights, blocks)


def _scheme(weights: Tensor | Stored) -> Scheme | None:
    """Return how `weights` are stored in 8 or 4 bits, if they are."""
    return weights.scheme if isinstance(weights, Stored) else None
