"""Two plain products of as many operations as the experts' two: what cuBLAS takes when there is nothing to sort.

Letters: D input width, H hidden width of one expert, C output width, M assignments.
"""

from __future__ import annotations

import torch
from torch import Tensor

from bench.targets.peers.layers import Layer, Tensors
from bench.targets.peers.peer import Peer, Prepared, always


def _prepare(tensors: Tensors) -> Prepared:
    H = tensors.layer.H
    k = tensors.layer.k
    rows = [x.repeat(k, 1) for x in tensors.xs]  # (M, D)
    wide = {x.data_ptr(): many for x, many in zip(tensors.xs, rows, strict=True)}
    hidden = torch.randn(len(rows[0]), H, dtype=tensors.x.dtype, device=tensors.x.device)  # (M, H)
    w1, w2 = tensors.w1[0], tensors.w2[0]

    def run(x: Tensor) -> Tensor:
        torch.mm(wide[x.data_ptr()], w1)  # (M, H), or (M, 2H) for swiglu
        return torch.mm(hidden, w2)  # (M, C)

    return Prepared(run, expected=lambda x: hidden.double() @ w2.double())


def _counts(layer: Layer, rows: int, item: int, used: int, device: torch.device) -> tuple[int, int]:
    wide, M = layer.halves * layer.H, rows * layer.k
    values = wide * layer.D + layer.C * layer.H + M * (layer.D + wide + layer.H + layer.C)
    return layer.product_flops(rows), item * values


PEER = Peer("cublas", "two dense products of equal operations", always, _prepare, counts=_counts)
