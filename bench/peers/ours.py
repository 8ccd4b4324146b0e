"""Our kernels as a caller has them: path and tiles are theirs to choose."""

from __future__ import annotations

from torch import Tensor

from bench.layers import Tensors
from bench.peers.kernel_path import chosen, run_of
from bench.peers.peer import Peer, Prepared, interpreted, triton_unavailable


def _prepare(tensors: Tensors) -> Prepared:
    gate = tensors.routing()
    run = run_of(tensors, None)

    def call(x: Tensor) -> Tensor:
        return run(x, gate)

    return Prepared(call, {"options": str(chosen(tensors))})


PEER = Peer("ours", "our kernels", triton_unavailable, _prepare, interpreted, setup=4.0)
