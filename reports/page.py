"""The report: one HTML page that needs nothing but itself, and the same findings in Markdown for a pull request.

Text from result files is data. Jinja escapes it in HTML, its `tojson` inside the page's JSON, `markdown` in Markdown;
beyond that, a content security policy lets the browser run only the two scripts written here, and load nothing.
"""

from __future__ import annotations

import base64
import hashlib
import os
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import altair
import vl_convert
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from reports import markdown, panels, tables, units, verdicts
from reports.compare import Analysis, analyse
from reports.errors import ReportError
from reports.load import load, measured_at
from reports.styles import styles

TEMPLATES = Path(__file__).parent / "templates"


@dataclass(frozen=True)
class Report:
    """Where a report was written, and its result in three lines for a terminal."""

    index: Path
    markdown: Path
    headline: list[str]


def build(results: Sequence[Path], out: Path) -> Report:
    """Write `index.html` and `report.md` into the folder `out`, made if need be, from result files.

    Each file is replaced whole or not at all. The same results give the same bytes. Raises `ReportError` where a
    result file is unusable or `out` is no folder, and `OSError` where it cannot be written.
    """
    if out.exists() and not out.is_dir():
        raise ReportError(f"{out} is not a folder: name a folder to write the report into.")
    analysis = analyse(load(results))
    content = _content(analysis, out)
    out.mkdir(parents=True, exist_ok=True)
    report = Report(out / "index.html", out / "report.md", verdicts.headline(analysis))
    _write(report.index, _html(content))
    _write(report.markdown, markdown.render(content))
    return report


def _content(analysis: Analysis, out: Path) -> dict[str, Any]:
    """Return what both templates show."""
    results = analysis.results
    looks = styles(case.record.form for case in results.cases)
    return {
        "answers": verdicts.answers(analysis),
        "tally": verdicts.tally(analysis),
        "machines": tables.environment(analysis),
        "measured_at": units.moment(max(measured_at(record) for record in results.records)),
        "styles": looks,
        "speedups": panels.speedup_panels(analysis, looks),
        "speedup_tables": tables.speedups(analysis),
        "latencies": panels.latency_panels(analysis, looks),
        "accuracies": panels.accuracy_panels(analysis, looks),
        "routings": panels.routing_charts(analysis),
        "efficiency": tables.efficiency(analysis),
        "cold_start": tables.cold_start(analysis),
        "work": tables.work(analysis),
        "cases": tables.cases(analysis),
        "reasons": tables.reasons(analysis),
        "missing": _missing(analysis),
        "replaced": [record.case_id for record in results.replaced],
        "commands": _commands(analysis, out),
    }


def _missing(analysis: Analysis) -> str:
    """Say why there is no speed-up, or return ""."""
    kinds = {case.record.head for case in analysis.results.cases}
    if analysis.speedups:
        return ""
    if not kinds:
        return "Nothing was measured, so there is no speed-up to report; the reasons stand below."
    if kinds == {"dense"}:
        return "Only dense heads were measured: a speed-up needs a soft or sparse head beside them."
    if "dense" not in kinds:
        return f"No dense head was measured beside the {units.listing(sorted(kinds))} one: a speed-up needs both."
    return "No MoE head was measured in the same setting and at as many rows as a dense one, so none can be compared."


def _commands(analysis: Analysis, out: Path) -> list[str]:
    """Return what to run to build this report again."""
    commits = sorted({record.commit for record in analysis.results.records if record.commit})
    checkout = [f"git checkout {shlex.quote(commits[0])}"] if len(commits) == 1 else []
    sources = shlex.join(str(source) for source in analysis.results.sources)
    return [*checkout, *analysis.results.commands, f"moegap report {sources} --out {shlex.quote(str(out))}"]


def _html(content: dict[str, Any]) -> str:
    scripts = [_vega(), (TEMPLATES / "draw.js").read_text(encoding="utf-8")]
    hashes = [base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts]
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    style = (TEMPLATES / "page.css").read_text(encoding="utf-8")
    return environment.get_template("index.html").render(content, scripts=scripts, hashes=hashes, style=style)


@cache
def _vega() -> str:
    """Return Vega, Vega-Lite and vega-embed as one script, fit to stand inside a script element."""
    version = ".".join(altair.SCHEMA_VERSION.removeprefix("v").split(".")[:2])
    bundle = vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;", vl_version=version)
    return bundle.replace("</script", r"<\/script").replace("<!--", r"<\!--")


def _write(path: Path, text: str) -> None:
    """Replace the file at `path` whole, or leave it as it was."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        draft.write_text(text, encoding="utf-8")
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)
