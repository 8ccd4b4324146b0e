"""The oracle of the routing policies, and settings to try them with.

Written from the formulas alone, in float64 NumPy, one row, expert and round at a time. It shares no code with `route`
or `decide` of `models.routing`, which it checks.
"""

import math
from fractions import Fraction
from typing import Any

import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray

from models.config import head_config
from models.routing.policy import SparseConfig

Float64 = NDArray[np.float64]
Chosen = dict[int, list[int]]
"""The experts of each row that has any, in any order."""


def softmax(scores: Float64) -> Float64:
    heights = np.exp(scores - scores.max())
    return heights / math.fsum(heights)  # the same for every order of the scores


def best_first(scores: Float64) -> list[int]:
    return sorted(range(len(scores)), key=lambda e: (-scores[e], e))


def places(config: SparseConfig, rows: int) -> int:
    """Return ceil(factor N k / E) with the factor as it is written."""
    return math.ceil(Fraction(str(config.capacity_factor)) * rows * config.k / config.experts)


def top_k(scores: Float64, config: SparseConfig) -> Chosen:
    return {n: best_first(row)[: config.k] for n, row in enumerate(scores)}


def top_p(scores: Float64, config: SparseConfig) -> Chosen:
    chosen: Chosen = {}
    for n, row in enumerate(scores):
        share, mass = softmax(row / config.temperature), 0.0
        chosen[n] = []
        for e in best_first(row):
            chosen[n].append(e)
            mass += share[e]
            if mass >= config.mass or len(chosen[n]) == config.k:
                break
    return chosen


def threshold(scores: Float64, config: SparseConfig) -> Chosen:
    chosen: Chosen = {}
    for n, row in enumerate(scores):
        share, order = softmax(row / config.temperature), best_first(row)
        passing = [e for e in order if share[e] >= config.threshold]
        chosen[n] = (passing or order[:1])[: config.k]
    return chosen


def capacity(scores: Float64, config: SparseConfig) -> Chosen:
    room = dict.fromkeys(range(config.experts), places(config, len(scores)))
    chosen: Chosen = {}
    for turn in range(config.k if config.overflow == "drop" else config.experts):
        for n, row in enumerate(scores):
            if not (row < math.inf).all():
                continue
            e = best_first(row)[turn]
            if len(chosen.get(n, [])) < config.k and room[e] > 0:
                room[e] -= 1
                chosen.setdefault(n, []).append(e)
    return chosen


def expert_choice(scores: Float64, config: SparseConfig) -> Chosen:
    share = [softmax(row / config.temperature) for row in scores]
    chosen: Chosen = {}
    for e in range(config.experts):
        order = sorted(range(len(scores)), key=lambda n: (bool(np.isnan(share[n]).any()), -share[n][e], n))
        for n in order[: places(config, len(scores))]:
            chosen.setdefault(n, []).append(e)
    return chosen


CHOICES: dict[str, Any] = {
    "top_k": top_k,
    "capacity": capacity,
    "top_p": top_p,
    "threshold": threshold,
    "expert_choice": expert_choice,
}


def weights(scores: Float64, chosen: Chosen, config: SparseConfig) -> Float64:
    """Return the weights (N, E), zero where an expert does not serve a row."""
    result = np.zeros_like(scores)
    for n, experts in chosen.items():
        over = experts if config.weights_over == "selected" else list(range(config.experts))
        shares = dict(zip(over, softmax(scores[n, over] / config.temperature), strict=True))
        for e in experts:
            result[n, e] = shares[e]
    return result


def configs(policy: str, experts: int) -> st.SearchStrategy[SparseConfig]:
    """Return a strategy for the configurations of a policy with so many experts."""
    shares = st.one_of(st.sampled_from([0.125, 0.25, 0.5, 0.75, 1.0]), st.floats(0.01, 1))
    settings: dict[str, st.SearchStrategy[Any]] = {"temperature": st.sampled_from([0.5, 1.0, 2.0])}
    settings["k"] = st.integers(1, experts)
    if policy == "top_p":
        settings["mass"] = shares
    if policy == "threshold":
        settings["threshold"] = shares
    if policy in ("capacity", "expert_choice"):
        settings["capacity_factor"] = st.sampled_from([0.1, 0.5, 0.7, 1.0, 1.1, 1.25, 2.0, 9.0])
    if policy == "capacity":
        settings["overflow"] = st.sampled_from(["drop", "next"])
    return st.fixed_dictionaries(settings).map(
        lambda chosen: head_config("sparse", experts=experts, policy=policy, **chosen)
    )
