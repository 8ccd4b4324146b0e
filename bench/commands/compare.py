"""`moegap compare`: what changed from one run to another, and a gate for continuous integration."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bench.commands.shared import command_line, examples, print_table, terminal
from bench.errors import BenchError, printable

if TYPE_CHECKING:
    from rich.console import Console

    from reports.changes.changes import Changes
    from reports.output.blocks import Table

GATE_FAILED = 1
SIDES = ("--base", "--new")
"""Options that take several files each."""
LONGEST_NAME = 200


@examples(
    "moegap compare base.json new.json",
    "moegap compare base.json new.json --fail-on SLOWER --fail-on MISSING --least 5%",
    "moegap compare base.json new.json newer.json",
    "moegap compare --base a.json b.json c.json --new d.json e.json f.json --fail-on SLOWER",
    "moegap compare base.json new.json --all --out runs/compare",
)
def compare(
    files: Annotated[
        list[Path] | None,
        typer.Argument(metavar="BASE NEW", help="The earlier result, and later ones, each compared with it."),
    ] = None,
    base: Annotated[
        list[Path] | None, typer.Option(metavar="FILE...", help="Several runs of the earlier code, in place of BASE.")
    ] = None,
    new: Annotated[list[Path] | None, typer.Option(metavar="FILE...", help="Several runs of the later code.")] = None,
    fail_on: Annotated[
        list[str] | None,
        typer.Option(
            help="End with status 1 if a case has this verdict: SLOWER, FASTER, UNCLEAR or MISSING; or if a case that "
            "had a time is now WRONG or FAILED; or if nothing was decided. May be repeated."
        ),
    ] = None,
    allow_undecided: Annotated[
        bool, typer.Option("--allow-undecided", help="Let a gate pass that decided nothing: no case but UNCLEAR ones.")
    ] = False,
    doubtful: Annotated[
        str,
        typer.Option(
            help="What becomes of a case in doubt, as when the anchor moved: `unclear`; `raw`, judged by its ratio as "
            "it is; `normalised`, judged by its ratio beside the anchor."
        ),
    ] = "unclear",
    least: Annotated[
        str | None, typer.Option(help="The least change that counts, 5% or 0.05. By default 3%, as for all verdicts.")
    ] = None,
    show_all: Annotated[bool, typer.Option("--all", help="Also show cases that are SAME.")] = False,
    out: Annotated[Path | None, typer.Option(help="Folder for index.html and compare.md.")] = None,
) -> None:
    """Compare results of `moegap bench`, or plain pytest-benchmark files, with the first of them, case by case.

    Needs no GPU and no torch. The status is 0, 1 if --fail-on applies, or 2 for bad input.
    """
    from reports.changes import merge_gate
    from reports.changes import text as changes_text
    from reports.changes.files import compare as compared
    from reports.changes.files import compare_runs
    from reports.compare_page import build, build_several
    from reports.records.files import check_folder

    if out is not None:
        check_folder(out)
    asked = merge_gate.asked_for(fail_on or ())
    judging = merge_gate.share(least), merge_gate.of_doubtful(doubtful)
    files = files or []
    if len(files) > 1 and not base and not new:
        comparisons = [compared(files[0], later, *judging) for later in files[1:]]
    elif base and new and not files:
        comparisons = [compare_runs(base, new, *judging)]
    else:
        alone = " ".join(map(str, files)) or "no file"
        raise BenchError(
            f"compare takes BASE and NEW, or runs of both as --base A B C --new D E F, not {alone} without an option, "
            f"{len(base or ())} files after --base and {len(new or ())} after --new"
        )
    outcomes = [merge_gate.judged(each, asked, allow_undecided=allow_undecided) for each in comparisons]
    console = terminal()
    made = None
    if out is not None:
        gates = list(zip(comparisons, outcomes, strict=True))
        made = build(*gates[0], out, command_line()) if len(gates) == 1 else build_several(gates, out, command_line())
    for changes in comparisons:
        _show(console, changes, show_all)
    if len(comparisons) > 1:
        print_table(console, _safe(changes_text.side_by_side(comparisons, same=show_all)))
    for path in (made.index, made.markdown) if made else ():
        console.print(printable(str(path)), soft_wrap=True)
    for changes, outcome in zip(comparisons, outcomes, strict=True):
        about = f"{changes.runs[-1].file}: " if len(comparisons) > 1 else ""
        console.print(printable(about + changes_text.message(changes)))
        if outcome is not None:
            console.print(printable(outcome.sentence), soft_wrap=True)
    if any(outcome and outcome.failures for outcome in outcomes):
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
    if changes.sound:
        print_table(console, _safe(changes_text.summary(changes)))
    for sentence in (*changes.warnings, *changes_text.lost(changes), *changes_text.untimed(changes)):
        console.print(printable(f"warning: {sentence}"), style="yellow")
    for sentence in changes_text.notes(changes):
        console.print(printable(sentence))


def _safe(table: Table) -> Table:
    """Return the table with each cell on one line, very long ones without their middle."""
    return replace(table, rows=tuple(tuple(_shortened(printable(cell)) for cell in row) for row in table.rows))


def _shortened(cell: str) -> str:
    half = LONGEST_NAME // 2
    return cell if len(cell) <= LONGEST_NAME else f"{cell[:half]} ... {cell[-half:]}"
