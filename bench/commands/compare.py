"""`moegap compare`: what changed from one run to another, and a gate for continuous integration."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bench.errors import printable

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from reports.changes.changes import Changes
    from reports.output import blocks

GATE_FAILED = 1
LOG_WIDTH = 140
"""Columns where the output is no terminal, so that a log keeps most names in one piece."""
LONGEST_NAME = 200


def compare(
    base: Annotated[Path, typer.Argument(help="The result of the run before.")],
    new: Annotated[Path, typer.Argument(help="The result of the run after.")],
    fail_on: Annotated[
        list[str] | None,
        typer.Option(
            help="End with status 1 where a case is SLOWER, FASTER, UNCLEAR or MISSING, or, with any of them, is WRONG "
            "or FAILED and had a time before; may be repeated."
        ),
    ] = None,
    least: Annotated[
        str | None, typer.Option(help="The least effect that counts, 5% or 0.05. By default that of all verdicts, 3%.")
    ] = None,
    show_all: Annotated[bool, typer.Option("--all", help="Show cases that are SAME too.")] = False,
    out: Annotated[Path | None, typer.Option(help="Folder for index.html and compare.md.")] = None,
) -> None:
    """Compare two results of `bench`, or two plain pytest-benchmark files, case by case; needs neither GPU nor torch.

    Status: 0, or 1 where --fail-on found something, or 2 for bad input.
    """
    from rich.console import Console

    from reports.changes import gate
    from reports.changes import text as changes_text
    from reports.changes.files import compare as compared
    from reports.compare_page import build
    from reports.reading.files import check_folder

    if out is not None:
        check_folder(out)
    asked = gate.asked_for(fail_on or ())
    found = compared(base, new, gate.share(least))
    outcome = gate.judged(found, asked)
    console = Console(highlight=False, width=None if sys.stdout.isatty() else LOG_WIDTH)
    made = build(found, outcome, out, shlex.join(["moegap", *sys.argv[1:]])) if out is not None else None
    _show(console, found, show_all)
    for path in (made.index, made.markdown) if made else ():
        console.print(_text(str(path)), soft_wrap=True)
    console.print(_text(changes_text.message(found)))
    if outcome is not None:
        console.print(_text(outcome.sentence), soft_wrap=True)
        if outcome.found:
            raise typer.Exit(GATE_FAILED)


def _show(console: Console, found: Changes, show_all: bool) -> None:
    """Print the runs, the cases, the means, and what else differs."""
    from reports.changes import text as changes_text
    from reports.numbers import units
    from reports.numbers.stats import Verdict

    shown = [change for change in found.changes if show_all or change.verdict is not Verdict.SAME]
    console.print(_table(changes_text.runs(found)))
    if shown:
        console.print(_table(changes_text.cases("Cases, the worst first", shown)))
    if hidden := len(found.changes) - len(shown):
        console.print(f"{units.plural(hidden, 'case')} SAME; --all shows them")
    console.print(_table(changes_text.summary(found)))
    for sentence in (*found.warnings, *changes_text.lost(found)):
        console.print(_text(f"warning: {sentence}"), style="yellow")
    for sentence in changes_text.notes(found):
        console.print(_text(sentence))


def _table(table: blocks.Table) -> Table:
    from rich import box
    from rich.table import Table

    drawn = Table(title=_text(table.caption), title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for column in table.columns:
        drawn.add_column(
            _text(column.title),
            justify="right" if column.numeric else "left",
            no_wrap=column.numeric,
            overflow="fold",
        )
    for row in table.rows:
        drawn.add_row(*(_text(_shortened(cell)) for cell in row))
    return drawn


def _shortened(cell: str) -> str:
    """Return a cell without the middle of a very long name."""
    half = LONGEST_NAME // 2
    return cell if len(cell) <= LONGEST_NAME else f"{cell[:half]} ... {cell[-half:]}"


def _text(words: str) -> Text:
    """Return what a file says as text and nothing else: neither markup nor control sequences."""
    from rich.text import Text

    return Text(printable(words))
