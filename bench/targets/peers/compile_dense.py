"""torch.compile(mode="max-autotune") of the dense head of as many expert parameters."""

from __future__ import annotations

from dataclasses import replace

import torch

from bench.targets.peers import dense
from bench.targets.peers.compiled import compiled, only_on_a_gpu
from bench.targets.peers.layers import Layer, Tensors
from bench.targets.peers.peer import Peer, Prepared

_compiled = compiled(dense.head)


def _prepare(tensors: Tensors) -> Prepared:
    return replace(_compiled(tensors), expected=dense.expected(tensors))


def _unavailable(layer: Layer, dtype: torch.dtype, device: torch.device) -> str | None:
    return only_on_a_gpu(layer, dtype, device) or dense.unavailable(layer, dtype, device)


PEER = Peer(
    "compile_dense", "torch.compile, max-autotune, of dense", _unavailable, _prepare, setup=15.0, counts=dense.counts
)
