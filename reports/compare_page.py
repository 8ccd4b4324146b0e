"""The report of a comparison alone, without what else either run holds."""

from __future__ import annotations

from pathlib import Path

from reports.changes import text as changes_text
from reports.changes.changes import Changes
from reports.changes.changes_section import changes_section
from reports.changes.merge_gate import MergeGate
from reports.front import verdict_section
from reports.front.title import remake_section
from reports.output import html, markdown
from reports.output.blocks import Page
from reports.page import Report
from reports.records.files import check_folder, make_folder, write


def build(changes: Changes, gate: MergeGate | None, out: Path, command: str) -> Report:
    """Write `index.html` and `compare.md` into the folder `out`, made if need be.

    `gate` is the outcome of a gate on the comparison, if there was one, and `command` makes the report again.
    Raises `ReportError` if `out` is no folder, and `OSError` if it cannot be written.
    """
    check_folder(out)
    changed = changes_section(changes, gate)
    verdict = verdict_section.section(verdict_section.findings([changed]))
    sections = [verdict, changed, remake_section([command])]
    page = Page("before and after", "Two runs, before and after", changes_text.between(changes), sections)
    make_folder(out)
    report = Report(out / "index.html", out / "compare.md", None, {}, list(changed.findings))
    write(report.index, html.render(page))
    write(report.markdown, markdown.render(page))
    return report
