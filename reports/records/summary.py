"""The summary statistics of pytest-benchmark's files, which they hold with the samples or instead of them."""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from reports.records.fields import LONGEST, Schema

MEDIAN_ERROR = 0.93
"""Standard error of a median of n samples, in interquartile ranges / sqrt(n) (McGill, Tukey and Larsen 1978)."""

Time = Annotated[float, Field(ge=0, le=LONGEST, allow_inf_nan=False)]  # in seconds; a coarse clock also reads zero


class Summary(Schema):
    """What is read of a benchmark's `stats`, in seconds: of `rounds` samples, and these if the file kept them.

    `least` and `greatest` are None in files that leave them out.
    """

    median: Time
    iqr: Time
    rounds: Annotated[int, Field(ge=1)]
    least: Time | None = Field(None, validation_alias="min")
    greatest: Time | None = Field(None, validation_alias="max")
    data: tuple[Time, ...] = ()

    @property
    def relative_error(self) -> float:
        """The standard error of the median as a share of it, as if samples were independent."""
        return float(MEDIAN_ERROR * self.iqr / self.rounds**0.5 / self.median)

    @property
    def tick(self) -> float:
        """The seconds between two readings of a coarse clock, as far as the statistics tell; 0 for a fine one.

        All samples of a coarse clock are multiples of its tick, so their quartiles are multiples of a quarter of it.
        """
        readings = sorted({time for time in (self.least, self.median, self.greatest) if time is not None})
        tick = min((after - before for before, after in pairwise(readings)), default=0.0)
        coarse = tick and all(map(is_whole, (*(reading / tick for reading in readings), 4 * self.iqr / tick)))
        return tick if coarse else 0.0


def is_whole(number: float) -> bool:
    """Return whether a number is a whole one but for rounding."""
    return abs(number - round(number)) < 1e-3


def summarised(samples: NDArray[np.float64]) -> Summary:
    """Return the summary of `samples` (n,), at least one."""
    least, low, middle, high, greatest = map(float, np.quantile(samples, [0, 0.25, 0.5, 0.75, 1]))
    return Summary.model_construct(
        median=middle, iqr=high - low, rounds=samples.size, least=least, greatest=greatest, data=()
    )
