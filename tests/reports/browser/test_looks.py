"""What a page looks like: light and dark, on paper, and on a phone."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from playwright.sync_api import Page

from reports.page import Report
from tests.reports.browser.conftest import Visits

PHONE = {"width": 380, "height": 800}
A4 = {"width": 718, "height": 1047}  # at 96 dots per inch, within margins of 1 cm
BEYOND = """allowed => [...document.querySelectorAll("body :not(svg *)")].filter((part) =>
    part.checkVisibility() && part.getBoundingClientRect().right > innerWidth + 1 && !part.closest(allowed))
    .map((part) => part.outerHTML.slice(0, 100))"""  # what stands beyond the right edge and not inside `allowed`

BROKEN = r"""() => [...document.querySelectorAll("td")].filter((cell) => {
    const range = document.createRange();
    range.selectNodeContents(cell);
    return /^([\d.,−e-]+|[A-Z]+)$/.test(cell.textContent) && range.getClientRects().length > 1;
}).map((cell) => cell.textContent)"""  # numbers and verdicts that stand on more than one line


def lightness(page: Page, style: str) -> float:
    """Return how light the page's ink ("color") or ground ("backgroundColor") is, 0 to 255, as painted."""
    painted = page.evaluate(f"getComputedStyle(document.body).{style}")
    channels = [float(part) for part in painted.strip("rgba()").split(",")[:3]]
    return sum(channels) / 3


def is_dark(page: Page) -> bool:
    """Return whether light ink stands on dark ground; the other way round is light, and anything else a mistake."""
    ink, ground = lightness(page, "color"), lightness(page, "backgroundColor")
    assert abs(ink - ground) > 128
    return ink > ground


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_theme_is_the_systems(visits: Visits, report: Report, scheme: str) -> None:
    page = visits.open(report.index, color_scheme=scheme)
    assert is_dark(page) == (scheme == "dark")
    ink = page.evaluate("getComputedStyle(document.querySelector('svg.marks text')).fill")
    assert ink == page.evaluate("getComputedStyle(document.body).color")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_button_switches_the_theme(visits: Visits, report: Report, scheme: str) -> None:
    page = visits.open(report.index, color_scheme=scheme)
    button = page.locator("header button#theme")
    names, dark = [], []
    for _ in range(4):
        names.append(button.text_content())
        dark.append(is_dark(page))
        button.click()
    assert [name.split()[-1] for name in names] == ["automatic", "light", "dark", "automatic"]
    assert dark == [scheme == "dark", False, True, scheme == "dark"]


def test_it_prints_on_paper_with_everything_open(visits: Visits, index: Path, tmp_path: Path) -> None:
    page = visits.open(index, viewport=A4)
    page.emulate_media(media="print")
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert page.locator("details:not([open])").count() == 0
    assert not any(part.is_visible() for part in page.locator("nav, select, input, button:not(th button)").all())
    assert page.evaluate(BEYOND, ".unseen, .skip") == []
    assert page.evaluate(BROKEN) == []


def test_a_printer_gets_a_document(visits: Visits, account_report: Report) -> None:
    page = visits.open(account_report.index)
    printed = page.pdf(format="A4")
    assert printed.startswith(b"%PDF-")
    sizes = re.findall(rb"/MediaBox \[0 0 (\d+)\S* (\d+)", printed)
    assert len(sizes) > 5
    assert {(int(width), int(height)) for width, height in sizes} == {(595, 842)}  # in points
    assert page.locator("details:not([open])").count() == 0


def test_dark_pages_print_on_white(visits: Visits, report: Report) -> None:
    page = visits.open(report.index, color_scheme="dark")
    page.emulate_media(media="print")
    assert lightness(page, "backgroundColor") == 255
    assert lightness(page, "color") < 64


def test_a_phone_scrolls_tables_and_never_the_page(visits: Visits, index: Path) -> None:
    page = visits.open(index, viewport=PHONE)
    page.evaluate("for (const details of document.querySelectorAll('details')) details.open = true")
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
    assert page.evaluate(BEYOND, ".scroll, pre, .unseen, .skip") == []
    regions = page.locator("div.scroll").all()
    wide = [region for region in regions if region.evaluate("region => region.scrollWidth > region.clientWidth")]
    assert wide
    wide[0].evaluate("region => { region.scrollLeft = 50; }")
    assert wide[0].evaluate("region => region.scrollLeft") == 50
