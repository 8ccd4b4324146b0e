"""The dense head of as many expert parameters: D -> E H -> C, in eager operators.

Letters: N rows, D input width, H hidden width of one expert, E experts, C output width.
"""

from __future__ import annotations

import torch
from torch import Tensor

from bench.targets.peers.layers import Layer, Tensors, activate
from bench.targets.peers.peer import Peer, Prepared, Run


def unavailable(layer: Layer, dtype: torch.dtype, device: torch.device) -> str | None:
    """Return why the layer has no dense head beside it, or None."""
    if layer.C == layer.D:
        return "a dense layer of all experts' parameters is no rival of a layer of this size; see cublas"
    return None


def counts(layer: Layer, rows: int, item: int, used: int, device: torch.device) -> tuple[int, int]:
    """Return FLOPs and least bytes of N rows."""
    D, C, hidden = layer.D, layer.C, layer.dense_hidden()
    wide = layer.halves * hidden
    weights = wide * (D + layer.biased) + C * (hidden + layer.biased)
    return 2 * rows * (D * wide + hidden * C), item * (weights + rows * (D + C))


def _weights(tensors: Tensors) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return the experts side by side: w1 (D, E H), b1, w2 (E H, C), b2."""
    layer = tensors.layer
    assert tensors.b1 is not None
    assert tensors.b2 is not None
    w1 = tensors.w1.permute(1, 0, 2).reshape(layer.D, -1).contiguous()
    return w1, tensors.b1.reshape(-1), tensors.w2.reshape(-1, layer.C), tensors.b2[0]


def head(tensors: Tensors) -> Run:
    """Return the dense head (N, D) -> (N, C)."""
    w1, b1, w2, b2 = _weights(tensors)

    def run(x: Tensor) -> Tensor:
        h = activate(tensors.layer.activation, torch.addmm(b1, x, w1))  # (N, E H)
        return torch.addmm(b2, h, w2)

    return run


def expected(tensors: Tensors) -> Run:
    """Return the same in float64."""
    w1, b1, w2, b2 = (weight.double() for weight in _weights(tensors))
    return lambda x: activate(tensors.layer.activation, x.double() @ w1 + b1) @ w2 + b2


def _prepare(tensors: Tensors) -> Prepared:
    return Prepared(head(tensors), expected=expected(tensors))


PEER = Peer("dense", "dense head of equal parameters, eager", unavailable, _prepare, counts=counts)
