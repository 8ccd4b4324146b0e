"""torch.compile(mode="max-autotune") of the grouped_mm pipeline."""

from __future__ import annotations

import torch

from bench.targets.peers import grouped_mm
from bench.targets.peers.compiled import SETUP, compiled, only_on_a_gpu
from bench.targets.peers.layers import Layer
from bench.targets.peers.peer import Peer


def _unavailable(layer: Layer, dtype: torch.dtype, device: torch.device) -> str | None:
    return only_on_a_gpu(layer, dtype, device) or grouped_mm.unavailable(layer, dtype, device)


PEER = Peer(
    "compile_grouped_mm", "torch.compile, max-autotune, of grouped_mm", _unavailable, compiled(grouped_mm.pipeline),
    setup=SETUP,
)  # fmt: skip
