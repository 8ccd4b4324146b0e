"""Lanczos' method with full reorthogonalisation: an orthonormal basis in which a symmetric operator is small.

Letters: P weights, m basis vectors.
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor


class Symmetric(Protocol):
    """A symmetric operator (P, P)."""

    shape: tuple[int, int]
    dtype: torch.dtype
    device: torch.device

    def __matmul__(self, vector: Tensor) -> Tensor:
        """Return the product with a vector (P,)."""


class Lanczos:
    """The Krylov space of an operator A and a random vector, grown one product at a time.

    `basis` (m, P) is orthonormal up to rounding. `images` (m, P) are its products with A, kept so that every residual
    can be computed, not estimated. If the space is exhausted, a new random direction is added, so that m can reach P
    and repeated eigenvalues appear.
    """

    def __init__(self, operator: Symmetric, generator: torch.Generator, most: int) -> None:
        self.operator, self.generator = operator, generator
        self.most, self.steps = min(most, operator.shape[0]), 0
        size = (self.most, operator.shape[0])
        self._basis = torch.empty(size, dtype=operator.dtype, device=operator.device)
        self._images = torch.empty(size, dtype=operator.dtype, device=operator.device)
        self._next: Tensor = self._random()
        self.beyond = 0.0
        """Norm of the residual of the last product A v after projection onto the basis."""

    @property
    def basis(self) -> Tensor:
        """(m, P)."""
        return self._basis[: self.steps]

    @property
    def images(self) -> Tensor:
        """(m, P)."""
        return self._images[: self.steps]

    def step(self) -> None:
        """Take one more product, of at most `most`."""
        vector = self._next
        image = self.operator @ vector
        self._basis[self.steps], self._images[self.steps] = vector, image
        self.steps += 1
        rest = self._orthogonal(image)
        self.beyond = rest.norm().item()
        exhausted = self.beyond <= 100 * torch.finfo(image.dtype).eps * self.images.norm(dim=1).max().item()
        if self.steps < self.operator.shape[0]:
            self._next = self._random() if exhausted else _unit(self._orthogonal(rest))
        if exhausted:
            self.beyond = 0.0

    def projected(self) -> Tensor:
        """Return the operator in the basis, (m, m) float64 on the CPU."""
        small = (self.basis @ self.images.T).double().cpu()
        return (small + small.T) / 2

    def quadrature(self) -> tuple[list[float], list[float]]:
        """Return nodes (m,) and weights (m,), which sum to one: the spectral measure of the first vector.

        The moments up to degree 2 m - 1 are exact.
        """
        nodes, coordinates = torch.linalg.eigh(self.projected())
        return nodes.tolist(), coordinates[0].square().tolist()

    def _random(self) -> Tensor:
        """Return a unit vector (P,), uniform on the sphere, orthogonal to the basis."""
        drawn = torch.randn(self.operator.shape[0], dtype=torch.float64, generator=self.generator)
        vector = _unit(drawn).to(self.operator.device, self.operator.dtype)
        return _unit(self._orthogonal(_unit(self._orthogonal(vector))))

    def _orthogonal(self, vector: Tensor) -> Tensor:
        """Return `vector` (P,) minus its projection onto the basis, twice to remove rounding."""
        for _ in range(2):
            vector = vector - self.basis.T @ (self.basis @ vector)
        return vector


def _unit(vector: Tensor) -> Tensor:
    unit: Tensor = vector / vector.norm()
    return unit
