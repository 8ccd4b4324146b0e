"""Weights stored in 8 and 4 bits, decoded bit by bit in float64: the oracle of everything that reads them."""

import numpy as np
import torch

from kernels.problem.stored import Stored


def e4m3(bits: np.ndarray) -> np.ndarray:
    """Return the values of bytes: sign, four bits of exponent with bias 7, three of mantissa; no infinity."""
    sign, exponent, mantissa = np.where(bits & 128, -1.0, 1.0), bits >> 3 & 15, bits & 7
    normal = np.exp2(exponent - 7.0) * (1 + mantissa / 8)
    value = np.where(exponent > 0, normal, mantissa / 8 * 2.0**-6)
    return sign * np.where(bits & 127 == 127, np.nan, value)


def e2m1(codes: np.ndarray) -> np.ndarray:
    """Return the values of codes: sign, two bits of exponent with bias 1, one of mantissa."""
    exponent, mantissa = codes >> 1 & 3, codes & 1
    value = np.where(exponent > 0, np.exp2(exponent - 1.0) * (1 + mantissa / 2), mantissa / 2)
    return np.where(codes & 8, -value, value)


def e8m0(bits: np.ndarray) -> np.ndarray:
    """Return the powers of two that bytes stand for."""
    return np.where(bits == 255, np.nan, np.exp2(bits - 127.0))


def code(words: np.ndarray, d: int) -> np.ndarray:
    """Return the code of input column d from words (E, D / 8, H)."""
    group, inside = divmod(d, 32)
    p, rest = divmod(inside, 8)
    t, h = divmod(rest, 2)
    half = words[:, 4 * group + t] >> 16 * h & 0xFFFF
    places = (14, 11, 10, 13) if p == 3 else [bit - 3 * p for bit in (15, 8, 7, 6)]
    bits = [(half >> place & 1) << 3 - n for n, place in enumerate(places)]
    return np.sum(bits, axis=0)


def decoded(w: Stored) -> np.ndarray:
    """Return weights (E, D, H) in float64."""
    scales = w.scales.cpu().numpy()
    if w.scheme == "mxfp4":
        words = w.values.cpu().numpy().astype(np.int64)
        D = 8 * words.shape[1]
        values = np.stack([e2m1(code(words, d)) for d in range(D)], axis=1)
        return values * e8m0(scales.astype(float))[:, np.arange(D) // 32]
    values = e4m3(w.values.cpu().view(torch.uint8).numpy().astype(int))
    scales = scales.astype(float)
    _, D, H = values.shape
    if w.scheme == "fp8_blocks":
        return values * scales[:, np.arange(D)[:, None] // 128, np.arange(H) // 128]
    return values * (scales[:, None, None] if w.scheme == "fp8" else scales[:, None])
