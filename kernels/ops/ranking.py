"""Ranking: from scores to the chosen experts and their weights, for every kernel that routes rows.

N rows, E experts, k experts per row. Scores z are fp32 tiles (block_n, block_e) with block_e >= E columns; the values
in the columns from E on do not matter.
"""

import triton
import triton.language as tl

TAKEN = tl.constexpr(-(2**31))
"""A key below those of all scores."""

LEAST = tl.constexpr(2.0**-126)
"""The least fp32 whose inverse is finite."""


@triton.jit
def standardise(z, real, E: tl.constexpr) -> tl.tensor:
    """Return rows of mean 0 and unbiased standard deviation 1; rows of equal scores become 0."""
    mean = tl.div_rn(tl.sum(tl.where(real, z, 0.0), axis=1), E * 1.0)
    c = tl.where(real, z - mean[:, None], 0.0)
    largest = tl.maximum(tl.max(tl.abs(c), axis=1), LEAST)
    c *= tl.div_rn(1.0, largest)[:, None]  # so that squares neither overflow nor underflow
    variance = tl.div_rn(tl.sum(c * c, axis=1), max(E - 1, 1) * 1.0)
    return c * tl.div_rn(1.0, tl.where(variance == 0.0, 1.0, tl.sqrt_rn(variance)))[:, None]


@triton.jit
def rank(z) -> tl.tensor:
    """Return int32 keys above TAKEN that rank as z does, with NaN on top."""
    bits = tl.where(z == 0.0, 0.0, z).to(tl.int32, bitcast=True)  # -0 equals +0
    key = tl.where(bits < 0, bits ^ 0x7FFFFFFF, bits)
    return tl.where(z != z, 0x7FFFFFFF, key)


@triton.jit
def unrank(key) -> tl.tensor:
    """Return the fp32 scores of keys that `rank` made."""
    return tl.where(key < 0, key ^ 0x7FFFFFFF, key).to(tl.float32, bitcast=True)


@triton.jit
def _take_best(key, e):
    """Return each row's largest key, its first place, and the keys without it."""
    best, place = tl.max(key, axis=1, return_indices=True, return_indices_tie_break_left=True)
    return best, place, tl.where(e[None, :] == place[:, None], TAKEN, key)


@triton.jit
def top_k(z, e, real, k: tl.constexpr, block_k: tl.constexpr) -> tuple[tl.tensor, tl.tensor, tl.tensor]:
    """Return ids (int32) and scores (fp32) of each row's k best real columns, best first, and which columns they are.

    Ids and scores are (block_n, block_k) and hold 0 from place k on; the columns are (block_n, block_e). Of equal
    scores the lowest id comes first, and NaN ranks above every number.
    """
    j = tl.arange(0, block_k)[None, :]
    key = tl.where(real, rank(z), TAKEN)  # (block_n, block_e)
    ids = tl.zeros((z.shape[0], block_k), tl.int32)
    keys = tl.zeros((z.shape[0], block_k), tl.int32)
    for step in range(k):
        best, place, key = _take_best(key, e)
        ids = tl.where(j == step, place[:, None], ids)
        keys = tl.where(j == step, best[:, None], keys)
    return ids, unrank(keys), real & (key == TAKEN)


@triton.jit
def chosen_columns(z, e, real, k: tl.constexpr) -> tl.tensor:
    """Return which columns `top_k` chooses, (block_n, block_e)."""
    key = tl.where(real, rank(z), TAKEN)
    for _ in range(k):
        key = _take_best(key, e)[2]
    return real & (key == TAKEN)


@triton.jit
def gate_matrix(
    z, e, real, E: tl.constexpr, k: tl.constexpr, temperature, standardised: tl.constexpr, over_all: tl.constexpr
) -> tuple[tl.tensor, tl.tensor]:
    """Return the weights (block_n, block_e), 0 where not chosen, and which columns are chosen, of the same shape.

    Args:
        z: Scores (block_n, block_e), fp32.
        e: tl.arange(0, block_e).
        real: (e < E)[None, :].
        E: Experts.
        k: Experts per row; with k = E nothing is selected, since all are chosen.
        temperature: Divides the scores in the softmax.
        standardised: Whether `standardise` is applied first.
        over_all: Whether the softmax is over all E, not only the chosen.

    A row with a NaN score has NaN weights wherever it has any.
    """
    if standardised:
        z = standardise(z, real, E)
    chosen = tl.broadcast_to(real, z.shape) if k == E else chosen_columns(z, e, real, k)
    counted = real if over_all else chosen
    logits = tl.where(counted, z * tl.div_rn(1.0, temperature), float("-inf"))
    powers = tl.exp(logits - tl.max(logits, axis=1)[:, None])
    return tl.where(chosen, powers * tl.div_rn(1.0, tl.sum(powers, axis=1))[:, None], 0.0), chosen
