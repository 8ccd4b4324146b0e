"""The float64 reference for every form, written independently of the heads.

Routing is decided in NumPy. The experts' products are computed on the device of their weights, because a large layer
would take minutes on the CPU.

Letters: N rows, D input width, H hidden width of one expert, E experts, k experts per row, C output width. With swiglu
w1 and b1 have 2H columns, the gate's first.

    scores = x gate^T + gate_bias                                               (N, E)
    sparse, if standardise: scores = (scores - mean) / std                      per row, std over n - 1, 0 / 0 = 0
    sparse: the experts that the policy selects (its `decide`) by scores + correction; soft: all E
    weights = softmax(scores / temperature)                                     over the selected, or over all E
    logits = sum over selected e of weight_e (activation(x w1_e + b1_e) w2_e + b2_e)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import softmax
from torch import Tensor

from models.heads.dense import DenseConfig
from models.heads.heads import HeadConfig
from models.heads.soft import SoftConfig
from models.routing.decision import Float64
from models.routing.policy import SparseConfig

Weights = Mapping[str, Tensor]

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": lambda x: x.clamp_min(0.0),
    "gelu": lambda x: 0.5 * x * (1.0 + torch.erf(x / 2.0**0.5)),
    "silu": lambda x: x * torch.sigmoid(x),
    "swiglu": lambda x: _swiglu(*x.split(x.shape[-1] // 2, dim=-1)),
}
EXPERT = ("w1", "b1", "w2", "b2")
DECIDABLE = 1e-6
"""Scores closer than this share of sum_d |x_d gate_d| are a tie in float32, whose rounding is of that size."""


@dataclass(frozen=True)
class Reference:
    """Logits (N, C) in float64, and which rows (N,) have two or more assignments that float32 cannot decide.

    `otherwise` (N, C) has the other outcome for rows with a single such assignment, and the `logits` of all other rows.
    """

    logits: Float64
    ambiguous: NDArray[np.bool_]
    otherwise: Float64 | None = None


def reference(config: HeadConfig, weights: Weights, x: Tensor) -> Reference:
    """Return the logits of x (N, D) under the head's parameters, named as in a checkpoint without `head.`.

    Weights are widened to float64 one expert at a time, so that a large layer needs little more memory.
    """
    rows = _wide(x)
    with np.errstate(all="ignore"):
        if isinstance(config, DenseConfig):
            logits = _expert(config.activation, rows, *(weights[name] for name in EXPERT))
            return Reference(logits, np.zeros(len(rows), dtype=bool))
        gate, bias = _wide(weights["gate.weight"]), _wide(weights["gate.bias"])
        scores = rows @ gate.T + bias  # (N, E)
        if isinstance(config, SoftConfig):
            logits = _mixture(config, weights, rows, softmax(scores / config.temperature, axis=1))
            return Reference(logits, np.zeros(len(rows), dtype=bool))
        magnitude = np.abs(rows) @ np.abs(gate.T) + np.abs(bias)  # (N, E)
        return _sparse(config, weights, rows, scores, magnitude)


def _sparse(config: SparseConfig, weights: Weights, x: Float64, scores: Float64, magnitude: Float64) -> Reference:
    """Return the reference from scores (N, E) and the sums `magnitude` (N, E) of the terms' absolute values."""
    error = DECIDABLE * magnitude.max(axis=1)  # (N,)
    if config.standardise:
        scores, std = _standardise(scores)
        error = np.where((error == 0) | (config.experts == 1), 0.0, error / std[:, 0])  # a single score is exactly 0
    ranking = scores
    if config.bias_correction:
        correction = _wide(weights["correction"])  # (E,)
        ranking = scores + correction
        error = error + DECIDABLE * np.abs(correction).max()
    decision = config.decision(ranking, error)
    logits = _mixture(config, weights, x, _shares(config, scores, decision.selected))
    number = decision.undecided.sum(axis=1)  # (N,)
    single = number == 1
    otherwise = logits.copy()
    other = decision.selected[single] ^ decision.undecided[single]
    otherwise[single] = _mixture(config, weights, x[single], _shares(config, scores[single], other))
    return Reference(logits, number > 1, otherwise)


def _mixture(config: SoftConfig | SparseConfig, weights: Weights, x: Float64, shares: Float64) -> Float64:
    """Return the experts' outputs for x (N, D), weighted by `shares` (N, E)."""
    logits = np.zeros((len(x), config.classes))
    for e in np.flatnonzero((shares != 0).any(axis=0)):
        rows = np.flatnonzero(shares[:, e] != 0)
        expert = (weights[name][e] for name in EXPERT)
        logits[rows] += shares[rows, e, None] * _expert(config.activation, x[rows], *expert)
    return logits


def _shares(config: SparseConfig, scores: Float64, selected: NDArray[np.bool_]) -> Float64:
    """Return weights (N, E), zero if an expert is not selected."""
    scores = scores / config.temperature
    if config.weights_over == "selected":
        scores = np.where(selected | np.isnan(scores), scores, -np.inf)
    return np.where(selected, softmax(scores, axis=1), 0.0)


def _standardise(scores: Float64) -> tuple[Float64, Float64]:
    """Return scores (N, E) with mean 0 and standard deviation 1 per row, and their deviations (N, 1) before."""
    deviation = scores - scores.mean(axis=1, keepdims=True)
    std = np.sqrt((deviation**2).sum(axis=1, keepdims=True) / max(scores.shape[1] - 1, 1))
    standardised: Float64 = np.where(std == 0, 0.0, deviation / std)
    return standardised, std


def _expert(activation: str, x: Float64, *weights: Tensor) -> Float64:
    """Return the output (m, C) of the expert with `weights` w1, b1, w2, b2 for x (m, D)."""
    w1, b1, w2, b2 = (weight.double() for weight in weights)
    rows = torch.from_numpy(x).to(w1.device)
    return _wide(ACTIVATIONS[activation](rows @ w1 + b1) @ w2 + b2)


def _swiglu(gate: Tensor, value: Tensor) -> Tensor:
    return gate * torch.sigmoid(gate) * value


def _wide(values: Tensor) -> Float64:
    wide: Float64 = values.detach().cpu().double().numpy()
    return wide
