"""The gradients of a call, whichever path ran it: rows sorted by expert as in the grouped path, one step a launch.

Nothing but the arguments of the call is kept from its forward pass. The backward pass sorts the rows again and
repeats the first product, which costs one product more than keeping M hidden rows would. It needs memory for M rows of
hidden values and of their gradients, and for M rows of input gradients.

N rows, D input width, H hidden width of one expert, E experts, k experts per row, C output width, M assignments.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from typing import Generic, NamedTuple, TypeVar

import torch
from torch import Tensor

from kernels.cost.machine import Machine
from kernels.cost.seconds import total_seconds
from kernels.cost.work import balanced
from kernels.launch.integers import cdiv
from kernels.ops.activation_gradient import activation_gradient
from kernels.ops.bias_gradient import bias_gradient
from kernels.ops.combine import combine, row_order
from kernels.ops.dispatch import Dispatch, count, dispatch
from kernels.ops.grouped_gemm import Which, grouped_gemm, grouped_gemm_work
from kernels.ops.weight_gradient import weight_gradient, weight_gradient_shared, weight_gradient_work
from kernels.paths.candidates import at_most, staged, unit
from kernels.paths.grouped_tiles import heights, products
from kernels.problem.experts import Experts
from kernels.problem.options import Precision, Product, WeightTile
from kernels.problem.problem import Problem
from kernels.problem.routes import Flat, TopK

MOST_SPLITS = 16
"""The most programs that share the slots of an expert in the gradient of its weights."""

Each = TypeVar("Each")


class Gradients(NamedTuple, Generic[Each]):
    """The gradients of a call, each of the shape and dtype of its argument or None; or whether each is needed."""

    x: Each
    weights: Each
    w1: Each
    b1: Each
    w2: Each
    b2: Each


@dataclass(frozen=True)
class Backward:
    """The tiles of the products of the backward pass, which share the row tiles.

    Attributes:
        tile_rows: Slots of a tile.
        first: The first product again: x w1.
        hidden: The gradient of the hidden values: dout w2^T.
        inputs: The gradient of the rows: dz w1^T.
        w1: The gradient of w1: x^T dz.
        w2: The gradient of w2: h^T dout.
        precision: How fp32 operands are multiplied.
    """

    tile_rows: int
    first: Product
    hidden: Product
    inputs: Product
    w1: WeightTile
    w2: WeightTile
    precision: Precision = "ieee"

    def run(
        self, dout: Tensor, x: Tensor, routing: TopK | Flat, experts: Experts, need: Gradients[bool]
    ) -> Gradients[Tensor | None]:
        """Return the gradients that are needed of the sum of dout (N, C) times the outputs; N and M must not be 0."""
        w1, b1, w2, b2, *_ = experts.parts()
        ids = routing.ids.flatten() if isinstance(routing, TopK) else routing.experts
        rows = {"k": routing.k} if isinstance(routing, TopK) else {"rows": routing.rows}
        by_expert = dispatch(ids, *count(ids, w2.shape[0]), **rows, tile_rows=self.tile_rows)
        product = partial(grouped_gemm, dispatch=by_expert, precision=self.precision, activation=None)
        weight = partial(weight_gradient, dispatch=by_expert, precision=self.precision)

        dz = product(x, w1, b1, gather=True, options=self.first)  # (M, H) or (M, 2H): z until it is replaced
        hidden = product(dout, w2.transpose(1, 2), None, gather=True, options=self.hidden)  # (M, H): its gradient first
        weights = routing.weights.flatten()
        dweights, by_slot = activation_gradient(dz, hidden, weights, ids, by_expert, b2, dout, experts.activation)
        dx = product(dz, w1.transpose(1, 2), None, gather=False, options=self.inputs) if need.x else None  # (M, D)
        return Gradients(
            x=None if dx is None else self._inputs(dx, by_expert, x, routing),
            weights=dweights.view(routing.weights.shape).to(routing.weights.dtype) if need.weights else None,
            w1=weight(x, dz, gather_a=True, options=self.w1) if need.w1 else None,
            b1=bias_gradient(dz, by_expert) if need.b1 else None,
            w2=weight(hidden, dout, gather_b=True, options=self.w2) if need.w2 else None,
            b2=bias_gradient(dout, by_expert, weights=by_slot, gather=True) if need.b2 else None,
        )

    @staticmethod
    def _inputs(dx: Tensor, by_expert: Dispatch, x: Tensor, routing: TopK | Flat) -> Tensor:
        """Return the sum, for each row, of its gradients by slot: (N, D) from (M, D) or (splits, M, D)."""
        ones = torch.ones(by_expert.slots.shape, dtype=torch.float32, device=x.device)
        of_row = partial(combine, dx, ones, by_expert.slots, rows=x.shape[0], out_dtype=x.dtype)
        if isinstance(routing, TopK):
            return of_row(k=routing.k)
        starts, order = row_order(routing.rows, x.shape[0], ordered=routing.ordered)
        return of_row(starts=starts, order=order)


@lru_cache(maxsize=4096)
def choose_backward(problem: Problem, machine: Machine) -> Backward:
    """Return the tiles of least estimated time for the backward pass of a call; N and M must not be 0."""
    views = _views(problem)
    first, second = (problem.D, problem.halves * problem.H), (problem.H, problem.C)
    w1, w2 = (_quickest_weights(problem, machine, *sizes) for sizes in (first, second))
    best: dict[Backward, float] = {}
    for tile_rows in set.intersection(*(set(heights(view)) for view, _ in views.values())):
        chosen = {name: _quickest(view, machine, which, tile_rows) for name, (view, which) in views.items()}
        if all(chosen.values()):
            parts = {name: product for name, (product, _) in chosen.items()}  # type: ignore[misc]  # none is None
            backward = Backward(tile_rows, **parts, w1=w1, w2=w2, precision=problem.precision)
            best[backward] = sum(seconds for _, seconds in chosen.values())  # type: ignore[misc]
    return min(best, key=best.__getitem__)


def _views(problem: Problem) -> dict[str, tuple[Problem, Which]]:
    """Return each grouped product of the backward pass as one of a call's two, without an activation.

    Transposed weights have no contiguous rows for a descriptor.
    """
    plain = replace(problem, activation="relu", routing="top_k")
    wide = problem.halves * problem.H
    return {
        "first": (replace(plain, H=wide), "first"),
        "hidden": (replace(plain, D=problem.C, described=(False, False)), "first"),
        "inputs": (replace(plain, H=wide, C=problem.D, described=(False, False)), "second"),
    }


def _quickest(view: Problem, machine: Machine, which: Which, tile_rows: int) -> tuple[Product, float] | None:
    """Return the product of least estimated time and its seconds, or None if none fits.

    A persistent gather of 256 columns spills without an activation.
    """

    def seconds(options: Product) -> float:
        work = grouped_gemm_work(
            view,
            which,
            options,
            balanced(view),
            tile_rows=tile_rows,
            precision=view.precision,
            out_size=view.element_size,
        )
        return total_seconds([work], machine)

    fitting = products(view, machine, which, tile_rows)
    times = {options: seconds(options) for options in fitting if not (options.persistent and options.columns > 128)}
    return min(times.items(), key=lambda pair: pair[1], default=None)


def _quickest_weights(problem: Problem, machine: Machine, D: int, H: int) -> WeightTile:
    """Return the tile of least estimated time for the gradient of weights of D x H."""

    def seconds(options: WeightTile) -> float:
        works = weight_gradient_work(problem, D, H, options, balanced(problem), precision=problem.precision)
        return total_seconds(works, machine)

    return min(weight_tiles(problem, machine, D, H), key=seconds)


def weight_tiles(problem: Problem, machine: Machine, D: int, H: int) -> Iterator[WeightTile]:
    """Yield the tiles to try for the gradient of weights of D x H; with few programs they share an expert's slots."""
    for rows, columns, depth, warps, stages in _weight_tiles(problem, machine, D, H):
        least = 64 if machine.asynchronous and unit(problem) != "fp32" else 16  # the rows of one wgmma
        tile = WeightTile(max(least, at_most(D, rows)), at_most(H, columns), depth, warps, stages)
        programs = problem.E * cdiv(D, tile.rows) * cdiv(H, tile.columns)
        for splits in (1, 2, 4, 8, MOST_SPLITS):
            few = programs * splits <= 2 * machine.multiprocessors and 4 * depth * splits * problem.E <= problem.M
            if splits == 1 or few:
                shared = partial(weight_gradient_shared, size=problem.element_size)
                yield from staged(replace(tile, splits=splits), machine, shared)


def _weight_tiles(problem: Problem, machine: Machine, D: int, H: int) -> list[tuple[int, int, int, int, int]]:
    """Return rows, columns, depth, warps and stages of the gradient of weights of D x H."""
    if unit(problem) == "fp32":
        return [(64, 64, 16, 8, 3)]
    if unit(problem) == "tf32" or D % 16 or H % 16:
        return [(64, 64, 32, 8, 3)]
    widest = [(128, 256, 64, 8, 3)] if machine.asynchronous else []
    return [(64, 64, 64, 4, 3), (128, 64, 64, 4, 3), (128, 128, 64, 8, 3), *widest]
