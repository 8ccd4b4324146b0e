"""Our kernels in five launches, whatever they would choose."""

from __future__ import annotations

from torch import Tensor

from bench.layers import Tensors
from bench.peers.kernel_path import GROUPED, required, run_of
from bench.peers.peer import Peer, Prepared, interpreted, triton_unavailable


def _prepare(tensors: Tensors) -> Prepared:
    options = required(tensors, GROUPED)
    gate = tensors.routing()
    run = run_of(tensors, options)

    def call(x: Tensor) -> Tensor:
        return run(x, gate)

    return Prepared(call, {"options": str(options)})


PEER = Peer("ours_grouped", "our kernels, five launches", triton_unavailable, _prepare, interpreted, setup=4.0)
