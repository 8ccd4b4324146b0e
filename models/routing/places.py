"""A limited number of places per expert, for which the rows of a batch compete."""

from __future__ import annotations

from decimal import Decimal
from functools import cached_property
from typing import Annotated, Self

from pydantic import Field, model_validator

from models.routing.policy import SparseConfig

Factor = Annotated[float, Field(gt=0)]


class PlacesConfig(SparseConfig):
    """A policy that gives each expert P = ceil(capacity_factor N k / E) places for N rows.

    The factor counts as the decimal number that is written: 1.1 is 11 / 10.
    """

    capacity_factor: Factor

    batch_coupled = True

    @cached_property
    def exact_factor(self) -> tuple[int, int]:
        """The numerator and denominator of `capacity_factor`."""
        return Decimal(repr(self.capacity_factor)).as_integer_ratio()

    def capacity(self, rows: int) -> int:
        """Return P for N = `rows`, exactly: in integers, so that N may be symbolic too."""
        numerator, denominator = self.exact_factor
        return (numerator * self.k * rows + denominator * self.experts - 1) // (denominator * self.experts)

    def all_places(self, rows: int) -> int:
        """Return how many places of all experts together N = `rows` can take."""
        return self.experts * min(rows, self.capacity(rows))

    @model_validator(mode="after")
    def _store_factor(self) -> Self:
        _ = self.exact_factor  # stored now, since no compiler traces decimals
        return self
