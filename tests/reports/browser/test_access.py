"""A page without a mouse: the keys reach everything, skip and open."""

from __future__ import annotations

from typing import Any

from playwright.sync_api import Page

from reports.page import Report
from tests.reports.browser.conftest import Visits

FOCUSED = """() => {
    const element = document.activeElement, style = getComputedStyle(element), box = element.getBoundingClientRect();
    const words = (element.getAttribute("aria-label") || element.textContent).trim().slice(0, 60);
    return {
        tag: element.tagName, words, href: element.getAttribute("href"),
        outline: style.outlineStyle === "none" ? 0 : parseFloat(style.outlineWidth),
        seen: box.width > 0 && box.right > 0 && box.left < innerWidth && box.bottom > 0 && box.top < innerHeight,
    };
}"""


def focus_next(page: Page, key: str = "Tab") -> dict[str, Any]:
    """Press a key and return what then has the focus."""
    page.keyboard.press(key)
    focused: dict[str, Any] = page.evaluate(FOCUSED)
    return focused


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


def test_the_skip_link_skips(visits: Visits, few: Report) -> None:
    page = visits.open(few.index)
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    assert page.evaluate("location.hash") == "#verdict"
    focused = focus_next(page)
    assert page.evaluate("document.activeElement.closest('nav')") is None
    assert focused["href"] != "#verdict"


def test_keys_open_details(visits: Visits, few: Report) -> None:
    page = visits.open(few.index)
    details = page.locator("details:not([open])").first.element_handle()
    details.query_selector("summary").focus()
    for opened in (True, False):
        page.keyboard.press("Enter")
        assert details.evaluate("details => details.open") is opened
