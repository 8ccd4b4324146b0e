"""The report: one HTML page that needs nothing but itself, and the same findings in Markdown for a pull request.

Text from result files is data. Jinja escapes it in HTML, its `tojson` inside the page's JSON, `markdown` in Markdown;
beyond that, a content security policy lets the browser run only the two scripts written here, and load nothing.
"""

from __future__ import annotations

import base64
import hashlib
import shlex
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import altair
import vl_convert
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from reports import (
    account_panels,
    break_even_figures,
    break_even_page,
    conditions,
    load,
    markdown,
    panels,
    profile_panels,
    profiles,
    sampling,
    self_test,
    skew,
    studies,
    tables,
    units,
    verdicts,
)
from reports.break_even import Map, maps
from reports.compare import MAP_SUITE, Analysis, analyse
from reports.errors import ReportError
from reports.files import read, write
from reports.load import measured_at
from reports.sections import Sections, sections
from reports.seeds import INTERVAL
from reports.studies import StudyFile
from reports.styles import styles

TEMPLATES = Path(__file__).parent / "templates"


@dataclass(frozen=True)
class Title:
    """What the report is called in a browser's tab, and at its head."""

    short: str
    long: str


@dataclass(frozen=True)
class Report:
    """Where a report was written, and its result in lines for a terminal."""

    index: Path
    markdown: Path
    headline: list[str]


def build(results: Sequence[Path], out: Path, *, paper: bool = False) -> Report:
    """Write `index.html` and `report.md` into the folder `out`, made if need be, from results and studies.

    Benchmark results and study files may be mixed in any order; `paper` adds the published numbers beside ours.

    Each file is replaced whole or not at all. The same results give the same bytes. Raises `ReportError` where a
    result file is unusable or `out` is no folder, and `OSError` where it cannot be written.
    """
    if out.exists() and not out.is_dir():
        raise ReportError(f"{out} is not a folder: name a folder to write the report into.")
    contents = read(results)
    if not contents and not paper:
        raise ReportError("No result file was given: name at least one JSON file, or give --paper.")
    tests = [self_test.parsed(path, content) for path, content in contents.items() if self_test.is_self_test(content)]
    profiled = [profiles.parsed(path, content) for path, content in contents.items() if profiles.is_profile(content)]
    results_of = {
        path: content
        for path, content in contents.items()
        if not self_test.is_self_test(content) and not profiles.is_profile(content)
    }
    chosen = {path: content for path, content in results_of.items() if studies.is_study(content)}
    given = studies.gather(chosen)
    analysis = analyse(load.gather({path: content for path, content in results_of.items() if path not in chosen}))
    shown = sections(given, analysis.results.records, paper)
    drawn = maps(analysis)
    shown = replace(
        shown,
        findings=[*break_even_page.findings(drawn), *shown.findings, *profile_panels.findings(profiled)],
        machines=[*shown.machines, *profile_panels.machines(profiled)],
        tally=" ".join(filter(None, (shown.tally, profile_panels.tally(profiled)))),
    )
    content = _content(analysis, drawn) | shown.content | _frame(analysis, shown)
    content["self_tests"] = [self_test.shown(test) for test in tests]
    content["profile"] = profile_panels.section(profiled)
    content["commands"] = _commands(analysis, [*given.files, *tests, *profiled], list(contents), out, paper)
    out.mkdir(parents=True, exist_ok=True)
    report = Report(out / "index.html", out / "report.md", _headline(analysis, shown))
    write(report.index, _html(content))
    write(report.markdown, markdown.render(content))
    return report


def _content(analysis: Analysis, drawn: Sequence[Map]) -> dict[str, Any]:
    """Return what both templates show of benchmark results; `measured` says whether there are any."""
    results = analysis.results
    looks = styles(case.record.form for case in results.cases)
    return {
        "measured": bool(results.records),
        "answers": verdicts.answers(analysis),
        "public": tables.public(analysis),
        "styles": looks,
        "speedups": panels.speedup_panels(analysis, looks),
        "speedup_tables": tables.speedups(analysis),
        "account": account_panels.section(analysis),
        "break_even": break_even_page.sections(drawn),
        "break_even_legend": break_even_figures.LEGEND,
        "cold": conditions.cold(analysis),
        "within_classifier": conditions.within_classifier(analysis),
        "latencies": panels.latency_panels(analysis, looks),
        "accuracies": panels.accuracy_panels(analysis, looks),
        "routings": panels.routing_charts(analysis),
        "skews": skew.panels(analysis, looks),
        "skew_tables": skew.tables(analysis),
        "efficiency": tables.efficiency(analysis),
        "cold_start": tables.cold_start(analysis),
        "work": tables.work(analysis),
        "cases": tables.cases(analysis),
        "sampling": sampling.sentences(analysis),
        "drift": sampling.drift(analysis),
        "reasons": tables.reasons(analysis),
        "missing": _missing(analysis) if results.records else "",
        "replaced": [record.case_id for record in results.replaced],
    }


def _frame(analysis: Analysis, shown: Sections) -> dict[str, Any]:
    """Return what stands above the sections: the title, what the report rests on, and its findings."""
    records = analysis.results.records
    title = Title("how much of the saving arrives", "How much of a Mixture-of-Experts layer\u2019s saving arrives")
    tally = []
    if records:
        last = units.moment(max(measured_at(record) for record in records))
        tally.append(f"{verdicts.tally(analysis)} Last measured {last}.")
    elif shown.tally:
        title = Title("what the heads learn", "What Mixture-of-Experts heads learn, and how they route")
    else:
        title = Title("the paper beside us", "Mixture-of-Experts heads: the paper beside us")
    tally += [shown.tally] if shown.tally else []
    return {
        "title": title,
        "intervals": {"times": units.INTERVAL, "seeds": INTERVAL},
        "tally": " ".join(tally) or "Nothing was measured or trained yet.",
        "findings": shown.findings,
        "machines": [*tables.environment(analysis), *shown.machines],
    }


def _headline(analysis: Analysis, shown: Sections) -> list[str]:
    """Return the findings as lines for a terminal, those of benchmark results first."""
    records = analysis.results.records
    compared = any(record.suite != MAP_SUITE for record in records)
    lines = verdicts.headline(analysis) if compared else [verdicts.tally(analysis)] if records else []
    told = [sentence for finding in shown.findings for sentence in finding.sentences]
    return [*told, *lines]


def _missing(analysis: Analysis) -> str:
    """Say why there is no speed-up, or return ""."""
    kinds = {case.record.head for case in analysis.results.cases}
    if any(speedup.setting.suite != MAP_SUITE for speedup in analysis.speedups):
        return ""
    if analysis.speedups:
        return "These heads were measured for a map of break-even, which has their speed-ups."
    if not kinds:
        return "Nothing was measured, so there is no speed-up to report; the reasons stand below."
    if kinds == {"dense"}:
        return "Only dense heads were measured: a speed-up needs a soft or sparse head beside them."
    if "dense" not in kinds:
        return f"No dense head was measured beside the {units.listing(sorted(kinds))} one: a speed-up needs both."
    return "No MoE head was measured in the same setting and at as many rows as a dense one, so none can be compared."


def _commands(
    analysis: Analysis, given: Sequence[StudyFile], sources: Sequence[Path], out: Path, paper: bool
) -> list[str]:
    """Return what to run to build this report again."""
    commits = sorted({record.commit for record in analysis.results.records if record.commit})
    checkout = [f"git checkout {shlex.quote(commits[0])}"] if len(commits) == 1 else []
    made = dict.fromkeys(" ".join(file.command.split()) for file in given if file.command.strip())
    options = ["--paper"] * paper + ["--out", str(out)]
    report = shlex.join(["moegap", "report", *map(str, sources), *options])
    return [*checkout, *analysis.results.commands, *made, report]


def _html(content: dict[str, Any]) -> str:
    scripts = [_vega(), (TEMPLATES / "page.js").read_text(encoding="utf-8")]
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
