"""How far the loss rises within a ball around the trained weights: the sharpness of SAM and ASAM.

Letters: P weights.
"""

from __future__ import annotations

import torch
from torch import Tensor

from models.sharpness.objective import Objective, Value
from reports.records.sharpness import WorstCase

RADII = (0.01, 0.05, 0.1)
ADAPTIVE_RADII = (0.1, 0.5, 1.0)
STEPS = 3


def worst_rise(
    objective: Objective,
    radius: float,
    generator: torch.Generator,
    *,
    adaptive: bool,
    start: tuple[Value, Tensor] | None = None,
) -> WorstCase:
    """Return the largest rise of the loss over perturbations e (P,) with ||e|| <= `radius`.

    The first perturbation is the normalised gradient step of SAM (Foret et al. 2021). Two more steps, also to the
    border of the ball, take the gradient at the point before. `adaptive` bounds e / |w| instead of e, so that rescaling
    the network without changing its function changes nothing (Kwon et al. 2021); weights of zero then stay. The best of
    these points is reported, so the true maximum is at least that. A random direction replaces a gradient of zero.
    `start` is value and gradient (P,) at the trained weights, if they are known.
    """
    weights = objective.weights
    scale = weights.abs() if adaptive else torch.ones_like(weights)
    here, gradient = start or objective.with_gradient(weights)
    best = WorstCase(radius=radius, loss_increase=0.0, rerouted=0)
    for step in range(1, STEPS + 1):
        there = weights + _steepest(gradient, scale, radius, generator)
        if step < STEPS:
            value, gradient = objective.with_gradient(there)
        else:
            value = objective.at(there)
        if (increase := value.loss - here.loss) > best.loss_increase:
            best = WorstCase(radius=radius, loss_increase=increase, rerouted=value.rerouted(here))
    return best


def _steepest(gradient: Tensor, scale: Tensor, radius: float, generator: torch.Generator) -> Tensor:
    """Return the e (P,) with ||e / scale|| = radius along which a linear function with this gradient rises most."""
    scaled = scale * gradient
    if not scaled.any():
        scaled = torch.randn(len(scaled), dtype=torch.float64, generator=generator).to(scaled)
    steepest: Tensor = radius * scale * (scaled / scaled.norm())
    return steepest
