"""Eager PyTorch without a loop over experts.

The soft head becomes two wide products: its experts side by side are a dense head of width E H whose hidden values are
scaled by the gate. The sparse head sorts its rows by expert and pads all experts to the size of the busiest one, for
one batched product; the padded size is the only number that the host has to wait for.

Letters: N rows, D input width, H hidden width of one expert, E experts, M assignments, C output width, W = H columns of
an expert's first product, or 2H for swiglu.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from bench.forms.form import Form, Runner, always, torch_runner
from bench.forms.sorting import Sorted, combine, sort_by_expert
from bench.forms.stages import stage
from bench.forms.steps import Steps, soft_steps, sparse_steps
from models.heads.dense import DenseHead
from models.heads.heads import Head
from models.heads.soft import SoftMoEHead
from models.heads.sparse import SparseMoEHead
from models.routing import Routing


def _prepare(head: Head, example: Tensor) -> Runner:
    return torch_runner(_run(head), example)


def _train(head: Head, example: Tensor) -> Runner:
    return torch_runner(lambda x: _run(head)(x), example)


def _run(head: Head) -> Callable[[Tensor], Tensor]:
    if isinstance(head, SoftMoEHead):
        return wide_soft(head)
    if isinstance(head, SparseMoEHead):
        return partial(_padded_sparse, head)
    return partial(_dense, head)


def _steps(head: Head, x: Tensor) -> Steps:
    run = _run(head)
    if isinstance(head, SoftMoEHead):
        hidden, out = wide_products(head)
        bias = head.b2.sum(dim=0)  # (C,)
        return soft_steps(head, x, lambda: out(bias, hidden(x)), run)
    if isinstance(head, SparseMoEHead):
        return sparse_steps(head, x, lambda x, routing: _pad(x, routing).rows, partial(_products, head), run)
    return {"balanced": lambda: run(x)}


def _dense(head: DenseHead, x: Tensor) -> Tensor:
    with stage("experts"):
        return head.forward(x)


def wide_soft(head: SoftMoEHead) -> Callable[[Tensor], Tensor]:
    """Return the soft head as two wide products over all experts' hidden values, (N, D) -> (N, C)."""
    hidden, out = wide_products(head)

    def run(x: Tensor) -> Tensor:
        with stage("route"):
            weights = head.shares(x)[0].to(x.dtype)  # (N, E)
        with stage("experts"):
            h = hidden(x)  # (N, E, H)
        with stage("combine"):
            h = h * weights[:, :, None]
            bias = weights @ head.b2  # (N, C)
        with stage("experts"):
            return out(bias, h)

    return run


def wide_products(
    head: SoftMoEHead | SparseMoEHead,
) -> tuple[Callable[[Tensor], Tensor], Callable[[Tensor, Tensor], Tensor]]:
    """Return x (N, D) -> hidden values (N, E, H), and (bias, hidden values) -> bias + their product with w2, (N, C)."""
    E, D, W = head.w1.shape
    w1 = head.w1.permute(1, 0, 2).reshape(D, E * W)
    b1 = head.b1.reshape(E * W)
    w2 = head.w2.flatten(0, 1)  # (E H, C)

    def hidden(x: Tensor) -> Tensor:
        return head.activation(torch.addmm(b1, x, w1).view(-1, E, W))

    def out(bias: Tensor, h: Tensor) -> Tensor:
        return torch.addmm(bias, h.flatten(1), w2)

    return hidden, out


class _Padded(NamedTuple):
    """Rows by expert, padded to the busiest one; place m is at rows[places.experts[m], height[m]]."""

    rows: Tensor  # (E, capacity, D)
    height: Tensor  # (M,)
    places: Sorted


def _padded_sparse(head: SparseMoEHead, x: Tensor) -> Tensor:
    if x.shape[0] == 0:
        return x.new_empty(0, head.config.classes)
    with stage("route"):
        routing = head.routing(x)
    with stage("dispatch"):
        sent = _pad(x, routing)
    with stage("experts"):
        y = _products(head, sent.rows)  # (E, capacity, C)
    with stage("combine"):
        return combine(y[sent.places.experts, sent.height], sent.places, routing)


def _pad(x: Tensor, routing: Routing) -> _Padded:
    places = sort_by_expert(routing)
    starts = F.pad(places.ends, (1, 0))[:-1]  # (E,)
    capacity = int((places.ends - starts).max())
    height = torch.arange(len(places.rows), device=x.device) - starts[places.experts]  # (M,), within the expert
    rows = x.new_zeros(len(starts), capacity, x.shape[1])
    rows[places.experts, height] = x[places.rows]
    return _Padded(rows, height, places)


def _products(head: SparseMoEHead, rows: Tensor) -> Tensor:
    h = head.activation(torch.baddbmm(head.b1[:, None], rows, head.w1))  # (E, capacity, H)
    return torch.baddbmm(head.b2[:, None], h, head.w2)  # (E, capacity, C)


FORM = Form("eager", 1, "eager PyTorch, no loop over experts", always, _prepare, _train, steps=_steps)
