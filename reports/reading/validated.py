"""Objects of a result file checked against their schema; what is broken is said in one sentence."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from reports.errors import ReportError
from reports.reading.visible import brief

_Model = TypeVar("_Model", bound=BaseModel)


def validated(
    model: type[_Model], raw: dict[str, Any], source: Path, what: str, fix: str = "measure it again"
) -> _Model:
    """Return `raw` as a `model`; raise `ReportError` that says where `what` in `source` is broken, and the `fix`."""
    try:
        result = model.model_validate(raw)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        field = brief(".".join(map(str, first["loc"])))
        place = f" at `{field}`" if field else ""
        reason = first["msg"].removeprefix("Value error, ")
        raise ReportError(f"{source}: {what} is broken{place} ({reason}): {fix}.") from None
    try:
        result.model_dump_json()
    except ValueError:
        raise ReportError(f"{source}: {what} holds text that is no Unicode: {fix}.") from None
    return result


def check_version(version: object, known: int, source: Path, what: str) -> None:
    """Raise `ReportError` if the `version` of `what` in the file `source` is newer than the `known` one."""
    if isinstance(version, int) and version > known:
        versions = f"{what} {version}, this one reads {known}"
        raise ReportError(f"{source} was written by a newer moegap ({versions}): upgrade moegap.")


def moment(text: str) -> datetime:
    """Return the time that `text` says in ISO 8601, in UTC if it names no zone; raises `ValueError`."""
    time = datetime.fromisoformat(text)
    return time.astimezone(UTC) if time.tzinfo else time.replace(tzinfo=UTC)


def check_moment(text: str, source: Path, what: str) -> None:
    """Raise `ReportError` if `text`, when `what` in the file `source` was measured, is no time."""
    try:
        moment(text)
    except ValueError:
        raise ReportError(
            f"{source}: {what} was measured at `{brief(text)}`, which is no ISO 8601 time: correct it."
        ) from None


def are_objects(value: object) -> bool:
    """Return whether `value` is a list of JSON objects."""
    return isinstance(value, list) and all(isinstance(item, dict) for item in value)
