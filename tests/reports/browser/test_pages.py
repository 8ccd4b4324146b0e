"""Each kind of page, opened once: its charts, outline and names, axe's rules, on a phone and on paper."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import axe_playwright_python
import pytest
from playwright.sync_api import Browser, Page

from reports.page import Report
from tests.reports.browser.conftest import OPEN_ALL, Visits, visiting
from tests.reports.browser.test_charts import undrawn

AXE = (Path(axe_playwright_python.__file__).parent / "axe.min.js").read_text(encoding="utf-8")
GRAVE = ("serious", "critical")
COLOURS = ["color-contrast", "link-in-text-block"]
PHONE = {"width": 380, "height": 800}
A4 = {"width": 718, "height": 1047}  # at 96 dots per inch, within margins of 1 cm
FEW = "tbody tr:nth-child(n+4), figure ~ figure { display: none; }"  # the others are like them; axe looks at each cell
BEYOND = """allowed => [...document.querySelectorAll("body :not(svg *)")].filter((part) =>
    part.checkVisibility() && part.getBoundingClientRect().right > innerWidth + 1 && !part.closest(allowed))
    .map((part) => part.outerHTML.slice(0, 100))"""  # what stands beyond the right edge and not inside `allowed`
BROKEN = r"""() => [...document.querySelectorAll("td")].filter((cell) => {
    const range = document.createRange();
    range.selectNodeContents(cell);
    return /^([\d.,−e-]+|[A-Z]+)$/.test(cell.textContent) && range.getClientRects().length > 1;
}).map((cell) => cell.textContent)"""  # numbers and verdicts that stand on more than one line


@pytest.fixture(scope="module", params=["account_report", "map_report", "studies_report", "published_report"])
def page(chromium: Browser, request: pytest.FixtureRequest) -> Iterator[Page]:
    """Each page under test in turn; the tests look at it one after the other, and it may complain of none."""
    report: Report = request.getfixturevalue(request.param)
    with visiting(chromium) as visits:
        yield visits.open(report.index)


def violations(page: Page, **options: Any) -> list[str]:
    """Return what axe finds grave in the whole page, its details open, its tables and rows of charts cut short."""
    page.evaluate(OPEN_ALL)
    page.evaluate("rule => document.styleSheets[0].insertRule(rule)", FEW)
    page.evaluate(AXE)
    found = page.evaluate("options => axe.run(document, options)", {"resultTypes": ["violations"], **options})
    page.evaluate("document.styleSheets[0].deleteRule(0)")
    return [
        f"{each['id']}: {node['html'][:120]}"
        for each in found["violations"]
        if each["impact"] in GRAVE
        for node in each["nodes"]
    ]


def test_every_chart_is_drawn(page: Page) -> None:
    assert page.locator("figure").count() > 1
    assert undrawn(page) == []


def test_landmarks_and_headings_tell_the_outline(page: Page) -> None:
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


def test_tables_and_charts_say_what_they_are(page: Page) -> None:
    assert page.locator("th:not([scope=col]):not([scope=row])").count() == 0
    assert page.locator("table:not(:has(caption))").count() == page.locator(".vg-tooltip table").count()
    texts = page.locator(".chart").evaluate_all("all => all.map(one => [one.getAttribute('role'), one.ariaLabel])")
    assert texts
    assert all(role == "img" and text.endswith(".") and len(text) > 20 for role, text in texts)


def test_axe_finds_nothing_grave(page: Page) -> None:
    assert violations(page, rules={rule: {"enabled": False} for rule in COLOURS}) == []


def test_text_stands_out_from_light_and_dark_ground(page: Page, request: pytest.FixtureRequest) -> None:
    if "account" not in request.node.name and "studies" not in request.node.name:
        pytest.skip("its parts are those of the two others, and axe takes long over its colours")
    for scheme in ("dark", "light"):
        page.emulate_media(color_scheme=scheme)
        assert violations(page, runOnly=COLOURS) == []


def test_text_that_does_not_is_found(visits: Visits, few: Report) -> None:
    page = visits.open(few.index)
    page.evaluate("document.querySelector('.lede').style.color = '#aaa'")
    assert violations(page, runOnly=COLOURS)


def test_a_phone_scrolls_tables_and_never_the_page(page: Page, request: pytest.FixtureRequest) -> None:
    page.set_viewport_size(PHONE)
    page.evaluate(OPEN_ALL)
    page.wait_for_function("document.documentElement.scrollWidth <= innerWidth")
    assert page.evaluate(BEYOND, ".scroll, pre, .unseen, .skip, nav") == []
    regions = page.locator("div.scroll").all()
    wide = [region for region in regions if region.evaluate("region => region.scrollWidth > region.clientWidth")]
    assert wide
    wide[0].evaluate("region => { region.scrollLeft = 50; }")
    assert wide[0].evaluate("region => region.scrollLeft") == 50
    if "account" in request.node.name:
        assert violations(page, runOnly=["scrollable-region-focusable", "meta-viewport", "target-size"]) == []


def test_it_prints_on_paper_with_everything_open(page: Page) -> None:
    page.set_viewport_size(A4)
    page.emulate_media(media="print")
    page.evaluate("for (const details of document.querySelectorAll('details')) details.open = false")
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert page.locator("details:not([open])").count() == 0
    assert not any(part.is_visible() for part in page.locator("nav, select, input, button:not(th button)").all())
    page.wait_for_function(f"!({BEYOND})('.unseen, .skip').length")
    assert page.evaluate(BROKEN) == []
