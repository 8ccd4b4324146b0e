"""torch's grouped matrix product over rows sorted by expert.

Letters: N rows, D input width, H hidden width of one expert, E experts, M assignments, C output width.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from bench.execution.form import Form, Runner, nonzero, torch_runner, trained
from bench.execution.sorting import Sorted, combine, sort_by_expert
from bench.execution.stages import stage
from bench.execution.steps import Steps, sparse_steps
from bench.forms.routing import router
from models.heads.heads import Head, HeadConfig
from models.heads.sparse import SparseMoEHead
from models.routing import Routing
from models.settings import halves

ALIGNMENT = 16
"""grouped_mm needs rows of a multiple of so many bytes."""


def unavailable(config: HeadConfig, device: torch.device, dtype: torch.dtype) -> str | None:
    """Return why torch's grouped_mm cannot run a head here, or None."""
    if not config.policy:
        return f"a {config.kind} head gives every row to the same experts, so there are no groups of rows to multiply"
    if device.type == "cuda" and dtype is not torch.bfloat16:
        return "on a GPU torch's grouped_mm is one grouped product for bfloat16 only and loops over experts otherwise"
    return None


def _prepare(head: Head, example: Tensor) -> Runner:
    assert isinstance(head, SparseMoEHead)
    return torch_runner(GroupedHead(head), example)


def _train(head: Head, example: Tensor) -> Runner:
    assert isinstance(head, SparseMoEHead)
    return torch_runner(lambda x: GroupedHead(head, training=True)(x), example)


def _steps(head: Head, x: Tensor) -> Steps:
    assert isinstance(head, SparseMoEHead)
    run = GroupedHead(head)
    return sparse_steps(head, x, run.sort, run.products, run, route=run.route)


class Gathered(NamedTuple):
    """Rows sorted by expert, without padding."""

    rows: Tensor  # (M, D)
    offsets: Tensor  # (E,) int32, one past the last row of each expert
    places: Sorted


class GroupedHead:
    """The sparse head with weights padded for grouped_mm, x (N, D) -> (N, C)."""

    def __init__(
        self, head: SparseMoEHead, route: Callable[[Tensor], Routing] | None = None, *, training: bool = False
    ) -> None:
        self.head = head
        self.route = route or (head.routing if training else router(head))
        blocks = halves(head.config.activation)
        self.w1 = aligned(head.w1.unflatten(2, (blocks, -1)), dims=(1, 3)).flatten(2)  # (E, D, H), or (E, D, 2H)
        self.w2 = aligned(head.w2, dims=(1, 2))
        kept = trained if training else nonzero
        self.b1, self.b2 = kept(head.b1), kept(head.b2)
        if self.b1 is not None:
            self.b1 = aligned(self.b1.unflatten(1, (blocks, -1)), dims=(2,)).flatten(1)  # (E, H), or (E, 2H)
        if self.b2 is not None:
            self.b2 = aligned(self.b2, dims=(1,))

    def __call__(self, x: Tensor) -> Tensor:
        """Return the outputs (N, C) of x (N, D)."""
        C = self.head.config.classes
        if x.shape[0] == 0:
            return x.new_empty(0, C)
        with stage("route"):
            routing = self.route(x)
        with stage("dispatch"):
            gathered = self.sort(x, routing)
        with stage("experts"):
            y = self.products(gathered)  # (M, C)
        with stage("combine"):
            return combine(y[:, :C], gathered.places, routing)

    def sort(self, x: Tensor, routing: Routing) -> Gathered:
        """Return the rows of x (N, D) sorted by expert."""
        places = sort_by_expert(routing)
        return Gathered(aligned(x, dims=(1,)).index_select(0, places.rows), places.ends.to(torch.int32), places)

    def products(self, gathered: Gathered) -> Tensor:
        """Return the experts' outputs for sorted rows, (M, C) with C padded."""
        rows, offsets, places = gathered
        h = F.grouped_mm(rows, self.w1, offs=offsets)
        h = self.head.activation(h if self.b1 is None else h + self.b1.index_select(0, places.experts))
        y = F.grouped_mm(h, self.w2, offs=offsets)
        return y if self.b2 is None else y + self.b2.index_select(0, places.experts)


def aligned(tensor: Tensor, dims: tuple[int, ...]) -> Tensor:
    """Return `tensor` with zeros appended along `dims` up to the alignment; zero padding never changes a product.

    Padded hidden values are activation(0) = 0 for every activation there is.
    """
    step = ALIGNMENT // tensor.element_size()
    padding = [0] * (2 * tensor.ndim)
    for dim in dims:
        padding[2 * (tensor.ndim - 1 - dim) + 1] = -tensor.shape[dim] % step
    return F.pad(tensor, padding) if any(padding) else tensor


FORM = Form("grouped_mm", 3, "torch's grouped_mm on sorted rows", unavailable, _prepare, _train, steps=_steps)
