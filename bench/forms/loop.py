"""The naive baseline: a Python loop over experts, as in the code of arXiv 2601.15021.

Each expert checks whether it has rows, so on a GPU the host waits for the device E times per call.

Letters: N rows, D input width, H hidden width of one expert, E experts, m rows of one expert, C output width.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from bench.forms.form import Form, Runner, torch_runner
from bench.forms.stages import stage
from bench.forms.steps import Steps, soft_steps, sparse_steps
from models.heads.heads import Head, HeadConfig
from models.heads.soft import SoftMoEHead
from models.heads.sparse import SparseMoEHead
from models.routing import Routing


def _unavailable(config: HeadConfig, device: torch.device, dtype: torch.dtype) -> str | None:
    if not config.gated:
        return "a dense head has no experts to loop over; its plain form is eager"
    return None


def _prepare(head: Head, example: Tensor) -> Runner:
    return torch_runner(_run(head), example)


def _run(head: Head) -> Callable[[Tensor], Tensor]:
    if isinstance(head, SoftMoEHead):
        return partial(_soft_loop, head)
    assert isinstance(head, SparseMoEHead)
    return partial(_sparse_loop, head)


def _steps(head: Head, x: Tensor) -> Steps:
    if isinstance(head, SoftMoEHead):
        return _soft_steps(head, x)
    assert isinstance(head, SparseMoEHead)
    return sparse_steps(
        head,
        x,
        dispatch=partial(_gathered, head),
        products=partial(_products, head),
        dispatched=partial(_dispatched, head),
        combined=partial(_sparse_loop, head),
    )


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


def _soft_steps(head: SoftMoEHead, x: Tensor) -> Steps:
    def products() -> None:
        for e in range(head.config.experts):
            _expert(head, e, x)

    return soft_steps(head, x, products, partial(_soft_loop, head))


def _sparse_loop(head: SparseMoEHead, x: Tensor) -> Tensor:
    with stage("route"):
        routing = head.routing(x)
    out = torch.zeros(x.shape[0], head.config.classes, dtype=routing.weights.dtype, device=x.device)
    for e in range(head.config.experts):
        with stage("dispatch"):
            chosen = _assigned(routing, e)  # (m,)
            if chosen.numel() == 0:
                continue
            rows = routing.rows[chosen]  # (m,)
            gathered = x[rows]  # (m, D)
        with stage("experts"):
            y = _expert(head, e, gathered)  # (m, C)
        with stage("combine"):
            out[rows] += routing.weights[chosen, None] * y
    return out.to(x.dtype)


def _assigned(routing: Routing, e: int) -> Tensor:
    """Return the assignments (m,) to expert e."""
    return torch.where(routing.experts == e)[0]


def _gathered(head: SparseMoEHead, x: Tensor, routing: Routing) -> list[tuple[int, Tensor]]:
    """Return each expert that has rows, with these (m, D)."""
    return [
        (e, x[routing.rows[chosen]]) for e in range(head.config.experts) if (chosen := _assigned(routing, e)).numel()
    ]


def _products(head: SparseMoEHead, gathered: list[tuple[int, Tensor]]) -> None:
    for e, rows in gathered:
        _expert(head, e, rows)


def _dispatched(head: SparseMoEHead, x: Tensor, routing: Routing) -> None:
    for e in range(head.config.experts):
        chosen = _assigned(routing, e)  # (m,)
        if chosen.numel():
            _expert(head, e, x[routing.rows[chosen]])


FORM = Form("loop", 0, "Python loop over experts (the paper's)", _unavailable, _prepare, steps=_steps, capturable=False)
