"""Routing: expert scores to the k experts of each row and their weights, in one launch.

N rows, E experts, k experts per row.
"""

from typing import Literal

import torch
import triton
import triton.language as tl
from torch import Tensor

from kernels.checks import bind_shapes, require_dtype
from kernels.launch import launch, require_device

WeightsOver = Literal["selected", "all"]

TAKEN = tl.constexpr(-(2**63))


@triton.jit
def _standardise(z, real, E: tl.constexpr):
    """Return rows of mean 0 and unbiased standard deviation 1; rows of equal scores become 0."""
    mean = tl.div_rn(tl.sum(z, axis=1), E * 1.0)
    c = tl.where(real, z - mean[:, None], 0.0)
    largest = tl.max(tl.abs(c), axis=1)
    c = tl.div_rn(c, tl.where(largest > 0.0, largest, 1.0)[:, None])
    variance = tl.div_rn(tl.sum(c * c, axis=1), max(E - 1, 1) * 1.0)
    return tl.div_rn(c, tl.where(variance == 0.0, 1.0, tl.sqrt_rn(variance))[:, None])


@triton.jit
def _rank(z, e, block_e: tl.constexpr):
    """Return distinct int64 keys above TAKEN in the order of z: NaN largest, equal scores by lowest id."""
    bits = tl.where(z == 0.0, 0.0, z).to(tl.int32, bitcast=True)  # -0 equals +0
    key = tl.where(bits < 0, bits ^ 0x7FFFFFFF, bits)
    key = tl.where(z != z, 0x7FFFFFFF, key)
    return (key.to(tl.int64) << 32) | (block_e - 1 - e)[None, :].to(tl.int64)


@triton.jit
def _unrank(ranked, block_e: tl.constexpr):
    """Return the ids (int32) and scores (fp32) from which `_rank` made the keys."""
    e = (block_e - 1 - (ranked & 0x7FFFFFFF)).to(tl.int32)
    key = (ranked >> 32).to(tl.int32)
    return e, tl.where(key < 0, key ^ 0x7FFFFFFF, key).to(tl.float32, bitcast=True)


@triton.jit(do_not_specialize=["N"])
def _top_k_kernel(
    scores,
    ids,
    weights,
    stride_n,
    stride_e,
    temperature,
    N,
    E: tl.constexpr,
    k: tl.constexpr,
    standardise: tl.constexpr,
    over_all: tl.constexpr,
    block_n: tl.constexpr,
    block_e: tl.constexpr,
    block_k: tl.constexpr,
):
    n = tl.program_id(0).to(tl.int64) * block_n + tl.arange(0, block_n)
    e = tl.arange(0, block_e)
    j = tl.arange(0, block_k)
    real = (e < E)[None, :]
    z = tl.load(
        scores + n[:, None] * stride_n + e.to(tl.int64)[None, :] * stride_e,
        mask=(n < N)[:, None] & real,
        other=0.0,
    )  # (block_n, block_e)
    if standardise:
        z = _standardise(z, real, E)

    ranked = tl.where(real, _rank(z, e, block_e), TAKEN)  # (block_n, block_e)
    chosen = tl.full((block_n, block_k), 0, tl.int64)
    for step in range(k):
        best = tl.max(ranked, axis=1)[:, None]
        ranked = tl.where(ranked == best, TAKEN, ranked)
        chosen = tl.where((j == step)[None, :], best, chosen)
    chosen_ids, chosen_z = _unrank(chosen, block_e)  # (block_n, block_k)

    logits = tl.where((j < k)[None, :], tl.div_rn(chosen_z, temperature), float("-inf"))
    largest = tl.max(logits, axis=1)[:, None]
    powers = tl.exp(logits - largest)
    if over_all:
        every = tl.where(real, tl.div_rn(z, temperature), float("-inf"))
        total = tl.sum(tl.exp(every - largest), axis=1)
    else:
        total = tl.sum(powers, axis=1)

    place = n[:, None] * k + j[None, :]
    inside = (n < N)[:, None] & (j < k)[None, :]
    tl.store(ids + place, chosen_ids, mask=inside)
    tl.store(weights + place, tl.div_rn(powers, total[:, None]), mask=inside)


def top_k_routing(
    scores: Tensor, k: int, *, temperature: float, standardise: bool, weights_over: WeightsOver
) -> tuple[Tensor, Tensor]:
    """Return the ids (N, k) int32 and weights (N, k) fp32 of the k best experts of each row, best first.

    Args:
        scores: (N, E) fp32, any strides.
        k: Experts per row, 1 to E.
        temperature: Divides the scores in the softmax; above 0.
        standardise: Shift and scale each row to mean 0 and standard deviation 1 (n - 1) first.
        weights_over: Softmax over the "selected" k, or over "all" E and not renormalised.

    A row always has k distinct ids in range: equal scores rank by lowest id, NaN above every number. A row
    with a NaN score has NaN weights and leaves the other rows alone.

    Raises:
        ValueError: An argument has the wrong shape, type, range or device.
    """
    require_device(scores=scores)
    require_dtype(torch.float32, scores=scores)
    N, E = bind_shapes(scores=(scores, "N E")).values()
    if not 1 <= k <= E:
        raise ValueError(f"k must be between 1 and E = {E}, not {k}")
    if not 0 < temperature < float("inf"):
        raise ValueError(f"temperature must be above 0 and finite, not {temperature}")
    if weights_over not in ("selected", "all"):
        raise ValueError(f'weights_over must be "selected" or "all", not {weights_over!r}')
    ids = torch.empty(N, k, dtype=torch.int32, device=scores.device)
    weights = torch.empty(N, k, dtype=torch.float32, device=scores.device)
    block_e = triton.next_power_of_2(E)
    block_n = max(1, 1024 // block_e)
    launch(
        _top_k_kernel,
        (triton.cdiv(N, block_n),),
        {
            "scores": scores,
            "ids": ids,
            "weights": weights,
            "stride_n": scores.stride(0),
            "stride_e": scores.stride(1),
            "temperature": float(temperature),
            "N": N,
            "E": E,
            "k": k,
            "standardise": standardise,
            "over_all": weights_over == "all",
            "block_n": block_n,
            "block_e": block_e,
            "block_k": triton.next_power_of_2(k),
        },
    )
    return ids, weights


def top_k_routing_reference(
    scores: Tensor, k: int, *, temperature: float, standardise: bool, weights_over: WeightsOver
) -> tuple[Tensor, Tensor]:
    """Return what `top_k_routing` does, computed in the dtype of `scores`."""
    z = scores  # (N, E)
    if standardise:
        c = z - z.mean(dim=1, keepdim=True)
        largest = c.abs().amax(dim=1, keepdim=True)
        c = c / torch.where(largest > 0, largest, 1)
        variance = c.square().sum(dim=1, keepdim=True) / max(z.shape[1] - 1, 1)
        z = c / torch.where(variance == 0, 1, variance.sqrt())
    ids = torch.sort(z, dim=1, descending=True, stable=True).indices[:, :k]  # (N, k)
    logits = z / temperature
    if weights_over == "selected":
        weights = torch.softmax(logits.gather(1, ids), dim=1)
    else:
        weights = torch.softmax(logits, dim=1).gather(1, ids)
    return ids.to(torch.int32), weights
