"""torch's grouped matrix product over rows sorted by expert.

Letters: N rows, D input width, H hidden width of one expert, E experts, M assignments, C output width.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from bench.forms.form import Form, Runner, torch_runner
from bench.forms.sorting import combine, rows_in, sort_by_expert
from bench.stages import stage
from models.config import HeadConfig, SparseConfig
from models.heads import Head
from models.sparse import SparseMoEHead

ALIGNMENT = 16
"""grouped_mm wants every row to be a multiple of this many bytes."""


def _unavailable(config: HeadConfig, device: torch.device, dtype: torch.dtype) -> str | None:
    if not isinstance(config, SparseConfig):
        return f"a {config.kind} head gives every row to the same experts, so there are no groups of rows to multiply"
    if device.type == "cuda" and dtype is not torch.bfloat16:
        return "on a GPU torch's grouped_mm is one grouped product for bfloat16 only and loops over experts otherwise"
    return None


def _prepare(head: Head, example: Tensor) -> Runner:
    assert isinstance(head, SparseMoEHead)
    w1, b1 = aligned(head.w1, dims=(1, 2)), aligned(head.b1, dims=(1,))
    w2, b2 = aligned(head.w2, dims=(1, 2)), aligned(head.b2, dims=(1,))
    C = head.config.classes

    def run(x: Tensor) -> Tensor:
        if x.shape[0] == 0:
            return x.new_empty(0, C)
        with stage("route"):
            routing = head.routing(x)
        with stage("dispatch"):
            experts, ends, order = sort_by_expert(routing.experts, head.config.experts)
            rows = rows_in(order, routing)  # (M,)
            offsets = ends.to(torch.int32)
            gathered = aligned(x, dims=(1,))[rows]  # (M, D)
        with stage("experts"):
            h = head.activation(F.grouped_mm(gathered, w1, offs=offsets) + b1[experts])  # (M, H)
            y = F.grouped_mm(h, w2, offs=offsets) + b2[experts]  # (M, C)
        with stage("combine"):
            return combine(y[:, :C], order, rows, routing)

    return torch_runner(run, example)


def aligned(tensor: Tensor, dims: tuple[int, ...]) -> Tensor:
    """Return `tensor` with zeros appended along `dims` up to the alignment; zero padding never changes a product.

    Padded hidden values are activation(0) = 0 for every activation there is.
    """
    step = ALIGNMENT // tensor.element_size()
    padding = [0] * (2 * tensor.ndim)
    for dim in dims:
        padding[2 * (tensor.ndim - 1 - dim) + 1] = -tensor.shape[dim] % step
    return F.pad(tensor, padding) if any(padding) else tensor


FORM = Form("grouped_mm", 3, "torch's grouped_mm on sorted rows", _unavailable, _prepare)
