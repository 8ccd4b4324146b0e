"""The grouped path: the rows of each expert side by side, and one launch for each step.

Five launches with a gate: router, dispatch, two grouped products, combine.

N rows, D input width, H hidden width of one expert, E experts, k experts per row, C output width, M assignments.
"""

import torch
from torch import Tensor

from kernels.ops.combine import combine, row_order
from kernels.ops.dispatch import Dispatch, count, dispatch
from kernels.ops.grouped_gemm import grouped_gemm
from kernels.ops.router import route
from kernels.problem.activation import Activation
from kernels.problem.options import Grouped
from kernels.problem.routes import Flat, Gate, Routing

EXACT_COLUMNS = 128
"""Up to this C the experts' outputs stay fp32 until they are combined; beyond, that would cost bandwidth."""


def grouped(
    x: Tensor,
    routing: Routing,
    w1: Tensor,
    b1: Tensor | None,
    w2: Tensor,
    b2: Tensor | None,
    *,
    activation: Activation,
    options: Grouped,
) -> Tensor:
    """Return what `kernels.moe.moe` does, (N, C) in the dtype of `x`."""
    N = x.shape[0]
    sorted_rows, weights = _dispatch(x, routing, w2.shape[0], options)
    y = products(x, sorted_rows, w1, b1, w2, b2, activation=activation, options=options)
    if isinstance(routing, Flat):
        starts, order = row_order(routing.rows, N, ordered=routing.ordered)
        return combine(y, weights, sorted_rows.slots, rows=N, order=order, starts=starts, out_dtype=x.dtype)
    k = routing.k if isinstance(routing, Gate) else routing.ids.shape[1]
    return combine(y, weights, sorted_rows.slots, rows=N, k=k, out_dtype=x.dtype)


def products(
    x: Tensor,
    sorted_rows: Dispatch,
    w1: Tensor,
    b1: Tensor | None,
    w2: Tensor,
    b2: Tensor | None,
    *,
    activation: Activation,
    options: Grouped,
) -> Tensor:
    """Return the experts' outputs by slot, (M, C), or in parts to be added, (splits, M, C)."""
    C = w2.shape[2]
    hidden = grouped_gemm(
        x,
        w1,
        b1,
        sorted_rows,
        gather=True,
        activation=activation,
        options=options.first,
        precision=options.precision,
    )  # (M, H)
    return grouped_gemm(
        hidden,
        w2,
        b2,
        sorted_rows,
        gather=False,
        activation=None,
        options=options.second,
        precision=options.precision,
        out_dtype=torch.float32 if C <= EXACT_COLUMNS else x.dtype,
    )


def _dispatch(x: Tensor, routing: Routing, E: int, options: Grouped) -> tuple[Dispatch, Tensor]:
    """Return the dispatch of `routing` and the weights (M,) of its assignments."""
    if isinstance(routing, Gate):
        routed = route(x, routing, options.router)
        ids = routed.ids.flatten()
        found = dispatch(ids, routed.counts, routed.block, k=routing.k, tile_rows=options.tile_rows)
        return found, routed.weights.flatten()
    if isinstance(routing, Flat):
        counts, block = count(routing.experts, E)
        found = dispatch(routing.experts, counts, block, rows=routing.rows, tile_rows=options.tile_rows)
        return found, routing.weights
    ids = routing.ids.flatten()
    counts, block = count(ids, E)
    return dispatch(ids, counts, block, k=routing.ids.shape[1], tile_rows=options.tile_rows), routing.weights.flatten()
