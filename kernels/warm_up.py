"""Compile before use, so that no call of `moe` in a server waits for the compiler."""

from bisect import bisect_left
from dataclasses import replace

import torch
from torch import Tensor

from kernels.call.arguments import problem_of
from kernels.choice.choice import LADDER
from kernels.choice.tuning import options_for
from kernels.moe import moe
from kernels.problem.experts import Experts
from kernels.problem.options import Precision
from kernels.problem.routes import RoutingSource


def warm_up(
    x: Tensor, routing: RoutingSource, experts: Experts, *, precision: Precision = "ieee", most_rows: int = 65536
) -> int:
    """Run an example once with all options that `moe` may choose for up to `most_rows` rows; return their number.

    The arguments are those of `kernels.moe.moe`, with a few rows and the layout of later calls: the code depends on
    dtypes, widths and whether strides and addresses are multiples of 16, but not on N.

    Raises:
        ValueError: As `moe`, or `x` has no rows.
    """
    if x.shape[0] == 0:
        raise ValueError("warm_up needs an example with at least one row")
    with torch.no_grad():
        problem = problem_of(x, routing, experts, precision)
        each = 1 if problem.routing == "flat" else problem.k  # the options of a flat list depend on its length
        sizes = LADDER[: bisect_left(LADDER, most_rows * problem.k // each) + 1]
        reached = {options_for(replace(problem, N=N, M=N * each), x.device): None for N in sizes}
        for options in reached:
            moe(x, routing, experts, precision=precision, options=options)
    return len(reached)
