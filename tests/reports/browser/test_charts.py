"""Every chart is drawn, and what a reader picks is what it then shows."""

from __future__ import annotations

import json
import re
from pathlib import Path

import altair
import pytest
from playwright.sync_api import Page

from reports.output import canvas
from reports.output.blocks import Chart, Choice, choosing
from reports.page import Report, build
from reports.speed import routing_section
from tests.reports.browser.conftest import OPEN_ALL, Visits
from tests.reports.synthetic import benchmark, record, samples, write

UNDRAWN = """() => [...document.querySelectorAll("figure")].filter((figure) => {
    const seen = [...figure.querySelectorAll("svg.marks .role-mark :is(path, rect, text)")].filter((mark) => {
        const box = mark.getBBox();
        return box.width + box.height > 0;
    });
    const broken = [...figure.querySelectorAll("svg *")].filter((part) =>
        [...part.attributes].some((attribute) => /NaN|Infinity/.test(attribute.value)));
    return !seen.length || broken.length;
}).map((figure) => figure.textContent.slice(0, 80))"""
SPECIFICATION = re.compile(r'<figure>.*?<script type="application/json">(?P<text>.*?)</script>', re.DOTALL)
BROKEN = {
    "an unknown mark": {"layer": [{"data": {"values": [{"a": 1}]}, "mark": "no such mark", "encoding": {}}]},
    "no data": {"data": {"values": []}, "mark": "bar", "encoding": {"x": {"field": "a", "type": "quantitative"}}},
    "a scale without end": {
        "data": {"values": [{"a": 1}, {"a": 2}]},
        "mark": "point",
        "encoding": {"x": {"field": "a", "type": "quantitative", "scale": {"type": "log", "domain": [0, 1]}}},
    },
}


def undrawn(page: Page) -> list[str]:
    """Return the beginning of each figure that shows no mark, or one at a place that is no number."""
    return page.evaluate(UNDRAWN)


@pytest.mark.parametrize("name", BROKEN)
def test_a_chart_that_cannot_be_drawn_is_found(visits: Visits, few: Report, tmp_path: Path, name: str) -> None:
    text = few.index.read_text(encoding="utf-8")
    place = SPECIFICATION.search(text)
    assert place is not None
    mutant = tmp_path / "index.html"
    mutant.write_text(text[: place.start("text")] + json.dumps(BROKEN[name]) + text[place.end("text") :])
    opened = visits.open(mutant)
    assert undrawn(opened) or visits.complaints
    assert len(undrawn(opened)) <= 1  # the others are drawn all the same
    visits.complaints.clear()


@pytest.mark.parametrize(
    "attack",
    [
        "<script>document.title = 'owned'</script>",
        "<img src=x onerror=\"document.title = 'owned'\">",
        "<link rel=stylesheet href=https://example.org/a.css>",
        '<iframe src="data:text/html,owned"></iframe>',
    ],
)
def test_what_a_page_must_not_do_is_heard(visits: Visits, few: Report, tmp_path: Path, attack: str) -> None:
    mutant = tmp_path / "index.html"
    text = few.index.read_text(encoding="utf-8")
    mutant.write_text(text.replace("<main>", f"<main>{attack}", 1), encoding="utf-8")
    page = visits.open(mutant)
    page.wait_for_load_state()
    assert visits.complaints
    assert page.title().startswith("moegap")
    visits.complaints.clear()


def test_hostile_text_runs_nothing(visits: Visits, tmp_path: Path) -> None:
    attack = "</script><script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\">"
    entries = [
        benchmark(record(head=head, form=attack, checkpoint=attack), samples(1e-3)) for head in ("dense", "sparse")
    ]
    failed = record(form=attack, status="failed", reason=attack, rows=9)
    report = build([write(tmp_path / "run.json", entries, [failed])], tmp_path / "report")
    page = visits.open(report.index)
    assert page.title().startswith("moegap")
    assert undrawn(page) == []


def chart_of_choices() -> Chart:
    """Return a chart that shows one bar or two."""
    bars = altair.Chart(altair.NamedData("bars")).mark_bar().encode(x="name:N", y="value:Q")
    one, two = [{"name": "a", "value": 1}], [{"name": "a", "value": 3}, {"name": "</script>b", "value": 2}]
    choices = [Choice("first", {"bars": one}, "One bar."), Choice("second </script>", {"bars": two}, "Two bars.")]
    return choosing("bars", canvas.finished(bars).to_dict(), choices)


def test_a_choice_changes_marks_and_words(
    visits: Visits, few_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(routing_section, "routing_charts", lambda analysis: [chart_of_choices()])
    opened = visits.open(build([few_run], tmp_path).index)
    opened.evaluate(OPEN_ALL)
    figure = opened.locator("#routing figure")
    bars = figure.locator(".mark-rect.role-mark path")
    assert bars.count() == 1
    for label, words, count in (("second </script>", "Two bars.", 2), ("first", "One bar.", 1)):
        figure.locator("select").select_option(label)
        bars.nth(count - 1).wait_for()
        assert bars.count() == count
        assert figure.locator("figcaption").text_content() == words
        assert figure.locator(".chart").get_attribute("aria-label") == words


def test_what_is_picked_before_a_chart_is_drawn_is_what_it_shows(
    visits: Visits, few_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(routing_section, "routing_charts", lambda analysis: [chart_of_choices()])
    report = build([few_run], tmp_path)
    text = report.index.read_text(encoding="utf-8")
    second = text.replace("<option>second", "<option selected>second")
    assert second != text
    report.index.write_text(second, encoding="utf-8")
    opened = visits.open(report.index)
    opened.evaluate(OPEN_ALL)
    figure = opened.locator("#routing figure")
    figure.locator(".mark-rect.role-mark path").nth(1).wait_for()
    assert figure.locator("figcaption").text_content() == "Two bars."
    assert figure.locator(".chart").get_attribute("aria-label") == "Two bars."


def test_every_choice_of_an_account_is_drawn(visits: Visits, account_report: Report) -> None:
    opened = visits.open(account_report.index)
    opened.evaluate(OPEN_ALL)
    for figure in opened.locator("figure:has(select)").all():
        select, caption = figure.locator("select"), figure.locator("figcaption")
        for place in range(1, min(4, select.locator("option").count())):
            before, drawn = caption.text_content(), figure.locator("svg.marks").inner_html()
            select.select_option(index=place)
            opened.wait_for_timeout(50)
            assert caption.text_content() != before
            assert figure.locator(".chart").get_attribute("aria-label") == caption.text_content()
            assert figure.locator("svg.marks").inner_html() != drawn
    assert undrawn(opened) == []
