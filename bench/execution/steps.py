"""Counterfactuals: calls that do a growing part of a form's work, so that differences of their times are its parts.

Letters: N rows, D input width, H hidden width of one expert, E experts, M assignments of a row to an expert, C output
width.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import torch
from torch import Tensor

from models.heads.soft import SoftMoEHead
from models.heads.sparse import SparseMoEHead
from models.routing import Routing, router_scores
from reports.records.record import Step

Steps = dict[Step, Callable[[], object]]
"""Calls in order, each of which contains the one before."""
Sent = TypeVar("Sent")
"""Rows in the layout in which a form passes them to the experts."""


def sparse_steps(
    head: SparseMoEHead,
    x: Tensor,
    dispatch: Callable[[Tensor, Routing], Sent],
    products: Callable[[Sent], object],
    combined: Callable[[Tensor], object],
    dispatched: Callable[[Tensor, Routing], object] | None = None,
    route: Callable[[Tensor], Routing] | None = None,
) -> Steps:
    """Return the steps of a form on x (N, D), N > 0.

    `dispatch` makes the input of `products`, and `combined` is the whole form. `dispatched` does dispatch and products
    as the form does them, by default one after the other. `route` is how the form routes, by default as the head does.
    """
    route = route or head.routing
    routing = head.routing(x)
    even, sent = dispatch(x, balanced(routing)), dispatch(x, routing)
    both = dispatched or (lambda x, routing: products(dispatch(x, routing)))

    def gated() -> None:
        router_scores(x, head.gate)
        both(x, routing)

    return {
        "balanced": lambda: products(even),
        "products": lambda: products(sent),
        "dispatched": lambda: both(x, routing),
        "gated": gated,
        "routed": lambda: both(x, route(x)),
        "combined": lambda: combined(x),
    }


def soft_steps(
    head: SoftMoEHead, x: Tensor, products: Callable[[], object], combined: Callable[[Tensor], object]
) -> Steps:
    """Return the steps of a form on x (N, D), N > 0, from all experts' `products` and `combined`, the whole form."""

    def gated() -> None:
        router_scores(x, head.gate)
        products()

    def routed() -> None:
        head.shares(x)
        products()

    return {"balanced": products, "gated": gated, "routed": routed, "combined": lambda: combined(x)}


def balanced(routing: Routing) -> Routing:
    """Return `routing` with its M assignments dealt to the E experts in turn, so that loads differ by at most 1."""
    places = torch.arange(routing.experts.shape[0], device=routing.experts.device)  # (M,)
    return routing._replace(experts=places % routing.scores.shape[-1])
