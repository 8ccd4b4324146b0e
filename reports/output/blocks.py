"""What a report shows as a picture: a chart and the sentence it makes visible, alone or beside others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Datasets = Mapping[str, Sequence[Any]]
"""Rows, or plain numbers or texts, by the name that a specification knows them by."""


@dataclass(frozen=True)
class Choice:
    """One of several things that a chart can show: named data of its specification, and what they show."""

    label: str
    data: Datasets
    message: str


@dataclass(frozen=True)
class Chart:
    """A Vega-Lite specification and what it shows, which is also its alternative text.

    With `choices` a reader picks one of them: the specification names their data (`{"data": {"name": ...}}`) and holds
    none itself, so no scale of it may rest on values; `spec` and `message` are then those of the first.
    """

    heading: str
    spec: dict[str, Any]
    message: str
    choices: tuple[Choice, ...] = ()


@dataclass(frozen=True)
class Panel:
    """Charts of one setting, side by side."""

    title: str
    machine: str
    charts: list[Chart]


def choosing(heading: str, spec: Mapping[str, Any], choices: Sequence[Choice]) -> Chart:
    """Return a chart of any of `choices`, at first the first; `spec` names their data and holds none."""
    first = choices[0]
    return Chart(heading, {**spec, "datasets": dict(first.data)}, first.message, tuple(choices))


@dataclass(frozen=True)
class Column:
    """A heading, and whether numbers stand below it."""

    title: str
    numeric: bool = True


@dataclass(frozen=True)
class Table:
    """Rows of text under columns; the first cell of a row is its heading."""

    caption: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[str, ...], ...]

    @property
    def numeric(self) -> tuple[int, ...]:
        """The places of the columns of numbers, counted from 1."""
        return tuple(place for place, column in enumerate(self.columns, 1) if column.numeric)


def without_blanks(table: Table) -> Table:
    """Return the table without columns that are blank in every row."""
    kept = [place for place in range(len(table.columns)) if any(row[place] for row in table.rows)]
    columns = tuple(table.columns[place] for place in kept)
    return Table(table.caption, columns, tuple(tuple(row[place] for place in kept) for row in table.rows))


@dataclass(frozen=True)
class Finding:
    """What a section says, told at the top of the report; `section` is the section's id."""

    section: str
    heading: str
    sentences: list[str]
