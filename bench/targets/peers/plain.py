"""Pieces of a MoE layer in plain PyTorch, for the peers that are built of them.

Letters: N rows, D input width, E experts, k experts per row.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from bench.targets.peers.layers import Tensors
from models.routing import select, standardise
from models.routing.top_k import weigh


class Chosen(NamedTuple):
    """The experts of every row, best first, with their weights, and the scores that decided."""

    ids: Tensor  # (N, k) int64
    weights: Tensor  # (N, k)
    scores: Tensor  # (N, E)


def gate_scores(tensors: Tensors, x: Tensor) -> Tensor:
    """Return the gate's scores (N, E) for x (N, D) in float32: products of x's dtype, summed in float32."""
    if x.is_cuda and x.dtype is not torch.float32 and not torch.compiler.is_compiling():
        scores = torch.mm(x, tensors.gate.T, out_dtype=torch.float32)
    else:
        scores = x.float() @ tensors.gate.float().T
    return scores if tensors.gate_bias is None else scores + tensors.gate_bias.float()


def route(tensors: Tensors, x: Tensor) -> Chosen:
    """Return what the layer's gate decides for x (N, D), in eager operators."""
    scores = gate_scores(tensors, x)
    if tensors.layer.standardise:
        scores = standardise(scores)
    ids = select(scores, tensors.layer.k)
    return Chosen(ids, weigh(scores, ids, 1.0, "selected"), scores)
