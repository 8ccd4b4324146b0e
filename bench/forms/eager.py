"""Eager PyTorch without a loop over experts.

The soft head becomes one wide product: its experts side by side are a dense head of width E H whose hidden values
are scaled by the gate. The sparse head sorts its rows by expert and pads every expert to the busiest one, for one
batched product; the padded height is the one number the host has to wait for.

Letters: N rows, D input width, H hidden width of one expert, E experts, M assignments, C output width.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from bench.forms.form import Form, Runner, torch_runner
from bench.forms.sorting import combine, rows_in, sort_by_expert
from bench.stages import stage
from models.config import HeadConfig
from models.dense import DenseHead
from models.heads import Head
from models.soft import SoftMoEHead
from models.sparse import SparseMoEHead


def _unavailable(config: HeadConfig, device: torch.device, dtype: torch.dtype) -> str | None:
    return None


def _prepare(head: Head, example: Tensor) -> Runner:
    if isinstance(head, SoftMoEHead):
        return torch_runner(wide_soft(head), example)
    if isinstance(head, SparseMoEHead):
        return torch_runner(lambda x: _padded_sparse(head, x), example)
    return torch_runner(lambda x: _dense(head, x), example)


def _dense(head: DenseHead, x: Tensor) -> Tensor:
    with stage("experts"):
        return head.forward(x)


def wide_soft(head: SoftMoEHead) -> Callable[[Tensor], Tensor]:
    """Return the soft head as two wide products over all experts' hidden values, (N, D) -> (N, C)."""
    E, D, H = head.w1.shape
    w1 = head.w1.permute(1, 0, 2).reshape(D, E * H)
    b1 = head.b1.reshape(E * H)
    w2 = head.w2.reshape(E * H, -1)

    def run(x: Tensor) -> Tensor:
        with stage("route"):
            weights = head.shares(x)[0].to(x.dtype)  # (N, E)
        with stage("experts"):
            h = head.activation(torch.addmm(b1, x, w1))  # (N, E H)
            h = (h.unflatten(-1, (E, H)) * weights[:, :, None]).flatten(1)
            return torch.addmm(weights @ head.b2, h, w2)

    return run


def _padded_sparse(head: SparseMoEHead, x: Tensor) -> Tensor:
    if x.shape[0] == 0:
        return x.new_empty(0, head.config.classes)
    with stage("route"):
        routing = head.routing(x)
    with stage("dispatch"):
        experts, ends, order = sort_by_expert(routing.experts, head.config.experts)
        rows = rows_in(order, routing)  # (M,)
        starts = F.pad(ends, (1, 0))[:-1]  # (E,)
        capacity = int((ends - starts).max())
        height = torch.arange(rows.shape[0], device=x.device) - starts[experts]  # (M,), place within the expert
        padded = x.new_zeros(head.config.experts, capacity, x.shape[1])
        padded[experts, height] = x[rows]
    with stage("experts"):
        h = head.activation(torch.baddbmm(head.b1[:, None], padded, head.w1))  # (E, capacity, H)
        y = torch.baddbmm(head.b2[:, None], h, head.w2)  # (E, capacity, C)
    with stage("combine"):
        return combine(y[experts, height], order, rows, routing)


FORM = Form("eager", 1, "eager PyTorch, no loop over experts", _unavailable, _prepare)
