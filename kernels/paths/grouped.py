"""The grouped path: sort rows by expert, and run each step in a launch of its own.

Five launches with a gate: router, dispatch, two grouped products, combine.

N rows, D input width, H hidden width of one expert, E experts, k experts per row, C output width, M assignments.
"""

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache, partial
from heapq import nsmallest
from itertools import product as combinations
from typing import Any, ClassVar

import torch
from torch import Tensor

from kernels.cost.machine import Machine, machine_of
from kernels.cost.work import Histogram, LaunchWork
from kernels.launch.chain import chain
from kernels.launch.tickets import MOST
from kernels.ops.combine import combine, combine_work, row_order, row_order_work
from kernels.ops.dispatch import Dispatch, count, count_work, dispatch, dispatch_work
from kernels.ops.grouped_gemm import grouped_gemm, grouped_gemm_work
from kernels.ops.router import route, route_work
from kernels.ops.stored_gemm import stored_gemm, stored_gemm_work
from kernels.paths.grouped_tiles import heights, products, routers
from kernels.paths.options import Options
from kernels.problem.experts import Experts
from kernels.problem.options import Precision, Product, Router, require_power_of_two, require_precision
from kernels.problem.problem import Problem
from kernels.problem.routes import Flat, Gate, RoutingSource, TopK
from kernels.problem.stored import Stored

EXACT_COLUMNS = 128
"""Up to this C the experts' outputs stay fp32 until they are combined; wider ones would cost too much bandwidth."""


@dataclass(frozen=True)
class Grouped(Options):
    """Router, dispatch, two grouped products, combine: five launches. Both products share the row tiles.

    Attributes:
        tile_rows: Slots of a tile.
        router: Tiles of the gate.
        first, second: Tiles of the products.
        precision: How fp32 operands are multiplied.
        chained: Whether each launch starts before the one before has ended, if the GPU can (`kernels.launch.chain`).
    """

    tile_rows: int
    router: Router
    first: Product
    second: Product
    precision: Precision = "ieee"
    chained: bool = False
    takes_stored: ClassVar[bool] = True

    def __post_init__(self) -> None:
        require_power_of_two(16, tile_rows=self.tile_rows)
        require_precision(self.precision)
        if self.first.splits != 1:
            raise ValueError("the first product cannot be split: its sum is needed whole for the activation")
        super().__post_init__()

    @classmethod
    def of(cls, values: dict[str, Any]) -> "Grouped":
        """Return the options with these `values` of their fields, as read from JSON."""
        parts = {"router": Router, "first": Product, "second": Product}
        return cls(**{name: parts[name](**value) if name in parts else value for name, value in values.items()})

    @classmethod
    def candidates(cls, problem: Problem, machine: Machine, each: int) -> Iterator["Grouped"]:
        """Yield, for each tile height, all combinations of the `each` quickest options of each launch: times add up."""

        def best(paths: Iterable["Grouped"]) -> list["Grouped"]:
            return nsmallest(each, paths, key=lambda path: path.seconds(problem, machine))

        for tile_rows in heights(problem):
            first, second = (list(products(problem, machine, which, tile_rows)) for which in ("first", "second"))
            gates = list(routers(problem, machine))
            if not (gates and first and second):
                continue
            path = partial(_path, tile_rows, problem.precision, machine.chains)
            chosen = combinations(
                [options.router for options in best(path(gate, first[0], second[0]) for gate in gates)],
                [options.first for options in best(path(gates[0], part, second[0]) for part in first)],
                [options.second for options in best(path(gates[0], first[0], part) for part in second)],
            )
            yield from (path(*parts) for parts in chosen)

    def run(self, x: Tensor, routing: RoutingSource, experts: Experts) -> Tensor:
        """Return the outputs (N, C)."""
        with chain(self.chained and machine_of(x.device).chains):
            return self._run(x, routing, experts)

    def _run(self, x: Tensor, routing: RoutingSource, experts: Experts) -> Tensor:
        """Return the same by launches that are chained or not."""
        N = x.shape[0]
        sorted_rows, weights = self._dispatch(x, routing, experts.w2.shape[0])
        y = self.products(x, sorted_rows, experts)
        if isinstance(routing, Flat):
            starts, order = row_order(routing.rows, N, ordered=routing.ordered)
            return combine(y, weights, sorted_rows.slots, rows=N, order=order, starts=starts, out_dtype=x.dtype)
        assert isinstance(routing, Gate | TopK)
        return combine(y, weights, sorted_rows.slots, rows=N, k=routing.k, out_dtype=x.dtype)

    def products(self, x: Tensor, sorted_rows: Dispatch, experts: Experts) -> Tensor:
        """Return the experts' outputs by slot, (M, C), or in parts to be added, (splits, M, C)."""
        w1, b1, w2, b2 = experts.w1, experts.b1, experts.w2, experts.b2
        out_dtype = torch.float32 if w2.shape[2] <= EXACT_COLUMNS else x.dtype
        how: dict[str, Any] = {"dispatch": sorted_rows, "precision": self.precision}
        first, second = _product(w1), _product(w2)
        hidden = first(x, w1, b1, gather=True, activation=experts.activation, options=self.first, **how)  # (M, H)
        return second(hidden, w2, b2, gather=False, activation=None, options=self.second, out_dtype=out_dtype, **how)

    def _dispatch(self, x: Tensor, routing: RoutingSource, E: int) -> tuple[Dispatch, Tensor]:
        """Return the dispatch of `routing` and the weights (M,) of its assignments."""
        if isinstance(routing, Gate):
            routed = route(x, routing, self.router)
            ids, weights, counts, block = routed.ids.flatten(), routed.weights, routed.counts, routed.block
        else:
            assert isinstance(routing, TopK | Flat)
            ids, weights = (routing.ids.flatten() if isinstance(routing, TopK) else routing.experts), routing.weights
            counts, block = count(ids, E)
        rows = {"rows": routing.rows} if isinstance(routing, Flat) else {"k": routing.k}
        return dispatch(ids, counts, block, **rows, tile_rows=self.tile_rows), weights.flatten()

    def launch_works(self, problem: Problem, experts: Histogram) -> tuple[LaunchWork, ...]:
        """Return the work of each launch."""
        size = problem.element_size
        y_size = 4 if problem.C <= EXACT_COLUMNS or self.second.splits > 1 else size
        how: dict[str, Any] = {"tile_rows": self.tile_rows, "precision": self.precision}
        first, second = (stored_gemm_work if scheme else grouped_gemm_work for scheme in problem.stored)
        return (
            route_work(problem, self.router) if problem.routing == "gate" else count_work(problem),
            dispatch_work(problem, self.router),
            first(problem, "first", self.first, experts, out_size=size, **how),
            second(problem, "second", self.second, experts, out_size=y_size, **how),
            *(row_order_work(problem) if problem.routing == "flat" else ()),
            combine_work(problem, self.second.splits, y_size),
        )

    def most_rows(self, problem: Problem) -> float:
        """Return the largest N that has a ticket for each sum, since programs may share the depth of the gate."""
        return math.inf if self.router.splits == 1 else MOST * self.router.tile_rows

    def possible(self, problem: Problem) -> bool:
        """Return whether the rows and strides of a call allow these options."""
        needed = zip((self.first, self.second), problem.described, strict=True)
        allowed = all(described or not part.described for part, described in needed)
        return allowed and super().possible(problem)

    def suitable(self, problem: Problem) -> bool:
        """Return whether the problem would try this height of tiles."""
        return self.tile_rows in heights(problem)


def _product(w: Tensor | Stored) -> Callable[..., Tensor]:
    """Return the function that multiplies by these weights."""
    return stored_gemm if isinstance(w, Stored) else grouped_gemm


@lru_cache(maxsize=4096)
def _path(
    tile_rows: int, precision: Precision, chained: bool, router: Router, first: Product, second: Product
) -> Grouped:
    return Grouped(tile_rows, router, first, second, precision, chained)
