"""The interval of a ratio of two medians from few samples a side, by their ranks alone.

It holds whatever the distribution of the samples, if both sides have the same one up to a factor: the ends are order
statistics of all ratios of a sample of one side to one of the other (Hodges and Lehmann 1963), and how many to leave
out at each end is counted exactly (Mann and Whitney 1947). With five samples a side, 99 % take the outermost ratios:
2 / C(10, 5) = 0.8 % of all orders have every sample of one side before the other's.

Letters: n and m samples of two sides.
"""

from __future__ import annotations

from math import comb

import numpy as np
from numpy.typing import NDArray

Ends = tuple[float, float] | tuple[None, None]


def interval(base: NDArray[np.float64], samples: NDArray[np.float64], confidence: float) -> Ends:
    """Return the ends for base (n,) / samples (m,), all above zero; None if even the outermost ratios hold less."""
    left_out = _left_out(base.size, samples.size, confidence)
    if left_out is None:
        return None, None
    ratios = np.sort(np.divide.outer(base, samples), axis=None)  # (n m,)
    return float(ratios[left_out]), float(ratios[-1 - left_out])


def outermost(base: tuple[float, float, int], samples: tuple[float, float, int], confidence: float) -> Ends:
    """Return the ends from the least sample, the greatest and the number of each side alone; None if they hold less."""
    low, high, n = base
    least, greatest, m = samples
    if (1 - confidence) * comb(n + m, n) < 2:
        return None, None
    return low / greatest, high / least


def _left_out(n: int, m: int, confidence: float) -> int | None:
    """Return how many ratios lie outside each end; None if the outermost ratios hold less than `confidence`."""
    most = (1 - confidence) / 2 * comb(n + m, n)
    orders = 0
    for left_out, ways in enumerate(_orders(n, m)):
        orders += ways
        if orders > most:
            return left_out - 1 if left_out else None
    raise AssertionError("all orders are more than a share of them")


def _orders(n: int, m: int) -> list[int]:
    """Return how many of the C(n + m, n) orders of two sides have 0, 1, ... n m pairs the wrong way round.

    They are the coefficients of the Gaussian binomial, the product of (1 - q^(m + i)) / (1 - q^i) over i = 1 ... n.
    """
    ways = [1] + [0] * (n * m)
    for i in range(1, n + 1):
        for pairs in range(n * m, m + i - 1, -1):
            ways[pairs] -= ways[pairs - m - i]
        for pairs in range(i, n * m + 1):
            ways[pairs] += ways[pairs - i]
    return ways
