"""The first screen answers, the rest is folded away, and links, the nav and a printer still reach all of it."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import Page

from reports.page import Report, build
from tests.reports.browser.conftest import PUBLISHED, Visits

SCREENS = {"desk": {"width": 1400, "height": 900}, "phone": {"width": 390, "height": 844}}
MOST = 6  # screens before anything is unfolded
BOTTOM = "part => part.getBoundingClientRect().bottom"
TOP = "part => part.getBoundingClientRect().top"


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Report:
    """The report of the published demo alone."""
    return build([PUBLISHED / "demo.json"], tmp_path_factory.mktemp("demo-report"))


def heights(page: Page) -> float:
    """Return how many screens the page is high."""
    screens: float = page.evaluate("document.documentElement.scrollHeight / innerHeight")
    return screens


@pytest.mark.parametrize("screen", SCREENS)
def test_the_demos_page_is_short_until_it_is_unfolded(visits: Visits, demo: Report, screen: str) -> None:
    page = visits.open(demo.index, viewport=SCREENS[screen])
    assert heights(page) < MOST
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    page.evaluate("for (const fold of document.querySelectorAll('.fold')) fold.open = true")
    assert heights(page) > 1.5 * MOST


def test_the_first_screen_has_the_answers_the_table_the_machine_and_the_picture(visits: Visits, demo: Report) -> None:
    page = visits.open(demo.index, viewport=SCREENS["desk"])
    for part in (".answer", ".beside table", ".beside .facts", ".beside .chart svg"):
        assert page.locator(f"#verdict {part}").last.evaluate(BOTTOM) < 900
    table = page.locator(".beside .scroll")
    assert table.evaluate("table => table.scrollWidth <= table.clientWidth")
    assert page.locator(".beside .warning").count() == page.locator(".beside .warning dd").count()


@pytest.mark.parametrize("screen", SCREENS)
def test_the_nav_stays_in_view_and_opens_what_it_leads_to(visits: Visits, few: Report, screen: str) -> None:
    page = visits.open(few.index, viewport=SCREENS[screen])
    for section in ("cases", "environment"):
        fold = page.locator(f"#{section} > details.fold")
        assert not fold.evaluate("fold => fold.open")
        page.locator(f"nav a[href='#{section}']").click()
        page.wait_for_function(f"document.querySelector('#{section} > details').open")
        heading = page.locator(f"#{section} h2")
        nav = page.locator("nav").evaluate(BOTTOM) if screen == "phone" else 0
        assert nav - 1 <= heading.evaluate(TOP) < SCREENS[screen]["height"]
        assert page.locator("nav").evaluate(TOP) >= 0
    fold.evaluate("fold => fold.open = false")
    page.locator("nav a[href='#environment']").click()  # the address stays the same
    assert fold.evaluate("fold => fold.open")


def test_an_address_with_an_anchor_opens_it(visits: Visits, few: Report, tmp_path: Path) -> None:
    page = visits.open(few.index)
    page.goto(f"{few.index.as_uri()}#routing")
    page.reload()
    page.wait_for_function("document.querySelector('#routing > details').open")
    assert page.locator("#latency > details").evaluate("fold => fold.open") is False
    page.goto(f"{few.index.as_uri()}#there-is-no-such-thing")
    assert page.locator("#latency > details").evaluate("fold => fold.open") is False


def test_a_chart_drawn_while_folded_has_the_width_it_is_shown_in(visits: Visits, few: Report, tmp_path: Path) -> None:
    index = tmp_path / "index.html"
    text = few.index.read_text(encoding="utf-8")  # other browsers lay nothing out that is folded away
    index.write_text(text.replace("</style>", "details:not([open]) > :not(summary) { display: none; }</style>", 1))
    page = visits.open(index, viewport=SCREENS["desk"])
    page.locator("nav a[href='#latency']").click()
    width = "chart => chart.querySelector('svg').clientWidth / chart.clientWidth"
    chart = page.locator("#latency .chart").first
    page.wait_for_timeout(200)
    assert 0.95 < chart.evaluate(width) <= 1
