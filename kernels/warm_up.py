"""Compiling ahead of use, so that no call of `moe` in a server's hot path waits for the compiler.

N rows, D input width, H hidden width of one expert, E experts, C output width.
"""

from bisect import bisect_left
from dataclasses import replace

import torch
from torch import Tensor

from kernels.choice.choice import LADDER
from kernels.choice.tuning import options_for
from kernels.moe import moe
from kernels.paths import problem_of
from kernels.problem.activation import Activation
from kernels.problem.options import Precision
from kernels.problem.routes import Routing


def warm_up(
    x: Tensor,
    routing: Routing,
    w1: Tensor,
    b1: Tensor | None,
    w2: Tensor,
    b2: Tensor | None,
    *,
    activation: Activation,
    precision: Precision = "ieee",
    most_rows: int = 65536,
) -> int:
    """Run the example once with all options that `moe` may choose for up to `most_rows` rows; return their number.

    The arguments are those of `kernels.moe.moe`, with a few rows and laid out as later calls will be: code depends on
    dtypes, widths and whether strides and addresses are multiples of 16, and not on N.

    Raises:
        ValueError: As `moe`, or `x` has no rows.
    """
    if x.shape[0] == 0:
        raise ValueError("warm_up needs an example with at least one row")
    with torch.no_grad():
        problem = problem_of(x, routing, w1, b1, w2, b2, activation, precision)
        each = 1 if problem.routing == "flat" else problem.k  # a flat list is chosen for by its length
        sizes = LADDER[: bisect_left(LADDER, most_rows * problem.k // each) + 1]
        found = {options_for(replace(problem, N=N, M=N * each), x.device): None for N in sizes}
        for options in found:
            moe(x, routing, w1, b1, w2, b2, activation=activation, precision=precision, options=options)
    return len(found)
