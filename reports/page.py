"""The report: a page, its findings in Markdown for a pull request, all cases as CSV, and every chart as a picture."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from altair.utils.schemapi import debug_mode

from reports import inputs
from reports.account import panels as account_panels
from reports.break_even import figures as break_even_figures
from reports.break_even import page as break_even_page
from reports.break_even.map import Map, maps
from reports.changes import changes
from reports.changes import panels as changes_page
from reports.changes.changes import Changes
from reports.errors import ReportError
from reports.inputs import Inputs
from reports.noise import noise, sampling, self_test, steadiness
from reports.numbers import units
from reports.numbers.seeds import INTERVAL
from reports.output import html, markdown
from reports.output.blocks import Finding
from reports.output.export import Picture, pictures
from reports.output.html import Title
from reports.output.styles import styles
from reports.profile import panels as profile_panels
from reports.reading.files import check_folder, search, write
from reports.reading.load import load, measured_at
from reports.speed import conditions, full_table, panels, roofline, skew, summary, tables, verdicts
from reports.speed.analysis import MAP_SUITE, Analysis, analyse
from reports.targets import page as targets_page
from reports.targets.run import runs
from reports.training.sections import Sections, sections


@dataclass(frozen=True)
class Report:
    """Where a report was written, and its result in lines for a terminal."""

    index: Path
    markdown: Path
    summary: Path | None  # of benchmark results, where there are any
    pictures: Mapping[str, Picture]  # of every chart, by name, for `reports.output.export.export`
    headline: list[str]
    left_out: tuple[Path, ...] = ()  # files of folders that hold no result


def build(results: Sequence[Path], out: Path, *, paper: bool = False, base: Path | None = None) -> Report:
    """Write `index.html`, `report.md` and `summary.csv` into the folder `out`, made if need be, from result files.

    Benchmark results and study files may be mixed in any order. `paper` adds the published numbers beside ours, `base`,
    the result of a run before, what changed since.

    Each file is replaced whole or not at all. The same results give the same bytes. Raises `ReportError` where a
    result file is unusable or `out` is no folder, and `OSError` where it cannot be written.
    """
    check_folder(out)
    found = search(results)
    if not found.contents and not paper:
        raise ReportError("No result file was given: name at least one JSON file, or give --paper.")
    given = inputs.gather(found.contents)
    analysis = analyse(given.results)
    with debug_mode(False):  # altair validates specifications: tests do, for it takes long and data make no other ones
        content = _whole(analysis, given, _since(base, analysis) if base else None, paper)
    rows = summary.rows(analysis)
    content["full_table"] = full_table.full_table(rows)
    content["commands"] = _commands(given, results, out, paper, base)
    out.mkdir(parents=True, exist_ok=True)
    index, told = out / "index.html", out / "report.md"
    write(index, html.render(content))
    write(told, markdown.render(content))
    table = None
    if analysis.results.records:
        table = out / "summary.csv"
        write(table, summary.as_csv(rows))
    return Report(index, told, table, pictures(content), _headline(analysis, content["findings"]), found.left_out)


def _whole(analysis: Analysis, given: Inputs, since: Changes | None, paper: bool) -> dict[str, Any]:
    """Return what templates show but for all cases and the commands; `since` is what changed since a run before."""
    shown = sections(given.studies, given.results.records, paper)
    drawn = maps(analysis)
    targets = runs(given.results, given.targets)
    findings = [
        *changes_page.findings(since),
        *break_even_page.findings(drawn),
        *targets_page.findings(targets),
        *shown.findings,
        *profile_panels.findings(given.profiles),
    ]
    return {
        **_content(analysis, drawn),
        **shown.content,
        **_frame(analysis, given, shown, findings),
        "changes": changes_page.section(since) if since else None,
        "profile": profile_panels.section(given.profiles),
        "self_tests": [self_test.shown(test) for test in given.self_tests],
        "targets": [targets_page.section(run) for run in targets],
    }


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
        "throughputs": panels.throughput_panels(analysis, looks),
        "roofline": roofline.section(analysis, looks),
        "accuracies": panels.accuracy_panels(analysis, looks),
        "routings": panels.routing_charts(analysis),
        "skews": skew.panels(analysis, looks),
        "skew_tables": skew.tables(analysis),
        "efficiency": tables.efficiency(analysis),
        "cold_start": tables.cold_start(analysis),
        "work": tables.work(analysis),
        "sampling": sampling.sentences(analysis),
        "drift": sampling.drift(analysis),
        "noise": noise.section(analysis),
        "reasons": tables.reasons(analysis),
        "missing": _missing(analysis) if results.records else "",
        "replaced": [record.case_id for record in results.replaced],
    }


def _frame(analysis: Analysis, given: Inputs, shown: Sections, findings: Sequence[Finding]) -> dict[str, Any]:
    """Return what stands above the sections: the title, what the report rests on, and its findings."""
    tally = [shown.tally, profile_panels.tally(given.profiles)]
    if records := analysis.results.records:
        last = units.moment(max(measured_at(record) for record in records))
        tally.insert(0, f"{verdicts.tally(analysis)} Last measured {last}.")
    if given.targets:
        tally.append(f"{units.plural(len(given.targets), 'run')} of the kernels' targets.")
    if given.self_tests:
        tally.append(f"{units.plural(len(given.self_tests), 'self-test')}.")
    steady = steadiness.facts(analysis, given.self_tests)
    return {
        "title": _title(given),
        "intervals": {"times": units.INTERVAL, "seeds": INTERVAL},
        "tally": " ".join(filter(None, tally)) or "Nothing was measured or trained yet.",
        "findings": findings,
        "machines": [*tables.environment(analysis, steady), *shown.machines, *profile_panels.machines(given.profiles)],
    }


def _title(given: Inputs) -> Title:
    """Return what the report is called after the first kind of file it has."""
    if given.results.records:
        return Title("how much of the saving arrives", "How much of a Mixture-of-Experts layer\u2019s saving arrives")
    if given.studies:
        return Title("what the heads learn", "What Mixture-of-Experts heads learn, and how they route")
    if given.profiles:
        return Title("where the time goes", "Where the time of a Mixture-of-Experts layer goes")
    if given.targets:
        return Title("targets of the kernels", "Our kernels beside their peers")
    if given.self_tests:
        return Title("what the verdicts are worth", "What the verdicts of a machine are worth")
    return Title("the paper beside us", "Mixture-of-Experts heads: the paper beside us")


def _since(base: Path, analysis: Analysis) -> Changes:
    """Return what changed since the run before, in the file `base`."""
    if not analysis.results.records:
        raise ReportError("--base needs a benchmark result to compare with: name one beside it.")
    return changes.between(load([base]), analysis.results)


def _headline(analysis: Analysis, findings: Sequence[Finding]) -> list[str]:
    """Return the findings as lines for a terminal, those of benchmark results first."""
    records = analysis.results.records
    compared = any(record.suite != MAP_SUITE for record in records)
    lines = verdicts.headline(analysis) if compared else [verdicts.tally(analysis)] if records else []
    told = [sentence for finding in findings for sentence in finding.sentences]
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


def _commands(given: Inputs, sources: Sequence[Path], out: Path, paper: bool, base: Path | None) -> list[str]:
    """Return what to run to build this report again."""
    commits = sorted({record.commit for record in given.results.records if record.commit})
    checkout = [f"git checkout {shlex.quote(commits[0])}"] if len(commits) == 1 else []
    options = ["--paper"] * paper + (["--base", str(base)] if base else []) + ["--out", str(out)]
    return [*checkout, *given.commands, shlex.join(["moegap", "report", *map(str, sources), *options])]
