"""Eigenvalues and spectral density of a symmetric operator.

Letters: P weights, m steps of Lanczos' method, G points of a grid.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from models.sharpness.lanczos import Lanczos, Symmetric
from reports.records.sharpness import Density

EXACT_UP_TO = 512
"""Operators up to this size are diagonalised completely, so that no repeated eigenvalue is missed."""
GRID = 256
KNOWN = 64
"""The most directions of a run that the estimate of the trace takes as known."""
_CHECK_EVERY = 2
_WIDTH_RATIO = 3.0


class Spectrum(NamedTuple):
    """The result of one run of Lanczos' method: n eigenpairs, and a quadrature with m nodes.

    - `values` (n,), descending, with unit `vectors` (n, P) and `residuals` (n,), each ||A v - value v||
    - `nodes` (m,) and `weights` (m,), which sum to one: the spectral measure of a random vector, up to degree 2 m - 1
    - `known`: values v^T A v for the orthonormal `known_vectors` (k, P), in which A is largest
    """

    values: list[float]
    residuals: list[float]
    vectors: Tensor
    nodes: list[float]
    weights: list[float]
    known: list[float]
    known_vectors: Tensor


def spectrum(
    operator: Symmetric, generator: torch.Generator, *, count: int, tolerance: float, least: int, most: int
) -> Spectrum:
    """Return the `count` largest eigenvalues (all P, if P is smaller), and the rest of what the run gives.

    The run takes at least `least` and at most `most` products. It stops once each residual is at most `tolerance` times
    the eigenvalue of largest size.
    """
    size = operator.shape[0]
    if size <= EXACT_UP_TO:
        least = most = size
    run = Lanczos(operator, generator, most)
    while run.steps < run.most:
        run.step()
        due = run.steps >= least and (run.steps - least) % _CHECK_EVERY == 0
        if due and _estimated_residual(run, count) <= tolerance:
            break
    return _read(run, min(count, size))


def _estimated_residual(run: Lanczos, count: int) -> float:
    """Return the largest residual of the `count` largest eigenvalues, as a share of the eigenvalue of largest size."""
    nodes, coordinates = torch.linalg.eigh(run.projected())
    if run.steps < count:
        return math.inf
    last = coordinates[-1].abs().flip(0)[:count]
    return run.beyond * float(last.max()) / max(float(nodes.abs().max()), torch.finfo(torch.float64).tiny)


def _read(run: Lanczos, count: int) -> Spectrum:
    nodes, coordinates = torch.linalg.eigh(run.projected())  # (m,) ascending, (m, m) by column
    size = run.basis.shape[1]
    top = torch.arange(run.steps - 1, run.steps - 1 - count, -1)
    strong = nodes.abs().argsort(descending=True, stable=True)[: min(KNOWN, size // 4)]
    vectors, images = _combined(run.basis, coordinates[:, top]), _combined(run.images, coordinates[:, top])
    lengths = vectors.norm(dim=1, keepdim=True)
    residuals = (images - nodes[top].to(images)[:, None] * vectors) / lengths
    known = torch.linalg.qr(_combined(run.basis, coordinates[:, strong]).T).Q.T.contiguous()
    return Spectrum(
        values=nodes[top].tolist(),
        residuals=residuals.double().norm(dim=1).tolist(),
        vectors=_signed(vectors / lengths),
        nodes=nodes.tolist(),
        weights=coordinates[0].square().tolist(),
        known=nodes[strong].tolist(),
        known_vectors=known,
    )


def _combined(rows: Tensor, coordinates: Tensor) -> Tensor:
    """Return the combinations (n, P) of rows (m, P) with coefficients in the columns of coordinates (m, n) float64."""
    return coordinates.T.to(rows) @ rows


def _signed(vectors: Tensor) -> Tensor:
    """Return vectors (n, P) with signs such that the entries of largest size are positive."""
    largest = vectors.gather(1, vectors.abs().argmax(dim=1, keepdim=True))
    return torch.where(largest < 0, -vectors, vectors)


def density(measures: Sequence[tuple[list[float], list[float]]], steps: int) -> Density:
    """Return the density of the mean of spectral measures: nodes and weights for each random vector.

    Every node becomes a Gaussian with the width of Papyan 2020 (JMLR 21, section D.2), at which neighbours among
    `steps` evenly spaced nodes just merge.
    """
    lowest = min(min(nodes) for nodes, _ in measures)
    highest = max(max(nodes) for nodes, _ in measures)
    spread = highest - lowest or max(abs(highest), 1.0)
    width = spread / max(steps - 1, 1) / math.sqrt(8 * math.log(_WIDTH_RATIO))
    margin = max(0.05 * spread, 4 * width)
    grid = torch.linspace(lowest - margin, highest + margin, GRID, dtype=torch.float64)  # (G,)
    total = torch.zeros_like(grid)
    for nodes, weights in measures:
        at, weight = torch.tensor([nodes, weights], dtype=torch.float64).unsqueeze(-1)  # (m, 1) each
        bumps = torch.exp(-(((grid - at) / width) ** 2) / 2) / (width * math.sqrt(2 * math.pi))  # (m, G)
        total += (weight * bumps).sum(dim=0) / len(measures)
    return Density(grid=tuple(grid.tolist()), density=tuple(total.tolist()), probes=len(measures), steps=steps)
