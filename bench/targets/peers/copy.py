"""A copy from device memory to device memory: the bandwidth this machine delivers, bytes read and written."""

from __future__ import annotations

import torch
from torch import Tensor

from bench.targets.peers.layers import Layer, Tensors
from bench.targets.peers.peer import Peer, Prepared, always

BYTES, BYTES_ON_CPU = 2**30, 2**23


def _bytes(device: torch.device) -> int:
    return BYTES if device.type == "cuda" else BYTES_ON_CPU


def _prepare(tensors: Tensors) -> Prepared:
    source = torch.randn(_bytes(tensors.x.device) // 4, device=tensors.x.device)[None]
    target = torch.empty_like(source)

    def run(x: Tensor) -> Tensor:
        return target.copy_(source)

    return Prepared(run, expected=lambda x: source)


def _counts(layer: Layer, rows: int, item: int, used: int, device: torch.device) -> tuple[int, int]:
    return 0, 2 * _bytes(device)


PEER = Peer("copy", "a copy in device memory", always, _prepare, counts=_counts)
