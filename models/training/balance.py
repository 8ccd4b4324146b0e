"""Losses that keep all experts of a mixture in use.

Letters: N rows, E experts, k experts per row, M assignments of a row to an expert.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from models.heads.heads import HeadConfig
from models.routing import Routing
from models.settings import Config, ConfigError

Weight = Annotated[float, Field(ge=0)]


class BalanceWeights(Config):
    """Weights of the balance losses; `correction` is not a loss but the rate of `SparseMoEHead.correct`."""

    kl: Weight = 0.0
    importance: Weight = 0.0
    load: Weight = 0.0
    switch: Weight = 0.0
    z: Weight = 0.0
    correction: Weight = 0.0


def total(routing: Routing | None, weights: BalanceWeights, config: HeadConfig) -> Tensor | float:
    """Return the weighted sum of the head's balance losses; 0 for a dense head.

    Raises `ConfigError` for a term that the head cannot have, and `ValueError` for `load` without noise.
    """
    check(weights, config)
    if routing is None:
        return 0.0
    losses: dict[str, Callable[[], Tensor]] = {
        "kl": lambda: kl_to_uniform(torch.softmax(routing.scores / config.temperature, dim=-1)),
        "importance": lambda: importance_loss(routing),
        "load": lambda: load_loss(routing, config.most_experts),
        "switch": lambda: switch_loss(routing, config.temperature),
        "z": lambda: z_loss(routing),
    }
    loss: Tensor | float = sum(weight * losses[term]() for term, weight in weights if weight and term in losses)
    return loss


def check(weights: BalanceWeights, config: HeadConfig) -> None:
    """Raise `ConfigError` if `weights` ask for a term that the head cannot have."""
    for term, weight in weights:
        if weight and (reason := config.refusal(term)):
            raise ConfigError(f"balance {term} = {weight:g}: {reason}; set {term} to 0")


def kl_to_uniform(weights: Tensor) -> Tensor:
    """Return KL(p || uniform) in nats for p the mean over rows of gate weights (N, E) that sum to one per row."""
    p = weights.mean(dim=0)  # (E,)
    logarithm = p.clamp_min(torch.finfo(p.dtype).tiny).log()  # finite, and so is its gradient, for an unused expert
    return (p * logarithm).sum() + math.log(weights.shape[-1])


def importance_loss(routing: Routing) -> Tensor:
    """Return CV^2 over experts of their summed weights (Shazeer et al. 2017, equations 6 and 7)."""
    return cv_squared(routing.matrix().sum(dim=0))


def load_loss(routing: Routing, k: int | None = None) -> Tensor:
    """Return CV^2 over experts of `expected_load` (Shazeer et al. 2017, equation 11)."""
    return cv_squared(expected_load(routing, k))


def expected_load(routing: Routing, k: int | None = None) -> Tensor:
    """Return the smooth number of rows (E,) that want each expert (Shazeer et al. 2017, equations 8 to 10).

    A row wants expert e with the probability that its clean score plus fresh noise passes the k-th largest noisy score
    of the other experts. By default k is that of the routing. Limits of rows and corrections of the choice come later
    and do not count. Raises `ValueError` for routing without noise, which makes the probability a step, and for routing
    without a fixed k.
    """
    if routing.noisy is None or routing.noise_std is None:
        raise ValueError("expected_load needs routing with noise; route with the head in training mode")
    if k is None:
        k = routing.ids.shape[-1]
    if k == routing.scores.shape[-1]:
        return torch.ones_like(routing.scores).sum(dim=0)
    top = torch.topk(routing.noisy, k + 1, dim=-1)  # (N, k + 1)
    wanted = torch.zeros_like(routing.scores, dtype=torch.bool).scatter(-1, top.indices[:, :k], True)
    bar = torch.where(wanted, top.values[:, k:], top.values[:, k - 1 : k])  # (N, E): the score that e has to pass
    passes: Tensor = torch.special.ndtr((routing.scores - bar) / routing.noise_std)  # (N, E)
    return passes.sum(dim=0)


def switch_loss(routing: Routing, temperature: float = 1.0) -> Tensor:
    """Return E sum_e f_e P_e, 1 if either is even (Fedus et al. 2021, equations 4 to 6).

    f_e is the share of the M assignments that expert e serves; no gradient flows through it. P_e is the mean over rows
    of its share softmax(scores / temperature).
    """
    share = torch.softmax(routing.scores / temperature, dim=-1).mean(dim=0)  # (E,)
    served = routing.load().to(share.dtype) / max(routing.experts.shape[0], 1)  # (E,)
    return routing.scores.shape[-1] * (served * share).sum()


def z_loss(routing: Routing) -> Tensor:
    """Return the mean over rows of logsumexp(s)^2, which keeps scores small (Zoph et al. 2022, equation 5).

    s are the scores before any standardisation, since standardised scores always have the same size.
    """
    scores = routing.scores if routing.raw is None else routing.raw
    return torch.logsumexp(scores, dim=-1).square().mean()


def cv_squared(amounts: Tensor) -> Tensor:
    """Return the squared coefficient of variation (population variance / mean^2) of amounts (E,); 0 when E = 1."""
    return amounts.var(correction=0) / amounts.mean().square().clamp_min(torch.finfo(amounts.dtype).tiny)
