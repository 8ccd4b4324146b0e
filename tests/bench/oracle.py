"""A float64 oracle of every head, row by row from the formula, and heads to try it on.

N rows, D input width, H hidden width of one expert, E experts, k experts per row, C output width.
"""

import math
from typing import Any

import numpy as np
import torch
from hypothesis import strategies as st
from torch import Tensor

from models.config import head_config
from models.heads import DenseHead, Head, build_head
from models.sparse import SparseMoEHead

UNDECIDED = 1e-6
"""Scores closer than this share of the terms they sum are equal to float32."""

ACTIVATIONS = {
    "relu": lambda z: z if z > 0 or math.isnan(z) else 0.0,
    "gelu": lambda z: z * math.erfc(-z / math.sqrt(2)) / 2,
    "silu": lambda z: z / (1 + math.exp(-z)) if z > -700 else z * math.exp(z),
}


def new_head(kind: str, seed: int = 0, dtype: torch.dtype = torch.float32, **changes: Any) -> Head:
    """Return a small seeded head ready to run: D = 24, H = 12, C = 5, and E = 4 with k = 2 unless changed."""
    shape = {"features": 24, "hidden": 12, "classes": 5}
    experts = {} if kind == "dense" else {"experts": 4}
    torch.manual_seed(seed)
    config = head_config(kind, "paper", **{**shape, **experts, **changes})
    return build_head(config).to(dtype).eval().requires_grad_(False)


def rows(head: Head, count: int, seed: int = 1) -> Tensor:
    """Return normal rows (N, D) in the head's dtype and on its device."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, head.config.features, generator=generator).to(head.w1)


def logits(head: Head, x: Tensor) -> np.ndarray:
    """Return the logits (N, C) of x (N, D)."""
    parameters = {name: value.cpu().double().numpy() for name, value in head.state_dict().items()}
    found = [_row(head, parameters, row) for row in x.cpu().double().numpy()]
    return np.array(found).reshape(len(x), head.config.classes)


def decided(head: Head, x: Tensor) -> np.ndarray:
    """Return which rows (N,) float32 surely routes as float64 does; only close scores are left open, not equal ones."""
    if not isinstance(head, SparseMoEHead) or head.config.k == head.config.experts:
        return np.ones(len(x), dtype=bool)
    weight, bias = head.gate.weight.cpu().double(), head.gate.bias.cpu().double()
    x = x.cpu().double()
    scores = (x @ weight.T + bias).sort(dim=1, descending=True).values  # (N, E)
    margin = scores[:, head.config.k - 1] - scores[:, head.config.k]
    terms = (x.abs() @ weight.T.abs() + bias.abs()).amax(dim=1)
    return (~((margin > 0) & (margin < UNDECIDED * terms))).numpy()


def deviation(found: Tensor, head: Head, x: Tensor) -> float:
    """Return the largest deviation of `found` (N, C), relative to its row's largest logit, over decided rows.

    A row whose logits cancel to almost nothing is held to the median row. Infinite where shape or dtype are wrong,
    and where NaN stand in other places.
    """
    if found.shape != (len(x), head.config.classes) or found.dtype != x.dtype:
        return math.inf
    keep = decided(head, x)
    want, got = logits(head, x)[keep], found.cpu().double().numpy()[keep]
    if not np.array_equal(np.isnan(want), np.isnan(got)):
        return math.inf
    finite = ~np.isnan(want).any(axis=1)
    want, got = want[finite], got[finite]
    if len(want) == 0:
        return 0.0
    size = np.abs(want).max(axis=1)
    return float((np.abs(got - want).max(axis=1) / np.maximum(size, np.median(size))).max())


def _row(head: Head, parameters: dict[str, np.ndarray], x: np.ndarray) -> np.ndarray:
    config = head.config
    experts = [parameters[name] for name in ("w1", "b1", "w2", "b2")]
    if isinstance(head, DenseHead):
        return _expert(config.activation, x, *experts)
    scores = [float(x @ w + b) for w, b in zip(parameters["gate.weight"], parameters["gate.bias"], strict=True)]
    chosen, weights = _route(head, scores)
    out = np.zeros(config.classes)
    for e, weight in zip(chosen, weights, strict=True):
        out += weight * _expert(config.activation, x, *(stacked[e] for stacked in experts))
    return out


def _route(head: Head, scores: list[float]) -> tuple[list[int], list[float]]:
    """Return the ids and weights of one row's experts."""
    E = len(scores)
    if any(math.isnan(score) for score in scores):
        return [0], [math.nan]
    if not isinstance(head, SparseMoEHead):
        return list(range(E)), _softmax(scores, head.config.temperature)
    if head.config.standardise:
        mean = math.fsum(scores) / E
        spread = math.sqrt(math.fsum((score - mean) ** 2 for score in scores) / (E - 1)) if E > 1 else 0.0
        equal = len(set(scores)) == 1
        scores = [0.0 if equal else (score - mean) / spread for score in scores]
    chosen = sorted(range(E), key=lambda e: (-scores[e], e))[: head.config.k]
    if head.config.weights_over == "selected":
        return chosen, _softmax([scores[e] for e in chosen], head.config.temperature)
    shares = _softmax(scores, head.config.temperature)
    return chosen, [shares[e] for e in chosen]


def _softmax(scores: list[float], temperature: float) -> list[float]:
    top = max(scores)
    exponentials = [math.exp((score - top) / temperature) for score in scores]
    return [value / math.fsum(exponentials) for value in exponentials]


def _expert(
    activation: str, x: np.ndarray, w1: np.ndarray, b1: np.ndarray, w2: np.ndarray, b2: np.ndarray
) -> np.ndarray:
    hidden = np.array([ACTIVATIONS[activation](z) for z in (x @ w1 + b1)])  # (H,)
    return hidden @ w2 + b2


@st.composite
def configurations(draw: st.DrawFn) -> tuple[str, dict[str, Any]]:
    """Draw a kind of head and small settings that are valid for it."""
    kind = draw(st.sampled_from(["dense", "soft", "sparse"]))
    changes: dict[str, Any] = {
        "features": draw(st.integers(1, 33)),
        "hidden": draw(st.integers(1, 17)),
        "classes": draw(st.integers(1, 9)),
        "activation": draw(st.sampled_from(sorted(ACTIVATIONS))),
    }
    if kind != "dense":
        changes["experts"] = draw(st.integers(1, 9))
        changes["temperature"] = draw(st.sampled_from([0.25, 1.0, 4.0]))
    if kind == "sparse":
        changes["k"] = draw(st.integers(1, changes["experts"]))
        changes["standardise"] = draw(st.booleans())
        only_all = changes["k"] == 1 < changes["experts"]
        changes["weights_over"] = "all" if only_all else draw(st.sampled_from(["selected", "all"]))
    return kind, changes
