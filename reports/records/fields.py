"""Field types that study files share, and the base of the objects they hold. Every bound leaves room for any machine.

A number without a value is null in a file and None here, never NaN.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

LARGEST = 1e30
ROUNDING = 1e-5  # shares and losses are float32 sums: one may stand a little above 1, a zero a little below 0


def _without_underflow(value: float) -> float:
    """Return a number, one that is too small for any scale as zero."""
    return value if abs(value) >= 1 / LARGEST else 0.0


Name = Annotated[str, Field(min_length=1, max_length=300, pattern=r"^\P{C}*$")]  # of characters that can be seen
Text = Annotated[str, Field(max_length=5_000)]
Number = Annotated[float, Field(ge=-LARGEST, le=LARGEST), AfterValidator(_without_underflow)]
NotNegative = Annotated[float, Field(ge=-ROUNDING, le=LARGEST), AfterValidator(_without_underflow)]
Share = Annotated[float, Field(ge=-ROUNDING, le=1 + ROUNDING)]
Count = Annotated[int, Field(ge=0, le=10**15)]
Numbers = Annotated[tuple[Number, ...], Field(max_length=20_000)]
Counts = Annotated[tuple[Count, ...], Field(max_length=20_000)]
Shares = Annotated[tuple[Share, ...], Field(max_length=4_096)]
ShareTable = Annotated[tuple[Shares, ...], Field(max_length=4_096)]


class Schema(BaseModel):
    """An object in a file: immutable. Fields that it does not name are passed over, so that a writer may add some."""

    model_config = ConfigDict(extra="ignore", frozen=True)


def check_lengths(names: str, lengths: Iterable[int]) -> None:
    """Raise `ValueError` unless all `lengths` are equal; `names` says of what they are."""
    if len(set(lengths)) > 1:
        raise ValueError(f"{names} differ in length")
