"""The trace of a symmetric operator with its standard error, from random vectors.

Letters: P weights, k known directions.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from statistics import fmean, stdev

import torch
from scipy.special import stdtrit
from torch import Tensor

from models.sharpness.lanczos import Symmetric
from reports.records.sharpness import Trace

LEAST_PROBES = 12
SIGMAS = 1.96
"""value +- SIGMAS standard_error holds the trace in about 95 of 100 runs."""

_ROUNDING = 64  # of a sum of known values, in units in the last place: the least standard error


def hutchinson(
    operator: Symmetric,
    known: list[float],
    directions: Tensor,
    generator: torch.Generator,
    *,
    relative_error: float,
    most: int,
) -> Trace:
    """Return the trace of an operator A with values `known` (k,) along orthonormal `directions` (k, P).

    The part along the directions is exact, and only the rest is estimated (Meyer et al. 2021, Hutch++): as the mean of
    z^T A z, which has no bias, for random signs z projected off the directions. Probes are drawn until the standard
    error is at most `relative_error` of the value: at least min(12, most) and at most `most` >= 2 probes.
    """
    exact = math.fsum(known)
    samples: list[float] = []
    floor = _ROUNDING * torch.finfo(operator.dtype).eps * math.fsum(abs(value) for value in known)
    while True:
        signs = torch.randint(0, 2, (operator.shape[0],), generator=generator).to(directions) * 2 - 1
        probe = signs - directions.T @ (directions @ signs)
        samples.append(torch.dot(probe.double(), (operator @ probe).double()).item())
        if len(samples) < min(LEAST_PROBES, most):
            continue
        value, error = exact + fmean(samples), max(_standard_error(samples), floor)
        if error <= max(relative_error * abs(value), floor):
            return Trace(value=value, standard_error=error, probes=len(samples), stopped_by="error")
        if len(samples) >= most:
            return Trace(value=value, standard_error=error, probes=len(samples), stopped_by="cap")


def total(traces: Iterable[Trace], relative_error: float) -> Trace:
    """Return the trace of an operator from independent traces of the blocks on its diagonal."""
    parts = list(traces)
    value = math.fsum(part.value for part in parts)
    error = math.hypot(*(part.standard_error for part in parts))
    rounding = _ROUNDING * torch.finfo(torch.float64).eps * math.fsum(abs(part.value) for part in parts)
    met = error <= max(relative_error * abs(value), rounding)
    probes = sum(part.probes for part in parts)
    return Trace(value=value, standard_error=error, probes=probes, stopped_by="error" if met else "cap")


def _standard_error(samples: list[float]) -> float:
    count = len(samples)
    return stdev(samples) / math.sqrt(count) * float(stdtrit(count - 1, 0.975)) / SIGMAS
