"""A Python loop over experts, each on its own rows; on a GPU the host waits for the device once per expert.

Letters: N rows, D input width, H hidden width of one expert, E experts, C output width, m rows of one expert.
"""

from __future__ import annotations

import torch
from torch import Tensor

from bench.targets.peers.layers import Tensors, activate
from bench.targets.peers.peer import Peer, Prepared, always
from bench.targets.peers.plain import route


def _prepare(tensors: Tensors) -> Prepared:
    layer = tensors.layer

    def run(x: Tensor) -> Tensor:
        routing = route(tensors, x)
        out = torch.zeros(x.shape[0], layer.C, dtype=torch.float32, device=x.device)
        for e in range(layer.E):
            rows, places = torch.where(routing.ids == e)  # (m,), (m,)
            if rows.numel() == 0:
                continue
            h = x[rows] @ tensors.w1[e]  # (m, H), or (m, 2H) for swiglu
            if tensors.b1 is not None:
                h = h + tensors.b1[e]
            y = activate(layer.activation, h) @ tensors.w2[e]  # (m, C)
            if tensors.b2 is not None:
                y = y + tensors.b2[e]
            out[rows] += routing.weights[rows, places, None] * y
        return out.to(x.dtype)

    return Prepared(run)


PEER = Peer("loop", "Python loop over experts", always, _prepare, capturable=False)
