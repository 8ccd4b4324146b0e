"""What a page looks like: light and dark, and as a printed document."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Page

from reports.page import Report
from tests.reports.browser.conftest import Visits


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
def test_the_theme_is_the_systems(visits: Visits, few: Report, scheme: str) -> None:
    page = visits.open(few.index, color_scheme=scheme)
    assert is_dark(page) == (scheme == "dark")
    ink = page.evaluate("getComputedStyle(document.querySelector('svg.marks text')).fill")
    assert ink == page.evaluate("getComputedStyle(document.body).color")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_button_switches_the_theme(visits: Visits, few: Report, scheme: str) -> None:
    page = visits.open(few.index, color_scheme=scheme)
    button = page.locator("header button#theme")
    names, dark = [], []
    for _ in range(4):
        names.append(button.text_content())
        dark.append(is_dark(page))
        button.click()
    assert [name.split()[-1] for name in names] == ["automatic", "light", "dark", "automatic"]
    assert dark == [scheme == "dark", False, True, scheme == "dark"]


def test_a_printer_gets_a_document(visits: Visits, report: Report) -> None:
    page = visits.open(report.index)
    printed = page.pdf(format="A4")
    assert printed.startswith(b"%PDF-")
    sizes = re.findall(rb"/MediaBox \[0 0 (\d+)\S* (\d+)", printed)
    assert len(sizes) > 5
    assert {(int(width), int(height)) for width, height in sizes} == {(595, 842)}  # in points
    assert page.locator("details:not([open])").count() == 0


def test_dark_pages_print_on_white(visits: Visits, few: Report) -> None:
    page = visits.open(few.index, color_scheme="dark")
    page.emulate_media(media="print")
    assert lightness(page, "backgroundColor") == 255
    assert lightness(page, "color") < 64
