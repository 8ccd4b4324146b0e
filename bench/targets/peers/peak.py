"""One large product of random square matrices: the arithmetic this machine delivers."""

from __future__ import annotations

import torch
from torch import Tensor

from bench.targets.peers.layers import Layer, Tensors
from bench.targets.peers.peer import Peer, Prepared, always

SIZE, SIZE_ON_CPU = 8192, 256


def _size(device: torch.device) -> int:
    return SIZE if device.type == "cuda" else SIZE_ON_CPU


def _prepare(tensors: Tensors) -> Prepared:
    size = _size(tensors.x.device)
    a, b = (torch.randn(size, size, dtype=tensors.x.dtype, device=tensors.x.device) for _ in range(2))

    def run(x: Tensor) -> Tensor:
        return torch.mm(a, b)

    return Prepared(run, expected=lambda x: a.double() @ b.double())


def _counts(layer: Layer, rows: int, item: int, used: int, device: torch.device) -> tuple[int, int]:
    size = _size(device)
    return 2 * size**3, 3 * size**2 * item


PEER = Peer("peak", "one product of 8192 x 8192 matrices", always, _prepare, counts=_counts)
