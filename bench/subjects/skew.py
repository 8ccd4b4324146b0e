"""Rows made so that a gate sends them to chosen experts, which makes routing one more axis of measurement.

Letters: N rows, D input width, E experts, k experts per row.
"""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor

from bench.errors import BenchError
from models.heads.heads import Head
from models.heads.sparse import SparseMoEHead
from models.routing.top_k import TopKConfig

Skew = Literal["balanced", "uniform", "zipf1", "zipf2", "hot", "one"]
SKEWS: tuple[Skew, ...] = get_args(Skew)
EXPONENTS = {"uniform": 0.0, "zipf1": 1.0, "zipf2": 2.0}
PUSH = 10.0
"""How far the scores of a row's chosen experts are raised, in standard deviations of a score."""


def chosen_experts(skew: Skew, rows: int, experts: int, k: int, seed: int = 0) -> Tensor:
    """Return expert ids (N, k) int64 on the CPU, distinct within a row.

    "balanced" gives all experts the same number of rows, up to one; "uniform", "zipf1" and "zipf2" draw k experts
    without replacement in proportion to 1 / rank^s with s = 0, 1, 2; "hot" gives every row expert 0 and balances the
    others; "one" sends every row to experts 0 to k - 1.
    """
    generator = torch.Generator().manual_seed(seed)
    if skew in EXPONENTS:
        popularity = -EXPONENTS[skew] * torch.arange(1, experts + 1).log()
        noise = torch.rand(rows, experts, generator=generator).clamp_(1e-12, 1 - 1e-7)
        return (popularity - (-noise.log()).log()).topk(k, dim=1).indices
    if skew == "balanced":
        return _even_experts(rows, experts, k, generator)
    if skew == "hot" and 1 < k < experts:
        others = _even_experts(rows, experts - 1, k - 1, generator) + 1
        return torch.cat([torch.zeros(rows, 1, dtype=torch.int64), others], dim=1)
    return torch.arange(k).expand(rows, k)


def _even_experts(rows: int, experts: int, k: int, generator: torch.Generator) -> Tensor:
    """Return ids (N, k): a random order of the experts, repeated, with the rows shuffled."""
    order = torch.randperm(experts, generator=generator)
    ids = order[torch.arange(rows * k) % experts].view(rows, k)
    return ids[torch.randperm(rows, generator=generator)]


def unsteerable(head: Head) -> str | None:
    """Return why no rows can be made for chosen experts of `head`, or None; a head without a choice takes any rows."""
    if not isinstance(head, SparseMoEHead):
        return None
    if not isinstance(head.config, TopKConfig):
        return f"rows can be made for top_k routing, not for {head.config.policy}; leave --routing out"
    if head.config.features < head.config.experts:
        return "rows with fewer values than experts cannot be sent to chosen experts; leave --routing out"
    return None


def skewed_rows(head: SparseMoEHead, skew: Skew, rows: int, seed: int = 0) -> Tensor:
    """Return x (N, D) float32 on the CPU that `head`, under top-k routing, sends to the experts of `chosen_experts`.

    Normal rows are moved along directions that each raise the score of one expert alone. The noise keeps the scores of
    a row's experts different, so their weights are unequal. Raises `BenchError` if the gate cannot be steered: for a
    reason of `unsteerable`, or because its scores depend on each other.
    """
    config = head.config
    if reason := unsteerable(head):
        raise BenchError(reason)
    ids = chosen_experts(skew, rows, config.experts, config.k, seed)  # (N, k)
    weight = head.gate.weight.detach().cpu().double()  # (E, D)
    bias = head.gate.bias.detach().cpu().double()  # (E,)
    x = torch.randn(rows, config.features, generator=torch.Generator().manual_seed(seed)).double()
    if rows == 0:
        return x.float()
    reach = float((x @ weight.T).std()) + float(bias.abs().max())
    push = PUSH * reach * torch.linalg.pinv(weight).T  # (E, D), row e raises only expert e's score, if D >= E
    x = (x + torch.nn.functional.embedding_bag(ids, push, mode="sum")).float()
    routed = head.routing(x.to(head.gate.weight)).ids.cpu()  # (N, k)
    if not torch.equal(routed.sort(dim=1).values, ids.sort(dim=1).values):
        raise BenchError(f"no rows can be made that this gate routes as {skew}; leave --routing out")
    return x
