"""What a report is made of: sections of blocks, which `html` and `markdown` each render in one place.

A section is made where its analysis stands and says nothing of HTML or Markdown. Adding a kind of block takes its class
here, its macro in `templates/blocks.html` and its case in `markdown`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeAlias

Datasets = Mapping[str, Sequence[Any]]
"""Rows, or plain numbers or texts, by the name that a specification knows them by."""


@dataclass(frozen=True)
class Text:
    """A paragraph; a `note` is set quietly on the page and as a bullet in Markdown."""

    words: str
    look: Literal["plain", "note"] = "plain"


@dataclass(frozen=True)
class Items:
    """Sentences, each with a bullet."""

    sentences: Sequence[str]


@dataclass(frozen=True)
class Column:
    """A heading, and whether numbers stand below it."""

    title: str
    numeric: bool = True


@dataclass(frozen=True)
class Table:
    """Rows of text under columns; the first cell of a row is its heading.

    The caption is shown unless what stands around the table says it: then it is `titled` False, and read aloud only.
    """

    caption: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[str, ...], ...]
    titled: bool = True

    @property
    def numeric(self) -> tuple[int, ...]:
        """The places of the columns of numbers, counted from 1."""
        return tuple(place for place, column in enumerate(self.columns, 1) if column.numeric)


@dataclass(frozen=True)
class Filter:
    """A column that can be filtered by choosing one of its few values; `place` counts from 0."""

    place: int
    title: str
    values: tuple[str, ...]


@dataclass(frozen=True)
class FilteredTable:
    """The one table of a page that a reader sorts, filters and copies there."""

    table: Table
    filters: tuple[Filter, ...]


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
    none itself, so no scale of it may rest on values; `spec` and `message` are then those of the first, and Markdown
    has the messages of all if `every_choice`. `subject` says what the chart is about if its heading alone does not.
    """

    heading: str
    spec: dict[str, Any]
    message: str
    choices: tuple[Choice, ...] = ()
    every_choice: bool = False
    subject: str = ""


@dataclass(frozen=True)
class Key:
    """An entry of a legend: a small drawing (SVG elements of our own, never text from a file) and what it means."""

    words: str
    drawing: str
    size: tuple[int, int] = (34, 12)


@dataclass(frozen=True)
class Legend:
    """What marks in charts mean; Markdown, which has no charts, has none."""

    label: str
    keys: Sequence[Key]


@dataclass(frozen=True)
class Facts:
    """Names and their values, such as a machine's."""

    title: str
    rows: Sequence[tuple[str, str]]


@dataclass(frozen=True)
class Reason:
    """Cases that have no time, for one and the same reason; `status` is that of `reports.records.record.Status`."""

    status: str
    reason: str
    cases: tuple[str, ...]


@dataclass(frozen=True)
class Figure:
    """A large number of a card, with its name above it and a note below."""

    name: str
    value: str
    note: str = ""


@dataclass(frozen=True)
class Card:
    """A finding at the top of a report, linked to the `section` that shows why; `setting` says of what it is."""

    title: str
    sentences: Sequence[str]
    section: str
    setting: tuple[str, ...] = ()
    figures: tuple[Figure, ...] = ()
    verdict: str = ""


@dataclass(frozen=True)
class Cards:
    """Cards side by side."""

    cards: Sequence[Card]


@dataclass(frozen=True)
class Commands:
    """What to run in a shell."""

    lines: Sequence[str]


@dataclass(frozen=True)
class Grid:
    """Blocks side by side, charts or panels; `wide` ones need more room each."""

    blocks: Sequence[Block]
    wide: bool = False


@dataclass(frozen=True)
class Panel:
    """What belongs to one setting, under its name and that of its machine."""

    title: str
    machine: str
    blocks: Sequence[Block]


@dataclass(frozen=True)
class Subsection:
    """A part of a section with a heading of its own; `reading` says how to read it, on the page."""

    title: str
    blocks: Sequence[Block]
    reading: str = ""


@dataclass(frozen=True)
class Details:
    """Blocks that the page folds away under their title, unless they are `opened`."""

    title: str
    blocks: Sequence[Block]
    reading: str = ""
    opened: bool = False


@dataclass(frozen=True)
class PageOnly:
    """Blocks that the page has and Markdown leaves out."""

    blocks: Sequence[Block]


Block: TypeAlias = (
    Text
    | Items
    | Table
    | FilteredTable
    | Chart
    | Legend
    | Facts
    | Reason
    | Cards
    | Commands
    | Grid
    | Panel
    | Subsection
    | Details
    | PageOnly
)


@dataclass(frozen=True)
class Section:
    """A section of a report.

    Attributes:
        id: What links point to.
        title: Its name in the table of contents.
        blocks: What it shows.
        reading: How to read it, on the page.
        brief: What Markdown says in place of that.
        heading: Its heading, if that is another than the title.
        findings: What it found, in sentences for the top of the report.
    """

    id: str
    title: str
    blocks: Sequence[Block]
    reading: str = ""
    brief: str = ""
    heading: str = ""
    findings: Sequence[str] = ()


@dataclass(frozen=True)
class Page:
    """A whole report.

    Attributes:
        name: What a browser's tab calls it.
        heading: Its heading.
        lede: A sentence below that.
        sections: What it shows.
        footnotes: What to know of all numbers, on the page.
        more: What stands beside the Markdown, as that says at its end.
    """

    name: str
    heading: str
    lede: str
    sections: Sequence[Section]
    footnotes: Sequence[str] = ()
    more: str = ""


def choosing(
    heading: str, spec: Mapping[str, Any], choices: Sequence[Choice], *, every_choice: bool = False, subject: str = ""
) -> Chart:
    """Return a chart of any of `choices`, at first the first; `spec` names their data and holds none."""
    first = choices[0]
    return Chart(
        heading, {**spec, "datasets": dict(first.data)}, first.message, tuple(choices), every_choice, subject=subject
    )


def worded(*titles: str) -> tuple[Column, ...]:
    """Return columns of words."""
    return tuple(Column(title, numeric=False) for title in titles)


def numeric(*titles: str) -> tuple[Column, ...]:
    """Return columns of numbers."""
    return tuple(Column(title) for title in titles)


def without_blanks(table: Table) -> Table:
    """Return the table without columns that are blank in every row."""
    kept = [place for place in range(len(table.columns)) if any(row[place] for row in table.rows)]
    columns = tuple(table.columns[place] for place in kept)
    return replace(table, columns=columns, rows=tuple(tuple(row[place] for place in kept) for row in table.rows))


def folded(table: Table, *, opened: bool = False) -> Details:
    """Return a table that is folded away under its caption."""
    return Details(table.caption, [replace(table, titled=False)], opened=opened)
