"""Our kernels as a caller has them: path and tiles are theirs to choose."""

from __future__ import annotations

from bench.targets.peers.kernel_path import gated
from bench.targets.peers.layers import Tensors
from bench.targets.peers.peer import Peer, Prepared, interpreted, triton_unavailable


def _prepare(tensors: Tensors) -> Prepared:
    return gated(tensors, None)


PEER = Peer("ours", "our kernels", triton_unavailable, _prepare, interpreted, setup=4.0)
