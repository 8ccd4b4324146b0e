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


@remembered
def problem_of(x: Tensor, routing: RoutingSource, experts: Experts, precision: Precision) -> Problem:
    """Return the sizes of a call whose arguments are right, or raise ValueError."""
    require_device(x=x, **routing.tensors(), **experts.tensors())
    require_dtype(*FLOATS, x=x, **experts.tensors())
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
    described = describable(experts.w1, column_blocks(experts.activation)), describable(experts.w2)
    return Problem(N, D, H, E, C, k, M, x.dtype, experts.activation, routing.kind, precision, described)
