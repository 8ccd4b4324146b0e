"""`moegap compare`: what changed from one run to another, and a gate for continuous integration."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bench.commands.shared import command_line, examples, print_table, terminal
from bench.errors import printable

if TYPE_CHECKING:
    from rich.console import Console

    from reports.changes.changes import Changes
    from reports.output.blocks import Table

GATE_FAILED = 1
LONGEST_NAME = 200


@examples(
    "moegap compare base.json new.json",
    "moegap compare base.json new.json --fail-on SLOWER --fail-on MISSING --least 5%",
    "moegap compare base.json new.json --all --out runs/compare",
)
def compare(
    base: Annotated[Path, typer.Argument(help="The earlier result.")],
    new: Annotated[Path, typer.Argument(help="The later result.")],
    fail_on: Annotated[
        list[str] | None,
        typer.Option(
            help="End with status 1 if a case has this verdict: SLOWER, FASTER, UNCLEAR or MISSING; or if a case that "
            "had a time is now WRONG or FAILED. May be repeated."
        ),
    ] = None,
    least: Annotated[
        str | None, typer.Option(help="The least change that counts, 5% or 0.05. By default 3%, as for all verdicts.")
    ] = None,
    show_all: Annotated[bool, typer.Option("--all", help="Also show cases that are SAME.")] = False,
    out: Annotated[Path | None, typer.Option(help="Folder for index.html and compare.md.")] = None,
) -> None:
    """Compare two results of `moegap bench`, or two plain pytest-benchmark files, case by case.

    Needs no GPU and no torch. The status is 0, 1 if --fail-on applies, or 2 for bad input.
    """
    from reports.changes import merge_gate
    from reports.changes import text as changes_text
    from reports.changes.files import compare as compared
    from reports.compare_page import build
    from reports.records.files import check_folder

    if out is not None:
        check_folder(out)
    asked = merge_gate.asked_for(fail_on or ())
    changes = compared(base, new, merge_gate.share(least))
    outcome = merge_gate.judged(changes, asked)
    console = terminal()
    made = build(changes, outcome, out, command_line()) if out is not None else None
    _show(console, changes, show_all)
    for path in (made.index, made.markdown) if made else ():
        console.print(printable(str(path)), soft_wrap=True)
    console.print(printable(changes_text.message(changes)))
    if outcome is not None:
        console.print(printable(outcome.sentence), soft_wrap=True)
        if outcome.failures:
            raise typer.Exit(GATE_FAILED)


def _show(console: Console, changes: Changes, show_all: bool) -> None:
    """Print the runs, the cases, the means, and other differences."""
    from reports.changes import text as changes_text
    from reports.numbers import units
    from reports.numbers.stats import Verdict

    shown = [change for change in changes.changes if show_all or change.verdict is not Verdict.SAME]
    print_table(console, _safe(changes_text.runs(changes)))
    if shown:
        print_table(console, _safe(changes_text.cases("Cases, the worst first", shown)))
    if hidden := len(changes.changes) - len(shown):
        console.print(f"{units.plural(hidden, 'case')} SAME; --all shows them")
    print_table(console, _safe(changes_text.summary(changes)))
    for sentence in (*changes.warnings, *changes_text.lost(changes)):
        console.print(printable(f"warning: {sentence}"), style="yellow")
    for sentence in changes_text.notes(changes):
        console.print(printable(sentence))


def _safe(table: Table) -> Table:
    """Return the table with each cell on one line, very long ones without their middle."""
    return replace(table, rows=tuple(tuple(_shortened(printable(cell)) for cell in row) for row in table.rows))


def _shortened(cell: str) -> str:
    half = LONGEST_NAME // 2
    return cell if len(cell) <= LONGEST_NAME else f"{cell[:half]} ... {cell[-half:]}"
