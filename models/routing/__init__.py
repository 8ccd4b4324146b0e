"""Routing: which expert serves which row, with which weight; one policy per file."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Routing(NamedTuple):
    """A routing decision over N rows and E experts; weights and scores are float32 or wider.

    `scores` are those the decision rests on, before noise; `noisy` and `noise_std` are present in training only.
    """

    ids: Tensor  # (N, k) int32
    weights: Tensor  # (N, k)
    scores: Tensor  # (N, E)
    noisy: Tensor | None = None  # (N, E)
    noise_std: Tensor | None = None  # (N, E)


def router_scores(x: Tensor, layer: nn.Linear) -> Tensor:
    """Return layer(x) (N, E) for x (N, D), computed in float32 whatever narrower dtype the head runs in.

    A rounding of 1e-2 in a score sends rows to other experts, so routers run in float32 (Fedus et al. 2021,
    section 2.4); the decision is then the same in every form.
    """
    dtype = torch.promote_types(x.dtype, torch.float32)
    with torch.autocast(x.device.type, enabled=False):
        return F.linear(x.to(dtype), layer.weight.to(dtype), layer.bias.to(dtype))
