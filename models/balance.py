"""Losses that keep a mixture's experts in use.

Letters: N rows, E experts, k experts per row.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from models.routing import Routing


def kl_to_uniform(weights: Tensor) -> Tensor:
    """Return KL(p || uniform) in nats for p the mean over rows of gate weights (N, E) that sum to one per row."""
    p = weights.mean(dim=0)  # (E,)
    logarithm = p.clamp_min(torch.finfo(p.dtype).tiny).log()  # finite, and so is its gradient, for an unused expert
    return (p * logarithm).sum() + math.log(weights.shape[-1])


def importance_loss(routing: Routing) -> Tensor:
    """Return CV^2 over experts of their summed weights (Shazeer et al. 2017, equations 6 and 7)."""
    importance = torch.zeros_like(routing.scores).scatter_add(-1, routing.ids.long(), routing.weights)  # (N, E)
    return cv_squared(importance.sum(dim=0))


def load_loss(routing: Routing) -> Tensor:
    """Return CV^2 over experts of `expected_load` (Shazeer et al. 2017, equation 11)."""
    return cv_squared(expected_load(routing))


def expected_load(routing: Routing) -> Tensor:
    """Return the smooth number of rows (E,) that select each expert (Shazeer et al. 2017, equations 8 to 10).

    P(e is selected) is that of its clean score plus fresh noise passing the k-th largest of the other experts'
    noisy scores. Raises `ValueError` for routing without noise, where that probability is a step.
    """
    if routing.noisy is None or routing.noise_std is None:
        raise ValueError("expected_load needs routing with noise; route with the head in training mode")
    k, experts = routing.ids.shape[-1], routing.scores.shape[-1]
    if k == experts:
        return torch.ones_like(routing.scores).sum(dim=0)
    top = torch.topk(routing.noisy, k + 1, dim=-1).values  # (N, k + 1)
    selected = torch.zeros_like(routing.scores, dtype=torch.bool).scatter(-1, routing.ids.long(), True)
    bar = torch.where(selected, top[:, k:], top[:, k - 1 : k])  # (N, E): the score that e has to pass
    passes: Tensor = torch.special.ndtr((routing.scores - bar) / routing.noise_std)  # (N, E)
    return passes.sum(dim=0)


def cv_squared(amounts: Tensor) -> Tensor:
    """Return the squared coefficient of variation (population variance / mean^2) of amounts (E,); 0 when E = 1."""
    return amounts.var(correction=0) / amounts.mean().square().clamp_min(torch.finfo(amounts.dtype).tiny)
