"""Float64 NumPy oracles of the steps, and how close to them is close enough.

N rows, E experts, k experts per row.
"""

import math
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

ACTIVATIONS: dict[str | None, Callable[[np.ndarray], np.ndarray]] = {
    None: lambda x: x,
    "relu": lambda x: np.where(x < 0, 0, x),
    "gelu": lambda x: x * np.vectorize(lambda v: math.erfc(-v / math.sqrt(2)) / 2, otypes=[float])(x),
    "silu": lambda x: x / (1 + np.exp(-x)),
    "swiglu": lambda x: _swiglu(*np.split(x, 2, axis=-1)),
    "interleaved_swiglu": lambda x: _swiglu(x[..., 0::2], x[..., 1::2]),
}


def _swiglu(gate: np.ndarray, up: np.ndarray) -> np.ndarray:
    return ACTIVATIONS["silu"](gate) * up


def activated_magnitudes(sums: np.ndarray, activation: str | None) -> np.ndarray:
    """Return what the rounding errors of an activation scale with, from sums of absolute values."""
    if activation == "swiglu":
        gate, up = np.split(sums, 2, axis=-1)
    elif activation == "interleaved_swiglu":
        gate, up = sums[..., 0::2], sums[..., 1::2]
    else:
        return sums
    return gate * (1 + up)


def exact(tensor: Tensor) -> np.ndarray:
    """Return a tensor's values in float64."""
    return tensor.detach().cpu().double().numpy()


def best(z: np.ndarray, k: int) -> list[int]:
    """Return the k first ids of one row: NaN, then by falling score, then by rising id."""
    return sorted(range(len(z)), key=lambda e: (not math.isnan(z[e]), 0 if math.isnan(z[e]) else -z[e], e))[:k]


def route(
    scores: np.ndarray, k: int, *, temperature: float, standardise: bool, weights_over: str
) -> tuple[np.ndarray, np.ndarray]:
    """Return ids (N, k), best first or for k = E by id, and weights (N, k) of scores (N, E), row by row."""
    ids, weights = np.zeros((len(scores), k), int), np.zeros((len(scores), k))
    for n, z in enumerate(scores):
        if standardise:
            spread = z.std(ddof=1) if len(z) > 1 and not (z == z[0]).all() else 0.0
            z = (z - z.mean()) / spread if spread else z - z
        ids[n] = best(z, k) if k < len(z) else range(k)
        powers = np.exp((z - z.max()) / temperature)
        total = powers[ids[n]].sum() if weights_over == "selected" else powers.sum()
        weights[n] = powers[ids[n]] / total
    return ids, weights


def product(
    rows: np.ndarray, experts: np.ndarray, w: np.ndarray, bias: np.ndarray, activation: str | None
) -> np.ndarray:
    """Return activation(rows[m] w[experts[m]] + bias[experts[m]]), one row at a time."""
    out = np.zeros((len(rows), w.shape[2] // (2 if activation and "swiglu" in activation else 1)))
    for m, e in enumerate(experts):
        out[m] = ACTIVATIONS[activation](rows[m] @ w[e] + bias[e])
    return out


def allowance(magnitudes: np.ndarray, dtype: torch.dtype) -> np.ndarray:
    """Return the error allowed: roundings of hidden values and results to `dtype`, and some of fp32 sums."""
    return (torch.finfo(dtype).eps + 32 * torch.finfo(torch.float32).eps) * magnitudes


def assert_close(got: Tensor, expected: np.ndarray, magnitudes: np.ndarray, dtype: torch.dtype) -> None:
    """Fail unless `got` is within `allowance` of `expected` everywhere, and NaN only if `expected` is NaN too."""
    assert got.shape == expected.shape
    error = np.abs(exact(got) - expected)
    wrong = ~((error <= allowance(magnitudes, dtype)) | (np.isnan(exact(got)) & np.isnan(expected)))
    assert not wrong.any(), f"{wrong.sum()} of {wrong.size} wrong, worst by {np.nanmax(error)}"
