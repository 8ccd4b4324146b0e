"""The report of a comparison alone, without what else either run holds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from reports.changes import text as changes_text
from reports.changes.changes import Changes
from reports.changes.changes_section import changes_section
from reports.changes.merge_gate import MergeGate
from reports.front import verdict_section
from reports.front.title import remake_section
from reports.output import html, markdown
from reports.output.blocks import Page, Section, folded
from reports.page import Report
from reports.reading.visible import visible
from reports.records.files import check_folder, make_folder, write


def build(changes: Changes, gate: MergeGate | None, out: Path, command: str) -> Report:
    """Write `index.html` and `compare.md` into the folder `out`, made if need be.

    `gate` is the outcome of a gate on the comparison, if there was one, and `command` makes the report again.
    Raises `ReportError` if `out` is no folder, and `OSError` if it cannot be written.
    """
    changed = changes_section(changes, gate)
    return _write("Two runs, before and after", changes_text.between(changes), [changed], [], out, command)


def build_several(comparisons: Sequence[tuple[Changes, MergeGate | None]], out: Path, command: str) -> Report:
    """Write the same of several runs, each compared with the first, side by side and then one by one."""
    table = folded(changes_text.side_by_side([changes for changes, _ in comparisons]), opened=True)
    changed = [
        replace(changes_section(changes, gate), id=f"changes-{place}", title=visible(changes.runs[-1].file), heading="")
        for place, (changes, gate) in enumerate(comparisons, 1)
    ]
    beside = Section("side-by-side", "Side by side", [table])
    between = " ".join(changes_text.between(changes) for changes, _ in comparisons)
    return _write("Several runs beside the first", between, changed, [beside], out, command)


def _write(
    title: str, between: str, changed: Sequence[Section], before: Sequence[Section], out: Path, command: str
) -> Report:
    check_folder(out)
    verdict = verdict_section.section(verdict_section.findings(changed))
    page = Page("before and after", title, between, [verdict, *before, *changed, remake_section([command])])
    make_folder(out)
    report = Report(
        out / "index.html",
        out / "compare.md",
        None,
        {},
        [sentence for section in changed for sentence in section.findings],
    )
    write(report.index, html.render(page))
    write(report.markdown, markdown.render(page))
    return report
