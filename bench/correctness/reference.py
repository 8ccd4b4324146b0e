"""The float64 reference for every form, of outputs and of gradients, written independently of the heads.

Routing is decided in NumPy. All else is computed by torch on the device of the weights, because a large layer would
take minutes on the CPU; its autograd gives the gradients.

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
from torch import Tensor

from models.heads.dense import DenseConfig
from models.heads.heads import HeadConfig
from models.heads.soft import SoftConfig
from models.routing.decision import Decision, Float64
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

    @property
    def undecided(self) -> NDArray[np.bool_]:
        """Which rows (N,) have any assignment that float32 cannot decide."""
        other = self.logits if self.otherwise is None else self.otherwise
        either: NDArray[np.bool_] = self.ambiguous | (self.logits != other).any(axis=1)
        return either


def reference(config: HeadConfig, weights: Weights, x: Tensor) -> Reference:
    """Return the logits of x (N, D) under the head's parameters, named as in a checkpoint without `head.`.

    Weights are widened to float64 one expert at a time, so that a large layer needs little more memory.
    """
    rows = x.double()
    if isinstance(config, DenseConfig | SoftConfig):
        return Reference(_wide(_outputs(config, weights, rows)), np.zeros(len(rows), dtype=bool))
    decision = _decision(config, weights, rows)
    logits = _wide(_outputs(config, weights, rows, decision.selected))
    number = decision.undecided.sum(axis=1)  # (N,)
    single = number == 1
    otherwise = logits.copy()
    other = decision.selected[single] ^ decision.undecided[single]
    otherwise[single] = _wide(_outputs(config, weights, rows[_mask(single, rows)], other))
    return Reference(logits, number > 1, otherwise)


def gradients(config: HeadConfig, weights: Weights, x: Tensor, upstream: Tensor, names: list[str]) -> dict[str, Tensor]:
    """Return the gradients in float64 of x (N, D), under "x", and of the weights `names`, on their device.

    `upstream` (N, C) is the gradient of the logits. It should be zero for rows that float32 cannot route.
    """
    chosen = None if isinstance(config, DenseConfig | SoftConfig) else _decision(config, weights, x.double()).selected
    with torch.inference_mode(mode=False), torch.enable_grad():
        leaves = {name: weights[name].double().clone().requires_grad_() for name in names}
        rows = x.double().clone().requires_grad_()
        logits = _outputs(config, {**weights, **leaves}, rows, chosen)
        wanted = torch.autograd.grad(logits, [rows, *leaves.values()], upstream.double(), materialize_grads=True)
    return dict(zip(["x", *names], wanted, strict=True))


def _decision(config: SparseConfig, weights: Weights, x: Tensor) -> Decision:
    """Return which experts serve x (N, D), and which of these float32 may decide otherwise."""
    gate, bias = weights["gate.weight"].double(), weights["gate.bias"].double()
    error = DECIDABLE * _wide(x.abs() @ gate.abs().T + bias.abs()).max(axis=1)  # (N,)
    scores, std = map(_wide, _scores(config, weights, x))
    with np.errstate(all="ignore"):
        if config.standardise:
            error = np.where((error == 0) | (config.experts == 1), 0.0, error / std[:, 0])  # one score is exactly 0
        if config.bias_correction:
            correction = _wide(weights["correction"])  # (E,)
            scores = scores + correction
            error = error + DECIDABLE * np.abs(correction).max()
        return config.decision(scores, error)


def _outputs(config: HeadConfig, weights: Weights, x: Tensor, selected: NDArray[np.bool_] | None = None) -> Tensor:
    """Return the logits (N, C) of x (N, D) in float64; `selected` (N, E) are a sparse head's experts."""
    if isinstance(config, DenseConfig):
        return _expert(config.activation, x, *(weights[name] for name in EXPERT))
    scores = _scores(config, weights, x)[0]
    shares = _shares(config, scores, selected)
    stacks = [weights[name].unbind() for name in EXPERT]
    logits = x.new_zeros(len(x), config.classes)
    for e in np.flatnonzero(_wide(shares).any(axis=0)):
        rows = (shares[:, e] != 0).nonzero()[:, 0]  # (m,)
        y = _expert(config.activation, x[rows], *(stack[e] for stack in stacks))
        logits.index_add_(0, rows, shares[rows, e, None] * y)
    if config.batch_coupled:
        spoilt = (scores.isnan() | (scores == torch.inf)).any(dim=1)
        logits[spoilt] = torch.nan  # also if no expert serves the row
    return logits


def _scores(config: SoftConfig | SparseConfig, weights: Weights, x: Tensor) -> tuple[Tensor, Tensor]:
    """Return the scores (N, E) behind the experts' weights, and what they were divided by (N, 1): 0 if all equal."""
    scores = x @ weights["gate.weight"].double().T + weights["gate.bias"].double()
    if isinstance(config, SoftConfig) or not config.standardise:
        return scores, torch.ones_like(scores[:, :1])
    deviation = scores - scores.mean(dim=1, keepdim=True)
    variance = (deviation**2).sum(dim=1, keepdim=True) / max(scores.shape[1] - 1, 1)
    return deviation / torch.where(variance == 0, 1.0, variance).sqrt(), variance.sqrt()


def _shares(config: SoftConfig | SparseConfig, scores: Tensor, selected: NDArray[np.bool_] | None) -> Tensor:
    """Return weights (N, E), zero if an expert is not selected."""
    scores = scores / config.temperature
    if isinstance(config, SoftConfig):
        return scores.softmax(dim=1)
    assert selected is not None
    kept = _mask(selected, scores)
    if config.weights_over == "selected":
        scores = torch.where(kept | scores.isnan(), scores, -torch.inf)
    return torch.where(kept, scores.softmax(dim=1), 0.0)


def _expert(activation: str, x: Tensor, *weights: Tensor) -> Tensor:
    """Return the output (m, C) of the expert with `weights` w1, b1, w2, b2 for x (m, D)."""
    w1, b1, w2, b2 = (weight.double() for weight in weights)
    return ACTIVATIONS[activation](x @ w1 + b1) @ w2 + b2


def _swiglu(gate: Tensor, value: Tensor) -> Tensor:
    return gate * torch.sigmoid(gate) * value


def _mask(mask: NDArray[np.bool_], like: Tensor) -> Tensor:
    return torch.from_numpy(mask).to(like.device)


def _wide(values: Tensor) -> Float64:
    wide: Float64 = values.detach().cpu().double().numpy()
    return wide
