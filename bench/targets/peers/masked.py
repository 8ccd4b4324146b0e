"""All experts in one product: every expert's hidden values for every row, scaled by weights that are mostly zero.

Letters: N rows, D input width, H hidden width of one expert, E experts, C output width.
"""

from __future__ import annotations

import torch
from torch import Tensor

from bench.targets.peers.layers import Layer, Tensors, activate
from bench.targets.peers.peer import Peer, Prepared, Run
from bench.targets.peers.plain import route

MOST_WASTE = 8
"""Beyond so many times the operations needed, running every expert is no contest."""


def unavailable(layer: Layer, dtype: torch.dtype, device: torch.device) -> str | None:
    """Return why running all experts on all rows makes no sense, or None."""
    if MOST_WASTE * layer.k < layer.E:
        return f"running all {layer.E} experts for {layer.k} would take {layer.E // layer.k} times the operations"
    return None


def whole(tensors: Tensors) -> Run:
    """Return the whole layer (N, D) -> (N, C) as two wide products."""
    layer = tensors.layer
    E, D, wide = tensors.w1.shape
    w1 = tensors.w1.permute(1, 0, 2).reshape(D, E * wide).contiguous()
    w2 = tensors.w2.reshape(E * layer.H, layer.C)
    b1 = None if tensors.b1 is None else tensors.b1.reshape(E * wide)

    def run(x: Tensor) -> Tensor:
        routing = route(tensors, x)
        weights = torch.zeros_like(routing.scores).scatter(1, routing.ids, routing.weights).to(x.dtype)  # (N, E)
        h = x @ w1 if b1 is None else torch.addmm(b1, x, w1)
        h = activate(layer.activation, h.unflatten(-1, (E, wide))) * weights[:, :, None]  # (N, E, H)
        y = h.flatten(1) @ w2  # (N, C)
        return y if tensors.b2 is None else y + weights @ tensors.b2

    return run


def _prepare(tensors: Tensors) -> Prepared:
    return Prepared(whole(tensors))


PEER = Peer("masked", "all experts in one masked product, eager", unavailable, _prepare)
