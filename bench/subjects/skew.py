"""Rows made so that a gate sends them to chosen experts: routing as one more axis.

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
"""Added to the scores of the experts that a row shall choose, in standard deviations of a score."""


def chosen_experts(skew: Skew, rows: int, experts: int, k: int, seed: int = 0) -> Tensor:
    """Return ids (N, k) int64, distinct in a row, on the CPU.

    "balanced" gives every expert the same number of rows, or one more; "uniform", "zipf1" and "zipf2" draw k experts
    without replacement by 1 / rank^s with s = 0, 1, 2; "hot" puts expert 0 in every row and balances the others; "one"
    sends every row to experts 0 to k - 1.
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
    """Return ids (N, k): the experts in a random order, over and over, the rows then shuffled."""
    order = torch.randperm(experts, generator=generator)
    ids = order[torch.arange(rows * k) % experts].view(rows, k)
    return ids[torch.randperm(rows, generator=generator)]


def unsteerable(head: Head) -> str | None:
    """Return why no rows can be made that choose their experts in `head`, or None; heads without a choice take any."""
    if not isinstance(head, SparseMoEHead):
        return None
    if not isinstance(head.config, TopKConfig):
        return f"rows can be made for top_k routing, not for {head.config.policy}; leave --routing out"
    if head.config.features < head.config.experts:
        return "rows of fewer values than experts cannot be sent to any expert; leave --routing out"
    return None


def _raising(gate: Tensor, by: float) -> Tensor:
    """Return (E, D) float64 on the CPU: row e, added to an x (D,), raises only expert e's score under `gate` (E, D).

    It raises it by `by`. This holds if the rows of the gate are independent, so D >= E.
    """
    inverse: Tensor = torch.linalg.pinv(gate.detach().cpu().double())  # (D, E)
    return by * inverse.T


def skewed_rows(head: SparseMoEHead, skew: Skew, rows: int, seed: int = 0) -> Tensor:
    """Return x (N, D) float32 on the CPU that `head`, under top-k routing, sends to the experts of `chosen_experts`.

    Normal rows are moved along the directions that raise one expert's score and no other's; among the experts of a row
    the differences of the noise stay, hence unequal weights. Raises `BenchError` if the gate cannot be steered: for the
    reason that `unsteerable` gives, or because its scores depend on each other.
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
    push = _raising(weight, PUSH * reach)  # (E, D)
    x = (x + torch.nn.functional.embedding_bag(ids, push, mode="sum")).float()
    routed = head.routing(x.to(head.gate.weight)).ids.cpu()  # (N, k)
    if not torch.equal(routed.sort(dim=1).values, ids.sort(dim=1).values):
        raise BenchError(f"no rows can be made that this gate sends to {skew} experts; leave --routing out")
    return x
