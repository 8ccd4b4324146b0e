"""torch's grouped matrix product over rows sorted by expert, every other step in eager operators.

Letters: N rows, D input width, H hidden width of one expert, E experts, k experts per row, M = N k, C output width.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from bench.forms.grouped_mm import aligned
from bench.forms.sorting import combine_even, sort_by_expert
from bench.targets.peers.layers import Layer, Tensors, activate
from bench.targets.peers.peer import Peer, Prepared, Run
from bench.targets.peers.plain import route


def unavailable(layer: Layer, dtype: torch.dtype, device: torch.device) -> str | None:
    """Return why torch's grouped_mm cannot be measured here, or None."""
    if device.type == "cuda" and dtype is not torch.bfloat16:
        return "on a GPU torch's grouped_mm is one grouped product for bfloat16 only and loops over experts otherwise"
    return None


def pipeline(tensors: Tensors) -> Run:
    """Return the whole layer (N, D) -> (N, C) without a wait for the device."""
    layer = tensors.layer
    dims = (1, 2) if layer.activation != "swiglu" else (1,)  # padding both halves at their end would move the second
    w1, w2 = aligned(tensors.w1, dims=dims), aligned(tensors.w2, dims=(1, 2))
    b1 = None if tensors.b1 is None else aligned(tensors.b1, dims=(1,))
    b2 = None if tensors.b2 is None else aligned(tensors.b2, dims=(1,))

    def run(x: Tensor) -> Tensor:
        routing = route(tensors, x)
        experts, ends, order = sort_by_expert(routing.ids.flatten(), layer.E)
        offsets = ends.to(torch.int32)
        h = F.grouped_mm(aligned(x, dims=(1,))[order // layer.k], w1, offs=offsets)  # (M, H), or (M, 2H)
        h = activate(layer.activation, h if b1 is None else h + b1[experts])
        y = F.grouped_mm(h, w2, offs=offsets)  # (M, C), padded
        y = y if b2 is None else y + b2[experts]
        return combine_even(y[:, : layer.C], order, routing.weights)

    return run


def _prepare(tensors: Tensors) -> Prepared:
    return Prepared(pipeline(tensors))


PEER = Peer("grouped_mm", "torch's grouped_mm, eager", unavailable, _prepare)
