"""The naive baseline: a Python loop over experts, as in the code of arXiv 2601.15021.

Each expert checks whether it has rows, so on a GPU the host waits for the device E times per call.

Letters: N rows, D input width, H hidden width of one expert, E experts, m rows of one expert, C output width.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import partial

import torch
from torch import Tensor

from bench.execution.form import Form, Runner, torch_runner
from bench.execution.stages import stage
from bench.execution.steps import Steps, soft_steps, sparse_steps
from models.heads.heads import Head, HeadConfig
from models.heads.soft import SoftMoEHead
from models.heads.sparse import SparseMoEHead
from models.routing import Routing


def _unavailable(config: HeadConfig, device: torch.device, dtype: torch.dtype) -> str | None:
    return None if config.gated else "a dense head has no experts to loop over; its plain form is eager"


def _prepare(head: Head, example: Tensor) -> Runner:
    return torch_runner(_run(head), example)


def _run(head: Head) -> Callable[[Tensor], Tensor]:
    if isinstance(head, SoftMoEHead):
        return partial(_soft_loop, head)
    assert isinstance(head, SparseMoEHead)
    return partial(_sparse_loop, head)


def _steps(head: Head, x: Tensor) -> Steps:
    if isinstance(head, SoftMoEHead):
        every = [(e, x) for e in range(head.config.experts)]
        return soft_steps(head, x, lambda: _products(head, every), _run(head))
    assert isinstance(head, SparseMoEHead)
    return sparse_steps(
        head,
        x,
        dispatch=lambda x, routing: list(_gathered(x, routing)),
        products=partial(_products, head),
        combined=_run(head),
        dispatched=lambda x, routing: _products(head, _gathered(x, routing)),
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


def _sparse_loop(head: SparseMoEHead, x: Tensor) -> Tensor:
    with stage("route"):
        routing = head.routing(x)
    out = torch.zeros(x.shape[0], head.config.classes, dtype=routing.weights.dtype, device=x.device)
    for e in range(head.config.experts):
        with stage("dispatch"):
            chosen = torch.where(routing.experts == e)[0]  # (m,)
            if chosen.numel() == 0:
                continue
            rows = routing.rows[chosen]  # (m,)
            gathered = x[rows]  # (m, D)
        with stage("experts"):
            y = _expert(head, e, gathered)  # (m, C)
        with stage("combine"):
            out[rows] += routing.weights[chosen, None] * y
    return routing.spoil(out).to(x.dtype)


def _gathered(x: Tensor, routing: Routing) -> Iterator[tuple[int, Tensor]]:
    """Yield each expert that has rows, with these (m, D)."""
    for e in range(routing.scores.shape[-1]):
        chosen = torch.where(routing.experts == e)[0]  # (m,)
        if chosen.numel():
            yield e, x[routing.rows[chosen]]


def _products(head: SoftMoEHead | SparseMoEHead, gathered: Iterable[tuple[int, Tensor]]) -> None:
    for e, rows in gathered:
        _expert(head, e, rows)


FORM = Form(
    "loop", 0, "Python loop over experts (the paper's)", _unavailable, _prepare, _prepare,
    steps=_steps, capturable=False,
)  # fmt: skip
