"""The loss along lines and over a plane through the trained weights.

Letters: P weights.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from models.progress import SILENT, Progress
from models.sharpness.objective import Objective, Value, flat
from reports.records.sharpness import Surface

PAPER_ALPHAS = [step / 20 for step in range(-10, 11)]
"""The 21 points of arXiv 2601.15021."""
RESOLVED = 1e-4
"""A second difference counts as resolved if rounding changes it by less than this share."""
_AGREED = 1e-3
_ROUNDING = 4 * torch.finfo(torch.float64).eps  # of a mean loss, relative to it: the most that was seen
_SLOPE_STEP = 1e-4  # relative to the step for losses: slopes lose far fewer digits


class LineLosses(NamedTuple):
    """Losses at `alphas` along a direction v, and how many rows are routed differently from 0."""

    alphas: list[float]
    losses: list[float]
    rerouted: list[int]

    def second_difference(self, steps: int = 1) -> float:
        """Return (L(h) - 2 L(0) + L(-h)) / h^2 with h `steps` points from 0; `alphas` are symmetric around 0."""
        middle = len(self.alphas) // 2
        before, here, after = (self.losses[middle + side * steps] for side in (-1, 0, 1))
        return ((after - here) - (here - before)) / self.alphas[middle + steps] ** 2


class SecondDifference(NamedTuple):
    """A line short enough to read L'' from it, the value of L'', and whether losses or slopes gave it."""

    line: LineLosses
    value: float
    source: Literal["losses", "slopes"]


def along(objective: Objective, direction: Tensor, alphas: Iterable[float], start: Value | None = None) -> LineLosses:
    """Return the loss at weights + alpha v for a direction v (P,) and each alpha; `start` is the value at 0."""
    weights, alphas = objective.weights, list(alphas)
    start = start or objective.at(weights)
    values = [start if alpha == 0 else objective.at(weights + alpha * direction) for alpha in alphas]
    return LineLosses(alphas, [value.loss for value in values], [value.rerouted(start) for value in values])


def second_difference(
    objective: Objective, direction: Tensor, curvature: float, start: tuple[Value, Tensor]
) -> SecondDifference:
    """Return the second difference of the loss along v, computed without the Hessian H: it should equal v^T H v.

    `objective` is in float64, and `start` is its value and gradient at the trained weights. `curvature`, about v^T H v,
    only decides the step h. It is as short as rounding allows: a rectifier that switches or a row that changes its
    experts between -2h and 2h gives the loss a kink or a jump, which no Hessian sees. If the differences over h and 2h
    disagree, there was a kink. Then the difference of the slopes at 0 and at a far smaller h is taken instead: with a
    million rectifiers, kinks are closer together than losses in float64 can resolve.
    """
    value, gradient = start
    step = resolving_step(value.loss, curvature)
    line = along(objective, direction, [-2 * step, -step, 0.0, step, 2 * step], value)
    near, far = line.second_difference(1), line.second_difference(2)
    if not any(line.rerouted) and abs(near - far) <= _AGREED * abs(near):
        return SecondDifference(line, near, "losses")
    step *= _SLOPE_STEP
    _, beyond = objective.with_gradient(objective.weights + step * direction)
    return SecondDifference(line, torch.dot(beyond - gradient, direction).item() / step, "slopes")


def resolving_step(loss: float, curvature: float) -> float:
    """Return the step at which rounding of a float64 loss moves its second difference by `RESOLVED` of `curvature`."""
    if curvature == 0 or loss == 0:
        return 1e-4
    return math.sqrt(4 * _ROUNDING * loss / (RESOLVED * abs(curvature)))


def filter_normalised(objective: Objective, generator: torch.Generator) -> Tensor:
    """Return a random direction (P,) in which every filter is as long as the trained one (Li et al. 2018).

    A filter is the weights of one output channel or unit. Biases and the shifts of batch normalisation do not move.
    """
    directions = []
    for item, weight in zip(objective.block.slices, objective.split(objective.weights), strict=True):
        drawn = torch.randn(weight.shape, dtype=torch.float64, generator=generator).to(weight)
        kind = item.name.rpartition(".")[2]
        if kind in ("b1", "b2", "bias") or weight.ndim == 1:
            directions.append(torch.zeros_like(weight))
            continue
        inputs = (
            [weight.ndim - 2] if kind in ("w1", "w2") else list(range(1, weight.ndim))
        )  # (E, D, H), else (out, ...)
        drawn_length, length = (torch.linalg.vector_norm(v, dim=inputs, keepdim=True) for v in (drawn, weight))
        directions.append(drawn / drawn_length.clamp_min(torch.finfo(drawn.dtype).tiny) * length)
    return flat(directions)


def surface(
    objective: Objective,
    directions: tuple[Tensor, Tensor],
    alphas: Sequence[float],
    start: Value,
    progress: Progress = SILENT,
) -> Surface:
    """Return losses and rerouted rows at weights + alpha v + beta w: one row per alpha, one column per beta."""
    weights, side = objective.weights, len(alphas)
    points = [(alpha, beta) for alpha in alphas for beta in alphas]
    with progress.track(points, len(points), "surface") as tracked:
        values = [objective.at(weights + alpha * directions[0] + beta * directions[1]) for alpha, beta in tracked]
    rows = [values[first : first + side] for first in range(0, len(values), side)]
    return Surface(
        alphas=tuple(alphas),
        betas=tuple(alphas),
        losses=tuple(tuple(value.loss for value in row) for row in rows),
        rerouted=tuple(tuple(value.rerouted(start) for value in row) for row in rows),
    )
