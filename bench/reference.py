"""The float64 reference every form is held to, written in NumPy apart from the heads themselves.

Letters: N rows, D input width, H hidden width of one expert, E experts, k experts per row, C output width.

    scores = x gate^T + gate_bias                                               (N, E)
    sparse, if standardise: scores = (scores - mean) / std                      per row, std over n - 1, 0 / 0 = 0
    sparse: the k largest scores, ties to the lowest id; soft: all E
    weights = softmax(scores / temperature)                                     over the selected, or over all E
    logits = sum over selected e of weight_e (activation(x w1_e + b1_e) w2_e + b2_e)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import erf, expit

from models.config import DenseConfig, HeadConfig, SoftConfig, SparseConfig

Float64 = NDArray[np.float64]

ACTIVATIONS: dict[str, Callable[[Float64], Float64]] = {
    "relu": lambda x: np.maximum(x, 0.0),
    "gelu": lambda x: 0.5 * x * (1.0 + erf(x / np.sqrt(2.0))),
    "silu": lambda x: x * expit(x),
}
DECIDABLE = 1e-6
"""Scores closer than this share of sum_d |x_d gate_d| are a tie to float32, whose own rounding is of that size."""


@dataclass(frozen=True)
class Reference:
    """Logits (N, C) in float64, and which rows (N,) a float32 router may send elsewhere."""

    logits: Float64
    ambiguous: NDArray[np.bool_]


def reference(config: HeadConfig, weights: Mapping[str, NDArray[np.floating]], x: NDArray[np.floating]) -> Reference:
    """Return the logits of x (N, D) under the head's parameters, named as in a checkpoint without `head.`."""
    rows: Float64 = x.astype(np.float64)
    parameters: dict[str, Float64] = {name: value.astype(np.float64) for name, value in weights.items()}
    with np.errstate(all="ignore"):
        if isinstance(config, DenseConfig):
            logits = _expert(config.activation, rows, *(parameters[name] for name in ("w1", "b1", "w2", "b2")))
            return Reference(logits, np.zeros(len(rows), dtype=bool))
        return _mixture(config, parameters, rows)


def _mixture(config: SoftConfig | SparseConfig, parameters: Mapping[str, Float64], x: Float64) -> Reference:
    scores = x @ parameters["gate.weight"].T + parameters["gate.bias"]  # (N, E)
    ambiguous = np.zeros(len(x), dtype=bool)
    if isinstance(config, SparseConfig):
        magnitude = np.abs(x) @ np.abs(parameters["gate.weight"].T) + np.abs(parameters["gate.bias"])  # (N, E)
        ambiguous = _ambiguous(scores, magnitude.max(axis=1), config.k)
        weights = _sparse_weights(config, scores)
    else:
        weights = _softmax(scores / config.temperature)
    logits = np.zeros((len(x), config.classes))
    for e in range(config.experts):
        rows = np.flatnonzero(weights[:, e] != 0)
        expert = (parameters[name][e] for name in ("w1", "b1", "w2", "b2"))
        logits[rows] += weights[rows, e, None] * _expert(config.activation, x[rows], *expert)
    return Reference(logits, ambiguous)


def _sparse_weights(config: SparseConfig, scores: Float64) -> Float64:
    """Return weights (N, E), zero where an expert is not selected."""
    if config.standardise:
        scores = _standardise(scores)
    rank = np.argsort(np.argsort(-scores, axis=1, kind="stable"), axis=1)  # (N, E); NaN ranks last, its row is NaN
    selected = rank < config.k
    scores = scores / config.temperature
    if config.weights_over == "selected":
        return _softmax(np.where(selected | np.isnan(scores), scores, -np.inf))
    return np.where(selected | np.isnan(scores), _softmax(scores), 0.0)


def _standardise(scores: Float64) -> Float64:
    deviation = scores - scores.mean(axis=1, keepdims=True)
    std = np.sqrt((deviation**2).sum(axis=1, keepdims=True) / max(scores.shape[1] - 1, 1))
    standardised: Float64 = np.where(std == 0, 0.0, deviation / std)
    return standardised


def _ambiguous(scores: Float64, magnitude: Float64, k: int) -> NDArray[np.bool_]:
    """Return the rows (N,) whose k-th and next of scores (N, E) float32 cannot tell apart."""
    if k == scores.shape[1]:
        return np.zeros(len(scores), dtype=bool)
    ordered = -np.sort(-scores, axis=1)
    margin = ordered[:, k - 1] - ordered[:, k]
    return margin < DECIDABLE * magnitude


def _softmax(scores: Float64) -> Float64:
    exponentials: Float64 = np.exp(scores - scores.max(axis=1, keepdims=True))
    weights: Float64 = exponentials / exponentials.sum(axis=1, keepdims=True)
    return weights


def _expert(activation: str, x: Float64, w1: Float64, b1: Float64, w2: Float64, b2: Float64) -> Float64:
    return ACTIVATIONS[activation](x @ w1 + b1) @ w2 + b2
