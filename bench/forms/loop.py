"""The naive baseline: a Python loop over experts, as in the code of arXiv 2601.15021.

Each expert asks whether it has rows, which on a GPU makes the host wait for the device E times per call.

Letters: N rows, D input width, H hidden width of one expert, E experts, m rows of one expert, C output width.
"""

from __future__ import annotations

import torch
from torch import Tensor

from bench.forms.form import Form, Runner, torch_runner
from bench.stages import stage
from models.config import DenseConfig, HeadConfig
from models.heads import Head
from models.soft import SoftMoEHead
from models.sparse import SparseMoEHead


def _unavailable(config: HeadConfig, device: torch.device, dtype: torch.dtype) -> str | None:
    if isinstance(config, DenseConfig):
        return "a dense head has no experts to loop over; its plain form is eager"
    return None


def _prepare(head: Head, example: Tensor) -> Runner:
    if isinstance(head, SoftMoEHead):
        return torch_runner(lambda x: _soft_loop(head, x), example)
    assert isinstance(head, SparseMoEHead)
    return torch_runner(lambda x: _sparse_loop(head, x), example)


def _expert(head: SoftMoEHead | SparseMoEHead, e: int, x: Tensor) -> Tensor:
    h = head.activation(x @ head.w1[e] + head.b1[e])  # (m, H)
    return h @ head.w2[e] + head.b2[e]  # (m, C)


def _soft_loop(head: SoftMoEHead, x: Tensor) -> Tensor:
    with stage("route"):
        weights = head.shares(x)[0]  # (N, E)
    out = torch.zeros(x.shape[0], head.config.classes, dtype=weights.dtype, device=x.device)
    for e in range(head.config.experts):
        with stage("experts"):
            y = _expert(head, e, x)  # (N, C)
        with stage("combine"):
            out += weights[:, e, None] * y
    return out.to(x.dtype)


def _sparse_loop(head: SparseMoEHead, x: Tensor) -> Tensor:
    with stage("route"):
        routing = head.routing(x)
    out = torch.zeros(x.shape[0], head.config.classes, dtype=routing.weights.dtype, device=x.device)
    for e in range(head.config.experts):
        with stage("dispatch"):
            (chosen,) = torch.where(routing.experts == e)  # (m,)
            if chosen.numel() == 0:
                continue
            rows = routing.rows[chosen]  # (m,)
            gathered = x[rows]  # (m, D)
        with stage("experts"):
            y = _expert(head, e, gathered)  # (m, C)
        with stage("combine"):
            out[rows] += routing.weights[chosen, None] * y
    return out.to(x.dtype)


FORM = Form("loop", 0, "Python loop over experts (the paper's)", _unavailable, _prepare)
