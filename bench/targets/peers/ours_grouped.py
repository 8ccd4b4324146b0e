"""Our kernels in five launches, whatever they would choose."""

from __future__ import annotations

from bench.targets.peers.kernel_path import GROUPED, gated, required
from bench.targets.peers.layers import Tensors
from bench.targets.peers.peer import Peer, Prepared, interpreted, triton_unavailable


def _prepare(tensors: Tensors) -> Prepared:
    return gated(tensors, required(tensors, GROUPED))


PEER = Peer("ours_grouped", "our kernels, five launches", triton_unavailable, _prepare, interpreted, setup=4.0)
