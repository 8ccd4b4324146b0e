"""Tables by their fields: each column's heading beside the text of its cells."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from reports.output.blocks import Column, Table

_Item = TypeVar("_Item")


@dataclass(frozen=True)
class Field(Generic[_Item]):
    """A column of a table whose rows are about items: its heading, and the text of its cell for an item."""

    title: str
    text: Callable[[_Item], str]
    numeric: bool


def word(title: str, text: Callable[[_Item], str]) -> Field[_Item]:
    """Return a field of words."""
    return Field(title, text, numeric=False)


def number(title: str, text: Callable[[_Item], str]) -> Field[_Item]:
    """Return a field of numbers."""
    return Field(title, text, numeric=True)


def tabulated(caption: str, fields: Sequence[Field[_Item]], items: Iterable[_Item]) -> Table:
    """Return a table with a column for each field and a row for each item."""
    columns = tuple(Column(field.title, field.numeric) for field in fields)
    return Table(caption, columns, tuple(tuple(field.text(item) for field in fields) for item in items))
