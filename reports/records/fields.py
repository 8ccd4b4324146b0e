"""Field types that files share, and the base of the objects they hold. Every bound leaves room for any machine.

A number without a value is null in a file and None here, never NaN.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

NEWER = "newer"
"""The type of the error of a file that a newer moegap wrote."""
LARGEST = 1e30
MOST = 10**24
LONGEST = 1e9
"""The longest time in seconds: no call takes thirty years."""
ROUNDING = 1e-5  # shares and losses are float32 sums: a one may lie a little above 1, a zero a little below 0


def _without_underflow(value: float) -> float:
    """Return a number, or zero if it is too small for any scale."""
    return value if abs(value) >= 1 / LARGEST else 0.0


Label = Annotated[str, Field(max_length=300, pattern=r"^\P{C}*$")]  # of characters that can be seen; "" for none
Name = Annotated[Label, Field(min_length=1)]
Prose = Annotated[str, Field(max_length=5_000)]
Number = Annotated[float, Field(ge=-LARGEST, le=LARGEST), AfterValidator(_without_underflow)]
NotNegative = Annotated[float, Field(ge=-ROUNDING, le=LARGEST), AfterValidator(_without_underflow)]
Share = Annotated[float, Field(ge=-ROUNDING, le=1 + ROUNDING)]
Count = Annotated[int, Field(ge=0, le=MOST)]
Numbers = Annotated[tuple[Number, ...], Field(max_length=20_000)]
Counts = Annotated[tuple[Count, ...], Field(max_length=20_000)]
Shares = Annotated[tuple[Share, ...], Field(max_length=4_096)]
ShareTable = Annotated[tuple[Shares, ...], Field(max_length=4_096)]


class Schema(BaseModel):
    """An immutable object in a file. Unknown fields are ignored, so that a writer may add some."""

    model_config = ConfigDict(extra="ignore", frozen=True)


class NullsLeftOut(Schema):
    """An object in a file in which null stands for a field's default."""

    @model_validator(mode="before")
    @classmethod
    def _leave_out_nulls(cls, value: Any) -> Any:
        if isinstance(value, dict):
            return {name: field for name, field in value.items() if field is not None}
        return value


def no_newer_than(known: int) -> BeforeValidator:
    """Return a validator of a version, for which one above `known` is an error of the type `NEWER`."""

    def check(version: object) -> object:
        if isinstance(version, int) and version > known:
            versions = {"version": str(version), "known": known}
            raise PydanticCustomError(NEWER, "{version}, this one reads {known}", versions)
        return version

    return BeforeValidator(check)


def moment(text: str) -> datetime:
    """Return the time that `text` says in ISO 8601, in UTC if it names no zone; raises `ValueError`."""
    time = datetime.fromisoformat(text)
    return time.astimezone(UTC) if time.tzinfo else time.replace(tzinfo=UTC)


def check_moment(text: str) -> None:
    """Raise `ValueError` that says it if `text` is no time."""
    try:
        moment(text)
    except ValueError:
        raise ValueError(f"measured at {text[:100]!r}, which is no ISO 8601 time") from None


def check_lengths(names: str, lengths: Iterable[int]) -> None:
    """Raise `ValueError` unless all `lengths` are equal; `names` says what they are lengths of."""
    if len(set(lengths)) > 1:
        raise ValueError(f"{names} differ in length")
