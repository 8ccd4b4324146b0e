"""The report: a page, its findings in Markdown for a pull request, all cases as CSV, and every chart as a picture.

A section is one file in the folder of its topic, and has its place in the list of `_sections`.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from altair.utils.schemapi import debug_mode

from reports.account.account import account
from reports.account.account_section import account_section, explained
from reports.break_even.break_even_section import break_even_section
from reports.break_even.map import maps
from reports.cases import summary
from reports.cases.cases_section import cases_section
from reports.cases.cold_start_section import cold_start_section
from reports.cases.conditions_section import classifier_section, cold_section
from reports.cases.conditions_section import training_section as passes_section
from reports.cases.efficiency_section import efficiency_section
from reports.cases.not_measured_section import not_measured_section
from reports.cases.stored_section import stored_section
from reports.cases.work_section import work_section
from reports.changes import changes
from reports.changes.changes import Changes
from reports.changes.changes_section import changes_section
from reports.errors import ReportError
from reports.front.environment_section import environment_section
from reports.front.title import footnotes, lede, remake_section, title
from reports.front.verdict_section import lead, verdict_section
from reports.noise.noise_section import noise_section
from reports.noise.sampling_section import sampling_section
from reports.noise.self_test_section import self_test_section
from reports.output import html, markdown
from reports.output.blocks import Page, Section
from reports.output.export import Picture, pictures
from reports.profile import profile_section as profiles
from reports.profile.profile_section import profile_section
from reports.reading.files import search
from reports.reading.inputs import Inputs, gather
from reports.reading.load import load
from reports.records.files import check_folder, make_folder, write
from reports.speed import verdicts
from reports.speed.accuracy_section import accuracy_section
from reports.speed.analysis import MAP_SUITE, Analysis, analyse
from reports.speed.latency_section import latency_section
from reports.speed.roofline_section import roofline_section
from reports.speed.routing_section import routing_section
from reports.speed.speedup_section import speedup_section
from reports.speed.verdicts import answers
from reports.targets.page import targets_section
from reports.targets.run import runs
from reports.training import studies
from reports.training.beside_section import beside_section
from reports.training.policies_section import policies_section
from reports.training.sharpness_section import sharpness_section
from reports.training.training_section import Recipe, recipes, training_section

OPEN = ("verdict", "account")
"""The sections of the page that are open if there is an answer; the others are folded away below them."""
MORE = (
    "The page beside this file holds every waterfall, the cross-check by a second method, all cases and their raw "
    "samples; summary.csv every case for a spreadsheet; charts/ every picture."
)


@dataclass(frozen=True)
class Report:
    """The files of a report, and its result in lines for a terminal."""

    index: Path
    markdown: Path
    summary: Path | None  # of benchmark results, None without any
    pictures: Mapping[str, Picture]  # of every chart, by name, for `reports.output.export.export`
    headline: list[str]
    left_out: tuple[Path, ...] = ()  # files in folders that hold no result


def build(results: Sequence[Path], out: Path, *, paper: bool = False, base: Path | None = None) -> Report:
    """Write `index.html`, `report.md` and `summary.csv` from result files into the folder `out`, made if need be.

    Benchmark results and study files can be mixed in any order. `paper` adds the published numbers beside ours; `base`,
    the result of an earlier run, adds what changed since.

    Each file is replaced whole or not at all. The same results give the same bytes. Raises `ReportError` if a result
    file is unusable or `out` is no folder, and `OSError` if it cannot be written.
    """
    check_folder(out)
    files = search(results)
    if not files.contents and not paper:
        raise ReportError("No result file was given: name at least one JSON file, or give --paper.")
    inputs = gather(files.contents)
    analysis = analyse(inputs.results)
    trained = recipes(inputs.studies.training)
    since = _since(base, analysis) if base else None
    rows = summary.rows(analysis)
    with debug_mode(False):  # validating a specification takes long, and the tests do it: data do not change its shape
        sections = _sections(analysis, inputs, trained, rows, since, paper)
    sections.append(remake_section(_commands(inputs, results, out, paper, base)))
    if answers(analysis):
        sections = [replace(section, folded=section.id not in OPEN) for section in sections]
    page = Page(*title(inputs), lede(analysis, inputs, trained), sections, footnotes(inputs), MORE)
    make_folder(out)
    index, text = out / "index.html", out / "report.md"
    write(index, html.render(page))
    write(text, markdown.render(page))
    table = None
    if analysis.results.records:
        table = out / "summary.csv"
        write(table, summary.as_csv(rows))
    return Report(index, text, table, pictures(sections), _headline(analysis, sections), files.left_out)


def _sections(
    analysis: Analysis,
    inputs: Inputs,
    trained: Sequence[Recipe],
    rows: Sequence[summary.Row],
    since: Changes | None,
    paper: bool,
) -> list[Section]:
    """Return the sections that have something to show, in the order of the page; the verdict draws on all others."""
    accounts = [each for each in account(analysis) if each.setting.suite != MAP_SUITE]
    benchmarked = bool(analysis.results.records)
    machines = [*studies.machines(inputs.studies), *profiles.machines(inputs.profiles)]
    first, _ = lead(answers(analysis))
    headline = first[0].best.case if first else None
    order = [
        account_section(analysis, accounts, headline) if benchmarked else None,
        changes_section(since) if since else None,
        speedup_section(analysis) if benchmarked else None,
        profile_section(inputs.profiles),
        break_even_section(maps(analysis)),
        latency_section(analysis) if benchmarked else None,
        roofline_section(analysis),
        accuracy_section(analysis) if benchmarked else None,
        routing_section(analysis) if benchmarked else None,
        training_section(trained),
        policies_section(inputs.studies.policies),
        sharpness_section(inputs.studies.sharpness),
        beside_section(trained, inputs.studies.sharpness, inputs.results.records) if paper else None,
        targets_section(runs(inputs.results, inputs.targets)),
        stored_section(analysis),
        efficiency_section(analysis),
        passes_section(analysis),
        classifier_section(analysis),
        cold_section(analysis),
        cold_start_section(analysis) if benchmarked else None,
        work_section(analysis),
        cases_section(rows),
        not_measured_section(analysis) if benchmarked else None,
        sampling_section(analysis),
        noise_section(analysis),
        self_test_section(inputs.self_tests),
        environment_section(analysis, inputs.self_tests, machines),
    ]
    sections = [section for section in order if section]
    return [verdict_section(analysis, explained(accounts), inputs.self_tests, sections), *sections]


def _since(base: Path, analysis: Analysis) -> Changes:
    """Return what changed since the earlier run in the file `base`."""
    if not analysis.results.records:
        raise ReportError("--base needs a benchmark result to compare with: name one beside it.")
    return changes.between(load([base]), analysis.results)


def _headline(analysis: Analysis, sections: Sequence[Section]) -> list[str]:
    """Return the findings as lines for a terminal, with the answer of benchmark results last."""
    records = analysis.results.records
    compared = any(record.suite != MAP_SUITE for record in records)
    answer = verdicts.headline(analysis) if compared else [verdicts.tally(analysis)] if records else []
    return [*(sentence for section in sections for sentence in section.findings), *answer]


def _commands(inputs: Inputs, sources: Sequence[Path], out: Path, paper: bool, base: Path | None) -> list[str]:
    """Return the commands that build this report again."""
    commits = sorted({record.commit for record in inputs.results.records if record.commit})
    checkout = [f"git checkout {shlex.quote(commits[0])}"] if len(commits) == 1 else []
    options = ["--paper"] * paper + (["--base", str(base)] if base else []) + ["--out", str(out)]
    return [*checkout, *inputs.commands, shlex.join(["moegap", "report", *map(str, sources), *options])]
