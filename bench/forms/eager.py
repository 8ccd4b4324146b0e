"""Eager PyTorch in few operators.

The soft head becomes two wide products: its experts side by side are a dense head of width E H whose hidden values are
scaled by the gate. The sparse head sorts its rows by expert. On a CPU, where an operator costs little, each expert then
multiplies its slice of them; elsewhere all experts are padded to the size of the busiest one, for one batched product.
The host waits for the sizes once, and for nothing else.

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

from bench.execution.form import Form, Runner, always, torch_runner
from bench.execution.sorting import Sorted, combine, sort_by_expert
from bench.execution.stages import stage
from bench.execution.steps import Steps, soft_steps, sparse_steps
from bench.forms.routing import router
from models.heads.dense import DenseHead
from models.heads.heads import Head
from models.heads.soft import SoftMoEHead
from models.heads.sparse import SparseMoEHead
from models.routing import Routing


def _prepare(head: Head, example: Tensor) -> Runner:
    return torch_runner(_run(head), example)


def _train(head: Head, example: Tensor) -> Runner:
    return torch_runner(lambda x: _run(head, training=True)(x), example)


def _run(head: Head, *, training: bool = False) -> Callable[[Tensor], Tensor]:
    if isinstance(head, SoftMoEHead):
        return wide_soft(head)
    if isinstance(head, SparseMoEHead):
        return Sparse(head, sliced=head.w1.device.type == "cpu", training=training)
    return partial(_dense, head)


def _steps(head: Head, x: Tensor) -> Steps:
    run = _run(head)
    if isinstance(head, SoftMoEHead):
        hidden, out = wide_products(head)
        bias = head.b2.sum(dim=0)  # (C,)
        return soft_steps(head, x, lambda: out(bias, hidden(x)), run)
    if isinstance(head, SparseMoEHead):
        assert isinstance(run, Sparse)
        return sparse_steps(head, x, run.dispatch, run.products, run, route=run.route)
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


class _Slices(NamedTuple):
    """Rows sorted by expert; expert e has rows[e] (m, D)."""

    rows: tuple[Tensor, ...]
    places: Sorted


class _Padded(NamedTuple):
    """Rows by expert, padded to the busiest one; place m is at rows[places.experts[m], height[m]]."""

    rows: Tensor  # (E, capacity, D)
    height: Tensor  # (M,)
    places: Sorted


class Sparse:
    """The sparse head, x (N, D) -> (N, C): each expert on its slice of the sorted rows, or all padded."""

    def __init__(self, head: SparseMoEHead, *, sliced: bool, training: bool = False) -> None:
        self.head = head
        self.sliced = sliced
        self.route = head.routing if training else router(head)
        self.experts = list(zip(head.w1, head.b1, head.w2, head.b2, strict=True))

    def __call__(self, x: Tensor) -> Tensor:
        """Return the logits (N, C) of x (N, D)."""
        if x.shape[0] == 0:
            return x.new_empty(0, self.head.config.classes)
        with stage("route"):
            routing = self.route(x)
        with stage("dispatch"):
            sent = self.dispatch(x, routing)
        with stage("experts"):
            y = self.products(sent)  # (M, C)
        with stage("combine"):
            return combine(y, sent.places, routing)

    def dispatch(self, x: Tensor, routing: Routing) -> _Slices | _Padded:
        """Return the rows of x (N, D) sorted by expert."""
        places = sort_by_expert(routing)
        rows = x.index_select(0, places.rows)  # (M, D)
        if self.sliced:
            return _Slices(rows.tensor_split(places.ends.tolist()[:-1]), places)
        return _padded(rows, places)

    def products(self, sent: _Slices | _Padded) -> Tensor:
        """Return the outputs (M, C) of the experts for their rows, in the order of the places."""
        head = self.head
        if isinstance(sent, _Slices):
            return torch.cat([self._expert(e, rows) for e, rows in enumerate(sent.rows) if len(rows)])
        h = head.activation(torch.baddbmm(head.b1[:, None], sent.rows, head.w1))  # (E, capacity, H)
        y = torch.baddbmm(head.b2[:, None], h, head.w2)  # (E, capacity, C)
        return y[sent.places.experts, sent.height]

    def _expert(self, e: int, x: Tensor) -> Tensor:
        w1, b1, w2, b2 = self.experts[e]
        return torch.addmm(b2, self.head.activation(torch.addmm(b1, x, w1)), w2)


def _padded(rows: Tensor, places: Sorted) -> _Padded:
    starts = F.pad(places.ends, (1, 0))[:-1]  # (E,)
    capacity = int((places.ends - starts).max())
    height = torch.arange(len(rows), device=rows.device) - starts[places.experts]  # (M,), within the expert
    padded = rows.new_zeros(len(starts), capacity, rows.shape[1])
    padded[places.experts, height] = rows
    return _Padded(padded, height, places)


FORM = Form("eager", 1, "eager PyTorch, rows sorted by expert", always, _prepare, _train, steps=_steps)
