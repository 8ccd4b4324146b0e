"""The two grouped products of our kernels alone, on rows that were dispatched beforehand.

Letters: N rows, E experts, k experts per row, C output width, M = N k.
"""

from __future__ import annotations

import torch
from torch import Tensor

from bench.targets.peers.kernel_path import GROUPED, chosen, required
from bench.targets.peers.layers import Layer, Tensors, expert_outputs
from bench.targets.peers.peer import Peer, Prepared, interpreted, triton_unavailable
from kernels.ops.dispatch import count, dispatch
from kernels.paths.grouped import Grouped


def _prepare(tensors: Tensors) -> Prepared:
    layer = tensors.layer
    options = chosen(tensors)
    if not isinstance(options, Grouped):
        options = required(tensors, GROUPED)
        assert isinstance(options, Grouped)
    ids = tensors.ids.int().flatten()
    sorted_rows = dispatch(ids, *count(ids, layer.E), k=layer.k, tile_rows=options.tile_rows)
    experts = tensors.experts()

    def run(x: Tensor) -> Tensor:
        y = options.products(x, sorted_rows, experts)
        return y.sum(dim=0) if y.ndim == 3 else y  # (M, C); a second product in parts is a sum of them

    return Prepared(run, {"options": str(options)}, expected=lambda x: expert_outputs(tensors, x))


def _counts(layer: Layer, rows: int, item: int, used: int, device: torch.device) -> tuple[int, int]:
    M = rows * layer.k
    weights = used * (layer.halves * layer.H * layer.D + layer.H * layer.C)
    return layer.product_flops(rows), item * (weights + rows * layer.D + 2 * M * layer.H + M * layer.C)


PEER = Peer(
    "ours_products", "our two grouped products alone", triton_unavailable, _prepare, interpreted, setup=3.0,
    counts=_counts,
)  # fmt: skip
