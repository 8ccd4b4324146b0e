"""What a report is made of: sections of blocks, which `html` and `markdown` each render in one place.

A section is written beside its analysis and knows neither HTML nor Markdown. A new kind of block takes a class here, a
macro in `templates/blocks.html` and a case in `markdown`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeAlias

Datasets = Mapping[str, Sequence[Any]]
"""Rows, or plain numbers or texts, by their name in a specification."""


@dataclass(frozen=True)
class Text:
    """A paragraph; a `note` is quiet on the page and a bullet in Markdown."""

    words: str
    style: Literal["plain", "note"] = "plain"


@dataclass(frozen=True)
class Items:
    """A list of sentences."""

    sentences: Sequence[str]


@dataclass(frozen=True)
class Column:
    """A heading, and whether its column holds numbers."""

    title: str
    numeric: bool = True


@dataclass(frozen=True)
class Table:
    """Rows of text under columns; the first cell of a row is its heading.

    The caption is shown, or only read aloud if `titled` is False because the text around the table says it already.
    """

    caption: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[str, ...], ...]
    titled: bool = True

    @property
    def numeric(self) -> tuple[int, ...]:
        """The places of the columns of numbers, from 1."""
        return tuple(place for place, column in enumerate(self.columns, 1) if column.numeric)


@dataclass(frozen=True)
class Filter:
    """A column that a reader filters by one of its few values; `place` counts from 0."""

    place: int
    title: str
    values: tuple[str, ...]


@dataclass(frozen=True)
class FilteredTable:
    """The one table of a page that a reader can sort, filter and copy."""

    table: Table
    filters: tuple[Filter, ...]


@dataclass(frozen=True)
class Choice:
    """Something that a chart can show: named data of its specification, and what they show."""

    label: str
    data: Datasets
    message: str


@dataclass(frozen=True)
class Chart:
    """A Vega-Lite specification and what it shows, which is also its alternative text.

    If there are `choices`, a reader picks one: the specification names their data (`{"data": {"name": ...}}`) and holds
    none itself, so no scale may rest on values. `spec` and `message` are then those of the first; Markdown has the
    messages of all if `every_choice`. `subject` says what the chart is about if its heading alone does not.
    """

    heading: str
    spec: dict[str, Any]
    message: str
    choices: tuple[Choice, ...] = ()
    every_choice: bool = False
    subject: str = ""


@dataclass(frozen=True)
class Key:
    """An entry of a legend: a small drawing (SVG written here, never text from a file) and what it means."""

    words: str
    drawing: str
    size: tuple[int, int] = (34, 12)


@dataclass(frozen=True)
class Legend:
    """What marks in charts mean; Markdown has no charts, so no legend."""

    label: str
    keys: Sequence[Key]


@dataclass(frozen=True)
class Facts:
    """Names and their values, such as a machine's; `warnings` are the names of those that weaken the results."""

    title: str
    rows: Sequence[tuple[str, str]]
    warnings: Sequence[str] = ()


@dataclass(frozen=True)
class Reason:
    """Cases that have no time for the same reason; `status` is a `reports.records.record.Status`."""

    status: str
    reason: str
    cases: tuple[str, ...]


@dataclass(frozen=True)
class Clause:
    """Some words of an answer, and their `verdict` if they state one."""

    words: str
    verdict: str = ""


@dataclass(frozen=True)
class Answer:
    """The answer for one head: a sentence in clauses, what it is about, and sentences that explain it."""

    clauses: Sequence[Clause]
    setting: str
    sentences: Sequence[str]

    @property
    def words(self) -> str:
        """The sentence as plain text."""
        return "".join(clause.words for clause in self.clauses)


@dataclass(frozen=True)
class Finding:
    """What a section of a report found, linked to it."""

    title: str
    sentences: Sequence[str]
    section: str


@dataclass(frozen=True)
class Findings:
    """What sections found, one below the other."""

    findings: Sequence[Finding]


@dataclass(frozen=True)
class Commands:
    """What to run in a shell."""

    lines: Sequence[str]


@dataclass(frozen=True)
class Grid:
    """Blocks side by side, charts or panels; `wide` ones need more room."""

    blocks: Sequence[Block]
    wide: bool = False


@dataclass(frozen=True)
class Beside:
    """A block and the others in a narrow column beside it, on a phone below it."""

    blocks: Sequence[Block]


@dataclass(frozen=True)
class Panel:
    """What belongs to one setting, under its title and machine."""

    title: str
    machine: str
    blocks: Sequence[Block]


@dataclass(frozen=True)
class Subsection:
    """A part of a section under a heading; `reading` says how to read it, on the page."""

    title: str
    blocks: Sequence[Block]
    reading: str = ""


@dataclass(frozen=True)
class Details:
    """Blocks that the page folds away under a title, unless they are `opened`."""

    title: str
    blocks: Sequence[Block]
    reading: str = ""
    opened: bool = False


@dataclass(frozen=True)
class PageOnly:
    """Blocks that only the page has, not Markdown."""

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
    | Answer
    | Findings
    | Commands
    | Grid
    | Beside
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
        brief: What Markdown says instead.
        heading: Its heading, if not the title.
        findings: Its results, in sentences for the top of the report.
        about: What a reader finds there, in a line beside the heading of a folded section.
        folded: Whether the page folds it away under its heading.
    """

    id: str
    title: str
    blocks: Sequence[Block]
    reading: str = ""
    brief: str = ""
    heading: str = ""
    findings: Sequence[str] = ()
    about: str = ""
    folded: bool = False


@dataclass(frozen=True)
class Page:
    """A whole report.

    Attributes:
        name: What a browser's tab calls it.
        heading: Its heading.
        lede: A sentence below that.
        sections: What it shows.
        footnotes: What to know about all numbers, on the page.
        more: What lies beside the Markdown file, said at its end.
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
    """Return a chart of `choices` that starts with the first; `spec` names their data and holds none."""
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
    """Return the table without the columns that are blank in every row."""
    kept = [place for place in range(len(table.columns)) if any(row[place] for row in table.rows)]
    columns = tuple(table.columns[place] for place in kept)
    return replace(table, columns=columns, rows=tuple(tuple(row[place] for place in kept) for row in table.rows))


def folded(table: Table, *, opened: bool = False) -> Details:
    """Return a table that is folded away under its caption."""
    return Details(table.caption, [replace(table, titled=False)], opened=opened)
