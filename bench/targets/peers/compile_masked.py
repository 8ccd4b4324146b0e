"""torch.compile(mode="max-autotune") of all experts in one masked product."""

from __future__ import annotations

import torch

from bench.targets.peers import masked
from bench.targets.peers.compiled import SETUP, compiled, only_on_a_gpu
from bench.targets.peers.layers import Layer
from bench.targets.peers.peer import Peer


def _unavailable(layer: Layer, dtype: torch.dtype, device: torch.device) -> str | None:
    return only_on_a_gpu(layer, dtype, device) or masked.unavailable(layer, dtype, device)


PEER = Peer(
    "compile_masked", "torch.compile, max-autotune, of masked", _unavailable, compiled(masked.whole), setup=SETUP
)
