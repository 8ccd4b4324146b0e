"""A page without a mouse and without eyes: keys, landmarks, headings, alternative texts, and axe's own rules."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import axe_playwright_python
import pytest
from playwright.sync_api import Page

from reports.page import Report
from tests.reports.browser.conftest import Visits

AXE = (Path(axe_playwright_python.__file__).parent / "axe.min.js").read_text(encoding="utf-8")
GRAVE = ("serious", "critical")
PHONE = {"width": 380, "height": 800}
FOCUSED = """() => {
    const element = document.activeElement, style = getComputedStyle(element), box = element.getBoundingClientRect();
    const words = (element.getAttribute("aria-label") || element.textContent).trim().slice(0, 60);
    return {
        tag: element.tagName, words, href: element.getAttribute("href"),
        outline: style.outlineStyle === "none" ? 0 : parseFloat(style.outlineWidth),
        seen: box.width > 0 && box.right > 0 && box.left < innerWidth && box.bottom > 0 && box.top < innerHeight,
    };
}"""
BUT_FOR_COLOURS = [
    "svg-img-alt", "scrollable-region-focusable", "nested-interactive", "label", "button-name", "select-name",
    "aria-allowed-attr", "aria-hidden-focus", "duplicate-id-aria", "link-name", "list", "definition-list",
]  # fmt: skip
OPEN_ALL = "for (const details of document.querySelectorAll('details')) details.open = true"
FEW_ROWS = "tbody tr:nth-child(n+4) { display: none; }"  # the others are like them, and axe looks at each cell


def violations(page: Page, rules: list[str] | None = None) -> list[str]:
    """Return what axe finds grave in the whole page, its details open and its tables cut short."""
    page.evaluate(OPEN_ALL)
    page.add_style_tag(content=FEW_ROWS)
    page.evaluate(AXE)
    options: dict[str, Any] = {"resultTypes": ["violations"]}
    if rules:
        options["runOnly"] = rules
    found = page.evaluate("options => axe.run(document, options)", options)["violations"]
    return [
        f"{each['id']}: {node['html'][:120]}" for each in found if each["impact"] in GRAVE for node in each["nodes"]
    ]


def focus_next(page: Page, key: str = "Tab") -> dict[str, Any]:
    """Press a key and return what then has the focus."""
    page.keyboard.press(key)
    focused: dict[str, Any] = page.evaluate(FOCUSED)
    return focused


@pytest.mark.parametrize("page_of", ["account_report", "map_report", "studies_report"])
def test_axe_finds_nothing_grave(visits: Visits, request: pytest.FixtureRequest, page_of: str) -> None:
    index = request.getfixturevalue(page_of).index
    assert violations(visits.open(index, bypass_csp=True)) == []


def test_axe_finds_nothing_grave_in_what_was_published(visits: Visits, published_report: Report) -> None:
    assert violations(visits.open(published_report.index, bypass_csp=True), BUT_FOR_COLOURS) == []


def test_axe_finds_nothing_grave_on_a_phone(visits: Visits, account_report: Report) -> None:
    page = visits.open(account_report.index, bypass_csp=True, viewport=PHONE)
    assert violations(page, ["scrollable-region-focusable", "meta-viewport", "target-size"]) == []


@pytest.mark.parametrize("page_of", ["account_report", "studies_report"])
def test_text_stands_out_from_dark_ground(visits: Visits, request: pytest.FixtureRequest, page_of: str) -> None:
    page = visits.open(request.getfixturevalue(page_of).index, bypass_csp=True, color_scheme="dark")
    assert violations(page, ["color-contrast", "link-in-text-block"]) == []


def test_axe_would_find_text_that_does_not(visits: Visits, report: Report) -> None:
    page = visits.open(report.index, bypass_csp=True)
    page.add_style_tag(content=".lede { color: #aaa; }")
    assert violations(page, ["color-contrast"])


def test_keys_reach_everything_in_order_and_get_out_again(visits: Visits, report: Report) -> None:
    page = visits.open(report.index)
    first = focus_next(page)
    assert (first["tag"], first["href"]) == ("A", "#verdict")
    assert first["seen"]
    reached = [first]
    while (focused := focus_next(page))["tag"] != "BODY":
        assert len(reached) < 500
        reached.append(focused)
    assert [focused["words"] for focused in reached if focused["outline"] < 1 or not focused["seen"]] == []
    links = [f"#{section}" for section in page.locator("main > section").evaluate_all("all => all.map(one => one.id)")]
    assert [each["href"] for each in reached if each["href"] in links][1 : 1 + len(links)] == links
    every = "a[href], button, input, select, summary, [tabindex='0']"
    visible = [part for part in page.locator(every).all() if part.is_visible()]
    assert len(reached) == len(visible)
    back = focus_next(page, "Shift+Tab")
    assert back["words"] == reached[-1]["words"]


def test_the_skip_link_skips(visits: Visits, report: Report) -> None:
    page = visits.open(report.index)
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    assert page.evaluate("location.hash") == "#verdict"
    focused = focus_next(page)
    assert page.evaluate("document.activeElement.closest('nav')") is None
    assert focused["href"] != "#verdict"


def test_keys_open_details(visits: Visits, account_report: Report) -> None:
    page = visits.open(account_report.index)
    details = page.locator("details:not([open])").first.element_handle()
    details.query_selector("summary").focus()
    for opened in (True, False):
        page.keyboard.press("Enter")
        assert details.evaluate("details => details.open") is opened


def test_landmarks_and_headings_tell_the_outline(visits: Visits, index: Path) -> None:
    page = visits.open(index)
    for landmark in ("banner", "navigation", "main", "contentinfo"):
        assert page.get_by_role(landmark, include_hidden=False).count() == 1
    assert page.locator("html").get_attribute("lang") == "en"
    headings = page.locator(":is(h1, h2, h3, h4, h5, h6)")
    levels = headings.evaluate_all("all => all.map(one => Number(one.tagName[1]))")
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(below <= above + 1 for above, below in pairwise(levels))
    unnamed = "all => all.filter(one => !document.getElementById(one.getAttribute('aria-labelledby'))).length"
    assert page.locator("main > section").evaluate_all(unnamed) == 0


def test_tables_and_charts_say_what_they_are(visits: Visits, index: Path) -> None:
    page = visits.open(index)
    assert page.locator("th:not([scope=col]):not([scope=row])").count() == 0
    assert page.locator("table:not(:has(caption))").count() == page.locator(".vg-tooltip table").count()
    texts = page.locator(".chart").evaluate_all("all => all.map(one => [one.getAttribute('role'), one.ariaLabel])")
    assert texts
    assert all(role == "img" and text.endswith(".") and len(text) > 20 for role, text in texts)
