"""What the page, its Markdown and the charts show of two runs, and that names from files do nothing in them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import vl_convert

from reports import compare_page
from reports.changes import merge_gate
from reports.changes import text as changes_text
from reports.changes.changes import Changes
from reports.changes.changes_section import changes_section
from reports.changes.files import compare
from reports.errors import ReportError
from reports.numbers.stats import Estimate, Verdict
from reports.output.blocks import Chart, Items, Table, Text
from reports.page import Report, build
from reports.records.record import CaseRecord
from tests.reports.synthetic import benchmark, record, samples, write
from tests.reports.test_page import HOSTILE, Outline
from tests.reports.within import within

ESCAPES = "\x1b[31mred\x1b[0m \x07\u202e"
LONG = "long" * 250
NAMES = (HOSTILE, "[bold red]markup[/] [link=http://x]x[/link]", LONG)


def pair(folder: Path, factors: dict[str, float], lost: CaseRecord | None = None, **fields: Any) -> Changes:
    """Return two runs compared in which the case of each name takes a factor as long in NEW as in BASE."""
    base, new = folder / "base.json", folder / "new.json"
    records = [record(case_id=name, group_id=f"group {place}", **fields) for place, name in enumerate(factors)]
    gone = [record(case_id=lost.case_id)] if lost else []
    write(base, [benchmark(case, samples(1e-3)) for case in records + gone])
    later = (case.model_copy(update={"commit": "another"}) for case in records)
    after = [benchmark(case, samples(1e-3 * factors[case.case_id])) for case in later]
    write(new, after, [lost] if lost else [])
    return compare(base, new)


def drawn(chart: Chart) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Return the lines of a forest and its band."""
    data = list(chart.spec["datasets"].values())
    (lines,), (band,) = [[own for own in data if has(own[0])] for has in (lambda r: "name" in r, lambda r: len(r) == 2)]
    return lines, band


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Changes:
    factors = {"much slower": 2.0, "faster": 0.5, "alike": 1.0}
    lost = record(case_id="broken", status="wrong", reason="The logits deviate.")
    return pair(tmp_path_factory.mktemp("runs"), factors, lost)


def test_the_outcome_in_one_sentence(found: Changes) -> None:
    assert changes_text.message(found) == (
        "Of 3 cases with a time in both runs 1 SLOWER, 1 FASTER and 1 SAME, by a least effect of 3.0 %; over all of "
        "them NEW takes as much time (speed-up 1.00×, a geometric mean, 1.00 to 1.00)."
    )


def test_more_and_less_time(found: Changes) -> None:
    told = [changes_text.time(Estimate(value, None, None, 9, 9)) for value in (1 / 1.05, 1.25, 1.0, 1.0001, 1e-4)]
    assert told == ["+5.0 %", "−20.0 %", "+0.0 %", "+0.0 %", "+999,900.0 %"]


def test_cases_of_one_run_only_are_told(found: Changes) -> None:
    several = tuple(f"case {n}" for n in range(12))
    notes = list(changes_text.notes(replace(found, gained=("a",), only_base=("b", "c"), only_new=several)))[1:]
    assert notes == [
        "With a time in NEW and none in BASE, which says why: 1 case (a).",
        "With a time in BASE and missing from NEW: 2 cases (b and c).",
        f"With a time in NEW and missing from BASE: 12 cases ({', '.join(several[:10])} and 2 more).",
    ]


def test_tables_hold_every_case_once_the_worst_first(found: Changes) -> None:
    section = changes_section(found)
    _, summary, changed, same = within(section, Table)
    assert [row[0] for row in changed.rows] == ["much slower", "faster"]
    median = np.median(samples(1e-3).reshape(-1, 2).mean(axis=1))  # of two samples in each block
    assert changed.rows[0] == (
        "much slower", f"{1e6 * median:.0f} µs", f"{2e3 * median:.2f} ms", "0.50×", "0.50 to 0.50", "+100.0 %",
        "SLOWER",
    )  # fmt: skip
    assert [row[0] for row in same.rows] == ["alike"]
    assert [row[0] for row in summary.rows] == ["sparse head, eager", "all cases"]
    assert [items.sentences for items in within(section, Items)] == [
        ["broken had a time and is now WRONG: The logits deviate."]
    ]
    notes = [text.words for text in within(section, Text) if text.style == "note"]
    assert notes == ["Compared block by block, because both files hold the same blocks: 3 of 3 cases."]


def test_the_forest_holds_the_measured_numbers(found: Changes) -> None:
    (chart,) = within(changes_section(found), Chart)
    assert chart.heading == "Each case"
    assert chart.message.startswith("Speed-ups from 0.50× (sparse head, eager")
    vl_convert.vegalite_to_svg(chart.spec)
    data, band = drawn(chart)
    assert [(row["case"], row["ratio"], row["verdict"]) for row in data] == [
        ("much slower", 0.5, "SLOWER"),
        ("faster", 2.0, "FASTER"),
        ("alike", 1.0, "SAME"),
    ]
    assert band == [{"low": pytest.approx(1 / 1.03), "high": 1.03}]


def test_of_many_cases_the_worst_are_drawn(tmp_path: Path) -> None:
    (chart,) = within(changes_section(pair(tmp_path, {f"case {n}": 2 + n / 100 for n in range(60)})), Chart)
    assert chart.heading == "Each case, the worst 40 of 60"
    assert [row["case"] for row in drawn(chart)[0]] == [f"case {n}" for n in range(59, 19, -1)]


def test_a_case_without_an_interval_is_drawn_as_a_mark(tmp_path: Path) -> None:
    base, new = (
        write(tmp_path / f"{n}.json", [benchmark(record(group_id=n, commit=n), [1e-3] * 6)]) for n in ("a", "b")
    )
    section = changes_section(compare(base, new))
    assert within(section, Table)[2].rows[0][4] == "no interval from 3 blocks"
    vl_convert.vegalite_to_svg(within(section, Chart)[0].spec)


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> tuple[Report, Changes]:
    folder = tmp_path_factory.mktemp("hostile")
    lost = record(case_id=f"lost {HOSTILE}", status="failed", reason=HOSTILE + ESCAPES)
    found = pair(folder, dict.fromkeys(NAMES, 2.0), lost, form=HOSTILE, checkpoint=HOSTILE, commit=HOSTILE)
    outcome = merge_gate.judged(found, (Verdict.SLOWER,))
    return compare_page.build(found, outcome, folder / "out", f"moegap compare {HOSTILE}"), found


def test_names_are_text_in_the_page(hostile: tuple[Report, Changes]) -> None:
    page = Outline(hostile[0].index.read_text(encoding="utf-8"))
    assert page.all("img") == []
    assert page.executed == 2
    assert all(name in page.text for name in NAMES[:2])
    assert LONG in page.text


def test_names_are_text_in_markdown(hostile: tuple[Report, Changes]) -> None:
    text = hostile[0].markdown.read_text(encoding="utf-8")
    assert hostile[0].markdown.name == "compare.md"
    assert "<img" not in text.replace("`", "")[: text.index("## Make it again")]
    assert not any(letter in text for letter in "\x1b\x07\u202e")
    assert "FAILED" in text
    rows = [line for line in text.splitlines() if line.startswith("| ") and line.endswith("SLOWER |")]
    assert len(rows) == len(NAMES)
    assert {len(row.replace(r"\|", "").split("|")) for row in rows} == {9}


def test_the_page_of_two_runs_stands_alone(found: Changes, tmp_path: Path) -> None:
    report = compare_page.build(
        found, merge_gate.judged(found, (Verdict.SLOWER,)), tmp_path / "out", "moegap compare a b"
    )
    page = Outline(report.index.read_text(encoding="utf-8"))
    assert {"verdict", "changes", "remake"} == {section["id"] for section in page.all("section") if "id" in section}
    told = "Gate failed: 1 case is SLOWER (much slower); 1 case is WRONG and had a time in BASE (broken)."
    assert told in page.text
    assert told in report.markdown.read_text(encoding="utf-8")
    assert (
        report.index.read_bytes()
        == compare_page.build(
            found, merge_gate.judged(found, (Verdict.SLOWER,)), tmp_path / "again", "moegap compare a b"
        ).index.read_bytes()
    )


def test_a_report_with_a_base_shows_what_changed(found: Changes, tmp_path: Path) -> None:
    base, new = (Path(run.file) for run in found.runs)
    report = build([new], tmp_path / "out", base=base)
    page = Outline(report.index.read_text(encoding="utf-8"))
    assert {"changes", "speedup"} < {section.get("id") for section in page.all("section")}
    assert changes_text.message(found) in page.text
    assert changes_text.message(found) in report.headline
    assert "much slower" in report.markdown.read_text(encoding="utf-8")
    assert f"--base {base}" in page.text


def test_a_report_of_studies_alone_has_nothing_to_compare(found: Changes, tmp_path: Path) -> None:
    with pytest.raises(ReportError, match="--base needs a benchmark result"):
        build([], tmp_path / "out", paper=True, base=Path(found.runs[0].file))
