"""Our kernels with the routing given, as Liger has it."""

from __future__ import annotations

from torch import Tensor

from bench.targets.peers.kernel_path import run_of
from bench.targets.peers.layers import Tensors, given_routing
from bench.targets.peers.peer import Peer, Prepared, interpreted, triton_unavailable


def _prepare(tensors: Tensors) -> Prepared:
    given = {x.data_ptr(): given_routing(tensors, x) for x in tensors.xs}
    run = run_of(tensors, None)

    def call(x: Tensor) -> Tensor:
        return run(x, given[x.data_ptr()])

    return Prepared(call)


PEER = Peer("ours_given", "our kernels, routing given", triton_unavailable, _prepare, interpreted, setup=2.0)
