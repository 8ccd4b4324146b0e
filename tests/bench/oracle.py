"""A float64 oracle of every head, row by row from the formula, and heads to try it on.

N rows, D input width, H hidden width of one expert, E experts, k experts per row, C output width.
"""

import math
from fractions import Fraction
from itertools import pairwise
from typing import Any, get_args

import numpy as np
import torch
from hypothesis import strategies as st
from torch import Tensor

from models.config import head_config
from models.heads.heads import DenseHead, Head, build_head
from models.heads.sparse import SparseMoEHead
from models.routing.policies import POLICIES
from models.routing.policy import SparseConfig
from models.settings import Activation

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
    head = build_head(config)
    if isinstance(head, SparseMoEHead) and head.config.bias_correction:
        head.correction.copy_(torch.randn(head.config.experts) / 4)
    return head.to(dtype).eval().requires_grad_(False)


def rows(head: Head, count: int, seed: int = 1) -> Tensor:
    """Return normal rows (N, D) in the head's dtype and on its device."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, head.config.features, generator=generator).to(head.w1)


def logits(head: Head, x: Tensor) -> np.ndarray:
    """Return the logits (N, C) of x (N, D)."""
    parameters = {name: value.cpu().double().numpy() for name, value in head.state_dict().items()}
    rows = list(x.cpu().double().numpy())
    found = np.zeros((len(rows), head.config.classes))
    experts = [parameters[name] for name in ("w1", "b1", "w2", "b2")]
    if isinstance(head, DenseHead):
        for n, row in enumerate(rows):
            found[n] = _expert(head.config.activation, row, *experts)
        return found
    for n, (row, weights) in enumerate(zip(rows, _weights(head, parameters, rows), strict=True)):
        for e, weight in weights.items():
            found[n] += weight * _expert(head.config.activation, row, *(stacked[e] for stacked in experts))
        if head.config.batch_coupled and np.isnan(row).any():
            found[n] = math.nan
    return found


def decided(head: Head, x: Tensor) -> np.ndarray:
    """Return which rows (N,) float32 surely routes as float64 does; only close values are left open, not equal ones.

    Where rows compete for places, one that is open leaves all others open.
    """
    if not isinstance(head, SparseMoEHead):
        return np.ones(len(x), dtype=bool)
    parameters = {name: value.cpu().double().numpy() for name, value in head.state_dict().items()}
    rows = list(x.cpu().double().numpy())
    closed = [_is_decided(head.config, parameters, row) for row in rows]
    if head.config.policy == "expert_choice":
        closed = [all(closed) and _cuts_are_clear(head, parameters, rows)] * len(rows)
    if head.config.policy == "capacity":
        closed = [all(closed)] * len(rows)
    return np.array(closed, dtype=bool)


def _is_decided(config: SparseConfig, parameters: dict[str, np.ndarray], row: np.ndarray) -> bool:
    (raw,) = _scores(parameters, [row])
    if any(math.isnan(score) for score in raw):
        return True
    terms = max(
        float(np.abs(row) @ np.abs(w) + abs(b))
        for w, b in zip(parameters["gate.weight"], parameters["gate.bias"], strict=True)
    )
    (ranking,) = _rankings(config, parameters, [_standardised(raw) if config.standardise else raw])
    spread = float(np.std(raw, ddof=1)) if config.standardise and len(raw) > 1 else 1.0
    step = UNDECIDED * (terms / spread if spread else 0.0) + (UNDECIDED if config.bias_correction else 0.0)
    best = sorted(ranking, reverse=True)
    gaps = [above - below for above, below in pairwise(best)]
    first = config.k - 1 if config.policy == "top_k" else 0
    counted = gaps[first:] if getattr(config, "overflow", "drop") == "next" else gaps[first : config.k]
    if config.policy != "expert_choice" and any(0 < gap < step for gap in counted):
        return False
    shares = sorted(_softmax(ranking, config.temperature), reverse=True)
    sums = [math.fsum(shares[:number]) for number in range(1, config.k)]
    values = {"top_p": sums, "threshold": shares}.get(config.policy, [])
    edge = getattr(config, {"top_p": "mass"}.get(config.policy, "threshold"), None)
    return all(not 0 < abs(value - edge) < step / config.temperature for value in values)


def _cuts_are_clear(head: SparseMoEHead, parameters: dict[str, np.ndarray], rows: list[np.ndarray]) -> bool:
    """Return whether the last row that each expert takes and the next differ clearly or not at all."""
    places = _places(head.config, len(rows))
    shares = [_softmax(ranking, head.config.temperature) for ranking in _all_rankings(head, parameters, rows)]
    for column in zip(*shares, strict=True):
        best = sorted(column, reverse=True)
        if places < len(best) and 0 < best[places - 1] - best[places] < 1e-5:
            return False
    return True


def deviation(found: Tensor, head: Head, x: Tensor) -> float:
    """Return the largest deviation of `found` (N, C), relative to its row's largest logit, over decided rows.

    A row whose logits cancel to almost nothing, or that no expert serves, is held to the median of the others. Infinite
    where shape or dtype are wrong, where NaN stand in other places, and where no row is decided.
    """
    if found.shape != (len(x), head.config.classes) or found.dtype != x.dtype:
        return math.inf
    keep = decided(head, x)
    if len(x) and not keep.any():
        return math.inf
    want, got = logits(head, x)[keep], found.cpu().double().numpy()[keep]
    if not np.array_equal(np.isnan(want), np.isnan(got)):
        return math.inf
    finite = ~np.isnan(want).any(axis=1)
    want, got = want[finite], got[finite]
    if len(want) == 0:
        return 0.0
    size = np.abs(want).max(axis=1)
    median = np.median(size[size > 0]) if size.any() else 1.0
    return float((np.abs(got - want).max(axis=1) / np.maximum(size, median)).max())


def _weights(head: Head, parameters: dict[str, np.ndarray], rows: list[np.ndarray]) -> list[dict[int, float]]:
    """Return the weights of each row's experts."""
    config, scores = head.config, _scores(parameters, rows)
    if not isinstance(head, SparseMoEHead):
        return [dict(enumerate(_softmax(row, config.temperature))) for row in scores]
    if config.standardise:
        scores = [_standardised(row) for row in scores]
    found: list[dict[int, float]] = []
    for row, chosen in zip(scores, serving(config, _rankings(config, parameters, scores)), strict=True):
        if config.weights_over == "selected":
            found.append(dict(zip(chosen, _softmax([row[e] for e in chosen], config.temperature), strict=True)))
        else:
            shares = _softmax(row, config.temperature)
            found.append({e: shares[e] for e in chosen})
    return found


def _scores(parameters: dict[str, np.ndarray], rows: list[np.ndarray]) -> list[list[float]]:
    gate = list(zip(parameters["gate.weight"], parameters["gate.bias"], strict=True))
    return [[float(row @ w + b) for w, b in gate] for row in rows]


def _rankings(config: SparseConfig, parameters: dict[str, np.ndarray], scores: list[list[float]]) -> list[list[float]]:
    if not config.bias_correction:
        return scores
    return [[score + float(c) for score, c in zip(row, parameters["correction"], strict=True)] for row in scores]


def _all_rankings(head: SparseMoEHead, parameters: dict[str, np.ndarray], rows: list[np.ndarray]) -> list[list[float]]:
    scores = _scores(parameters, rows)
    scores = [_standardised(row) for row in scores] if head.config.standardise else scores
    return _rankings(head.config, parameters, scores)


def _standardised(scores: list[float]) -> list[float]:
    E = len(scores)
    if any(math.isnan(score) for score in scores):
        return [math.nan] * E
    if len(set(scores)) == 1:
        return [0.0] * E
    mean = math.fsum(scores) / E
    spread = math.sqrt(math.fsum((score - mean) ** 2 for score in scores) / (E - 1))
    return [(score - mean) / spread for score in scores]


def serving(config: SparseConfig, rankings: list[list[float]]) -> list[list[int]]:
    """Return the experts of each row, one assignment after another as the policy is told."""
    best = [sorted(range(config.experts), key=lambda e: (_falling(row[e]), e)) for row in rankings]
    shares = [_softmax(row, config.temperature) for row in rankings]
    places = _places(config, len(rankings))
    chosen: list[list[int]] = [[] for _ in rankings]
    match config.policy:
        case "top_k":
            return [order[: config.k] for order in best]
        case "top_p":
            for row, order, share in zip(chosen, best, shares, strict=True):
                while not row or (len(row) < config.k and math.fsum(share[e] for e in row) < config.mass):
                    row.append(order[len(row)])
        case "threshold":
            for row, order, share in zip(chosen, best, shares, strict=True):
                row += [order[0], *(e for e in order[1 : config.k] if share[e] >= config.threshold)]
        case "capacity":
            room = [places] * config.experts
            for turn in range(config.k if config.overflow == "drop" else config.experts):
                for row, order, share in zip(chosen, best, shares, strict=True):
                    if _is_spoilt(share):
                        continue
                    if len(row) < config.k and room[order[turn]]:
                        room[order[turn]] -= 1
                        row.append(order[turn])
        case "expert_choice":
            for e in range(config.experts):
                for n in sorted(range(len(shares)), key=lambda n: (_is_spoilt(shares[n]), -shares[n][e], n))[:places]:
                    chosen[n].append(e)
    return chosen


def _is_spoilt(shares: list[float]) -> bool:
    return any(math.isnan(share) for share in shares)


def _falling(value: float) -> float:
    """Return a key that sorts the largest value first, and NaN before all."""
    return -math.inf if math.isnan(value) else -value


def _places(config: SparseConfig, rows: int) -> int:
    """Return the rows that an expert serves at most."""
    if not hasattr(config, "capacity_factor"):
        return 0
    return math.ceil(Fraction(str(config.capacity_factor)) * rows * config.k / config.experts)


def _softmax(scores: list[float], temperature: float) -> list[float]:
    if any(math.isnan(score) for score in scores):
        return [math.nan] * len(scores)
    if not scores:
        return []
    top = max(scores)
    exponentials = [math.exp((score - top) / temperature) for score in scores]
    return [value / math.fsum(exponentials) for value in exponentials]


def _expert(
    activation: str, x: np.ndarray, w1: np.ndarray, b1: np.ndarray, w2: np.ndarray, b2: np.ndarray
) -> np.ndarray:
    return np.array(_hidden(activation, list(x @ w1 + b1))) @ w2 + b2


def _hidden(activation: str, sums: list[float]) -> list[float]:
    """Return the H hidden values of H sums, or of 2H for swiglu."""
    if activation != "swiglu":
        return [ACTIVATIONS[activation](z) for z in sums]
    silu = ACTIVATIONS["silu"]
    return [silu(gate) * value for gate, value in zip(sums[: len(sums) // 2], sums[len(sums) // 2 :], strict=True)]


@st.composite
def configurations(draw: st.DrawFn) -> tuple[str, dict[str, Any]]:
    """Draw a kind of head and small settings that are valid for it."""
    kind = draw(st.sampled_from(["dense", "soft", "sparse"]))
    changes: dict[str, Any] = {
        "features": draw(st.integers(1, 33)),
        "hidden": draw(st.integers(1, 17)),
        "classes": draw(st.integers(1, 9)),
        "activation": draw(st.sampled_from(get_args(Activation))),
    }
    if kind != "dense":
        changes["experts"] = draw(st.integers(1, 9))
        changes["temperature"] = draw(st.sampled_from([0.25, 1.0, 4.0]))
    if kind == "sparse":
        changes["policy"] = draw(st.sampled_from(tuple(POLICIES)))
        changes["k"] = draw(st.integers(1, changes["experts"]))
        changes["standardise"] = changes["experts"] != 2 and draw(st.booleans())  # two scores would tie in every row
        changes["bias_correction"] = changes["policy"] != "expert_choice" and draw(st.booleans())
        settings: dict[str, Any] = {
            "mass": draw(st.sampled_from([0.1, 0.55, 0.9, 1.0])),
            "threshold": draw(st.sampled_from([0.0, 0.07, 0.3, 1.0])),
            "capacity_factor": draw(st.sampled_from([0.1, 0.7, 1.0, 1.1, 2.5])),
            "overflow": draw(st.sampled_from(["drop", "next"])),
        }
        changes |= {name: settings[name] for name in POLICIES[changes["policy"]].settings()}
        only_all = changes["k"] == 1 < changes["experts"]
        changes["weights_over"] = "all" if only_all else draw(st.sampled_from(["selected", "all"]))
    return kind, changes
