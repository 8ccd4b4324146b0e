"""The report of a comparison of two runs alone, without what else either run holds."""

from __future__ import annotations

from pathlib import Path

from reports.changes import panels as changes_page
from reports.changes import text as changes_text
from reports.changes.changes import Changes
from reports.changes.gate import Gate
from reports.numbers import units
from reports.output import html, markdown
from reports.page import Report
from reports.reading.files import check_folder, write


def build(found: Changes, gate: Gate | None, out: Path, command: str) -> Report:
    """Write `index.html` and `compare.md` into the folder `out`, made if need be.

    `gate` is the outcome of a gate on the comparison, if there was one, and `command` what to run to make it again.
    Raises `ReportError` where `out` is no folder, and `OSError` where it cannot be written.
    """
    check_folder(out)
    findings = changes_page.findings(found, gate)
    content = {
        "title": html.Title("before and after", "Two runs, before and after"),
        "tally": changes_text.between(found),
        "intervals": {"times": units.INTERVAL},
        "findings": findings,
        "changes": changes_page.section(found),
        "commands": [command],
        **dict.fromkeys(("account", "answers", "missing", "measured", "trainings", "policies"), ()),
    }
    out.mkdir(parents=True, exist_ok=True)
    report = Report(
        out / "index.html", out / "compare.md", None, {}, [line for told in findings for line in told.sentences]
    )
    write(report.index, html.render(content))
    write(report.markdown, markdown.render(content, "compare.md"))
    return report
