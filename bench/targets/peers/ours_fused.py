"""Our kernels in one launch, whatever they would choose."""

from __future__ import annotations

import torch

from bench.targets.peers.kernel_path import FUSED, best, gated, required
from bench.targets.peers.layers import Layer, Tensors
from bench.targets.peers.peer import Peer, Prepared, interpreted, triton_unavailable


def _unavailable(layer: Layer, dtype: torch.dtype, device: torch.device) -> str | None:
    if best(layer, 1, dtype, device, FUSED) is None:
        return "this layer is too large for one launch"
    return triton_unavailable(layer, dtype, device)


def _prepare(tensors: Tensors) -> Prepared:
    return gated(tensors, required(tensors, FUSED))


PEER = Peer("ours_fused", "our kernels, one launch", _unavailable, _prepare, interpreted, setup=3.0)
