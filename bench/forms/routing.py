"""A head's routing for forms that run operator by operator: the same decision with fewer operators.

Every operator costs microseconds. The definition, `SparseMoEHead.routing`, standardises a row in fifteen of them. Plain
top-k takes a third here, because it ranks the scores of the gate themselves: standardising a row keeps the order of its
scores. The weights need no mean either, since a softmax takes any shift; only the deviation remains, which is one
operator in float64, where it neither overflows nor vanishes.

Letters: N rows, D input width, E experts, k experts per row.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from models.heads.sparse import SparseMoEHead
from models.routing import Routing, every_row
from models.routing.top_k import plain_top_k

SMALLEST_VARIANCE = 1e-200
"""Added to the variance of a row, so that equal scores get equal weights; no two float32 scores differ so little."""


Choice = Callable[[Tensor, int], tuple[Tensor, Tensor]]
"""From scores (N, E) and k to the k best of each row, largest first: scores and ids (N, k) each.

Equal scores rank by lowest id and NaN above every number, and ids are distinct.
"""


def by_sort(scores: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Choose by one sort, the fewest operators."""
    best, ids = torch.sort(scores, dim=-1, descending=True, stable=True)
    return best[:, :k], ids[:, :k]


def by_max(scores: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Choose by k times the largest, which a compiler fuses with all around it, unlike a sort."""
    every = torch.arange(scores.shape[-1], device=scores.device)
    left = scores.clamp_min(torch.finfo(scores.dtype).min)  # above what is taken
    best, ids = [], []
    for _ in range(k):
        largest, place = left.max(dim=-1, keepdim=True)  # (N, 1), the first of equal ones
        best.append(largest)
        ids.append(place)
        left = torch.where(every == place, -torch.inf, left)
    return torch.cat(best, dim=-1), torch.cat(ids, dim=-1)


def router(head: SparseMoEHead, choose: Choice = by_sort) -> Callable[[Tensor], Routing]:
    """Return the routing of x (N, D) for inference: `head.routing`, unless plain top-k takes fewer operators."""
    config = head.config
    if not plain_top_k(config):
        return head.routing
    E, k = config.experts, config.k
    dtype = torch.promote_types(head.gate.weight.dtype, torch.float32)
    weight, bias = head.gate.weight.to(dtype), head.gate.bias.to(dtype)

    def scale(scores: Tensor) -> Tensor | float:
        if not config.standardise:
            return 1 / config.temperature
        spread = torch.native_layer_norm(scores.double(), (E,), None, None, SMALLEST_VARIANCE)[2]  # (N, 1), 1 / std
        return spread * (math.sqrt((E - 1) / E) / config.temperature)  # it divides by E, the definition by E - 1

    def route(x: Tensor) -> Routing:
        scores = F.linear(x.to(dtype), weight, bias)  # (N, E)
        best, ids = choose(scores, k)  # (N, k) each
        if config.weights_over == "selected":
            weights = torch.softmax(best * scale(scores), dim=-1)
        else:
            weights = torch.softmax(scores * scale(scores), dim=-1).gather(-1, ids)
        rows = every_row(len(x), k, x.device)
        return Routing(rows, ids.reshape(-1), weights.to(dtype).reshape(-1), scores, per_row=k)

    return route
