"""A kernel that does nothing: the least that one launch takes."""

from __future__ import annotations

import torch
from torch import Tensor

from bench.targets.peers.layers import Layer, Tensors
from bench.targets.peers.peer import Peer, Prepared
from bench.timing.stopwatch import nothing


def _unavailable(layer: Layer, dtype: torch.dtype, device: torch.device) -> str | None:
    return None if device.type == "cuda" else "an empty launch needs a CUDA device"


def _prepare(tensors: Tensors) -> Prepared:
    def run(x: Tensor) -> None:
        nothing[(1,)](x)

    return Prepared(run)


def _counts(layer: Layer, rows: int, item: int, used: int, device: torch.device) -> tuple[int, int]:
    return 0, 0


PEER = Peer("empty", "one launch of an empty kernel", _unavailable, _prepare, counts=_counts)
