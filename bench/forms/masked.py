"""The sparse head without sorting: all experts run on all rows, scaled by weights that are mostly zero.

Letters: N rows, D input width, H hidden width of one expert, E experts, k experts per row, C output width.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from bench.execution.form import Form, Runner, torch_runner
from bench.execution.stages import stage
from bench.forms.eager import wide_products
from bench.forms.routing import router
from models.heads.heads import Head, HeadConfig
from models.heads.sparse import SparseMoEHead
from models.routing import Routing

MOST_WASTE = 8
"""Running all experts is left out if it takes more than so many times the operations needed."""


def too_many(config: HeadConfig) -> str | None:
    """Return why running all experts of a sparse head makes no sense, or None."""
    if config.policy and MOST_WASTE * config.most_experts < config.experts:
        waste = config.experts // config.most_experts
        return f"running all {config.experts} experts for {config.most_experts} would take {waste} times the operations"
    return None


def _unavailable(config: HeadConfig, device: torch.device, dtype: torch.dtype) -> str | None:
    if not config.policy:
        return f"a {config.kind} head runs all of its experts anyway; its plain form is eager"
    return too_many(config)


def wide_sparse(head: SparseMoEHead, route: Callable[[Tensor], Routing]) -> Callable[[Tensor], Tensor]:
    """Return the sparse head, routed by `route`, as two wide products, (N, D) -> (N, C)."""
    hidden, out = wide_products(head)

    def run(x: Tensor) -> Tensor:
        with stage("route"):
            routing = route(x)
            weights = routing.matrix().to(x.dtype)  # (N, E)
        with stage("experts"):
            return routing.spoil(out(weights @ head.b2, hidden(x) * weights[:, :, None]))

    return run


def _prepare(head: Head, example: Tensor) -> Runner:
    assert isinstance(head, SparseMoEHead)
    return torch_runner(wide_sparse(head, router(head)), example)


def _train(head: Head, example: Tensor) -> Runner:
    assert isinstance(head, SparseMoEHead)
    return torch_runner(lambda x: wide_sparse(head, head.routing)(x), example)


FORM = Form("masked", 6, "all experts in one masked product", _unavailable, _prepare, _train, default=False)
