"""The float64 reference every form is held to, written in NumPy apart from the heads themselves.

Letters: N rows, D input width, H hidden width of one expert, E experts, k experts per row, C output width.

    scores = x gate^T + gate_bias                                               (N, E)
    sparse, if standardise: scores = (scores - mean) / std                      per row, std over n - 1, 0 / 0 = 0
    sparse: the experts that the policy selects (`bench.decisions`) by scores + correction; soft: all E
    weights = softmax(scores / temperature)                                     over the selected, or over all E
    logits = sum over selected e of weight_e (activation(x w1_e + b1_e) w2_e + b2_e)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import erf, expit

from bench.decisions import decide
from models.config import DenseConfig, HeadConfig, SoftConfig, SparseConfig

Float64 = NDArray[np.float64]

ACTIVATIONS: dict[str, Callable[[Float64], Float64]] = {
    "relu": lambda x: np.maximum(x, 0.0),
    "gelu": lambda x: 0.5 * x * (1.0 + erf(x / np.sqrt(2.0))),
    "silu": lambda x: x * expit(x),
}
EXPERT = ("w1", "b1", "w2", "b2")
DECIDABLE = 1e-6
"""Scores closer than this share of sum_d |x_d gate_d| are a tie to float32, whose own rounding is of that size."""


@dataclass(frozen=True)
class Reference:
    """Logits (N, C) in float64, and which rows (N,) a float32 router may send elsewhere in more ways than one.

    Rows with a single assignment that float32 may or may not make have `otherwise` the logits (N, C) of the other
    case; elsewhere these are `logits`.
    """

    logits: Float64
    ambiguous: NDArray[np.bool_]
    otherwise: Float64 | None = None


def reference(config: HeadConfig, weights: Mapping[str, NDArray[np.floating]], x: NDArray[np.floating]) -> Reference:
    """Return the logits of x (N, D) under the head's parameters, named as in a checkpoint without `head.`."""
    rows: Float64 = x.astype(np.float64)
    parameters: dict[str, Float64] = {name: value.astype(np.float64) for name, value in weights.items()}
    with np.errstate(all="ignore"):
        if isinstance(config, DenseConfig):
            logits = _expert(config.activation, rows, *(parameters[name] for name in EXPERT))
            return Reference(logits, np.zeros(len(rows), dtype=bool))
        scores = rows @ parameters["gate.weight"].T + parameters["gate.bias"]  # (N, E)
        if isinstance(config, SoftConfig):
            logits = _mixture(config, parameters, rows, _softmax(scores / config.temperature))
            return Reference(logits, np.zeros(len(rows), dtype=bool))
        return _sparse(config, parameters, rows, scores)


def _sparse(config: SparseConfig, parameters: Mapping[str, Float64], x: Float64, scores: Float64) -> Reference:
    magnitude = np.abs(x) @ np.abs(parameters["gate.weight"].T) + np.abs(parameters["gate.bias"])  # (N, E)
    error = DECIDABLE * magnitude.max(axis=1)  # (N,)
    if config.standardise:
        scores, std = _standardise(scores)
        error = np.where((error == 0) | (config.experts == 1), 0.0, error / std[:, 0])  # a single score is exactly 0
    ranking = scores
    if config.bias_correction:
        ranking = scores + parameters["correction"]
        error = error + DECIDABLE * np.abs(parameters["correction"]).max()
    found = decide(config, ranking, error)
    logits = _mixture(config, parameters, x, _weights(config, scores, found.selected))
    number = found.undecided.sum(axis=1)  # (N,)
    single = number == 1
    otherwise = logits.copy()
    other = found.selected[single] ^ found.undecided[single]
    otherwise[single] = _mixture(config, parameters, x[single], _weights(config, scores[single], other))
    return Reference(logits, number > 1, otherwise)


def _mixture(
    config: SoftConfig | SparseConfig, parameters: Mapping[str, Float64], x: Float64, weights: Float64
) -> Float64:
    """Return the experts' outputs for x (N, D), weighted by `weights` (N, E)."""
    logits = np.zeros((len(x), config.classes))
    for e in range(config.experts):
        rows = np.flatnonzero(weights[:, e] != 0)
        expert = (parameters[name][e] for name in EXPERT)
        logits[rows] += weights[rows, e, None] * _expert(config.activation, x[rows], *expert)
    return logits


def _weights(config: SparseConfig, scores: Float64, selected: NDArray[np.bool_]) -> Float64:
    """Return weights (N, E), zero where an expert is not selected."""
    scores = scores / config.temperature
    if config.weights_over == "selected":
        scores = np.where(selected | np.isnan(scores), scores, -np.inf)
    return np.where(selected, _softmax(scores), 0.0)


def _standardise(scores: Float64) -> tuple[Float64, Float64]:
    """Return scores (N, E) with mean 0 and standard deviation 1 per row, and their deviations (N, 1) before."""
    deviation = scores - scores.mean(axis=1, keepdims=True)
    std = np.sqrt((deviation**2).sum(axis=1, keepdims=True) / max(scores.shape[1] - 1, 1))
    standardised: Float64 = np.where(std == 0, 0.0, deviation / std)
    return standardised, std


def _softmax(scores: Float64) -> Float64:
    exponentials: Float64 = np.exp(scores - scores.max(axis=1, keepdims=True))
    weights: Float64 = exponentials / exponentials.sum(axis=1, keepdims=True)
    return weights


def _expert(activation: str, x: Float64, w1: Float64, b1: Float64, w2: Float64, b2: Float64) -> Float64:
    return ACTIVATIONS[activation](x @ w1 + b1) @ w2 + b2
