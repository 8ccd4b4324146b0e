"""The table of all cases: sorted, filtered and copied as an independent reading of its cells says it must be."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page

from reports.page import Report, build
from tests.reports.browser.conftest import OPEN_ALL, Visits, visiting
from tests.reports.synthetic import benchmark, record, samples, write

TABLE = "#cases div.scroll > table#all-cases"
HOSTILE = ('a,"b"', "it's", "=1+1", "</td><td>more</td>", "@SUM(A1)", "plain; text")
ALONE = "document.querySelectorAll('main > section:not(#cases)').forEach(section => section.remove())"  # soon laid out
WITHOUT_CLIPBOARD = "Object.defineProperty(navigator, 'clipboard', { value: undefined });"
CLIPBOARD = ["clipboard-read", "clipboard-write"]


def headings(page: Page) -> list[str]:
    return page.locator(f"{TABLE} thead th button").all_text_contents()


def shown(page: Page) -> list[tuple[str, ...]]:
    """Return the cells of the rows that can be seen, in their order."""
    cells = (
        """rows => rows.filter(row => row.checkVisibility()).map(row => [...row.cells].map(cell => cell.textContent))"""
    )
    return [tuple(row) for row in page.locator(f"{TABLE} tbody tr").evaluate_all(cells)]


def number(text: str) -> float | None:
    """Return the number in a cell, or None where it holds none."""
    try:
        return float(text.replace(",", "").replace("\N{MINUS SIGN}", "-"))
    except ValueError:
        return None


def natural(text: str) -> list[tuple[float, str]]:
    """Return a key by which words come in alphabetical order, and numbers within them by their size."""
    parts = re.split(r"(\d+)", re.sub(r"[^\w ]", "", text).lower())
    return [(float(part), "") if part.isdigit() else (-1.0, part.replace("_", " ")) for part in parts]


def is_sorted(cells: list[str], *, descending: bool) -> bool:
    """Return whether cells are in order: numbers where all are, and blanks last either way."""
    filled = [cell for cell in cells if cell]
    if cells != filled + [""] * (len(cells) - len(filled)):
        return False
    numbers = [number(cell) for cell in filled]
    keys = [natural(cell) for cell in filled] if None in numbers else numbers
    return keys == sorted(keys, reverse=descending)


def copied(page: Page) -> list[list[str]]:
    """Press the button that copies, and return what the clipboard then holds."""
    page.locator("button#copy").click()
    page.wait_for_timeout(100)
    text = page.context.new_page()
    text.goto(page.url)
    text.bring_to_front()
    found = text.evaluate("navigator.clipboard.readText()")
    return list(csv.reader(io.StringIO(found, newline="")))


@pytest.fixture(scope="module")
def page(chromium: Browser, account_report: Report) -> Iterator[Page]:
    """A page that the tests use one after the other; each leaves it with all of its rows."""
    with visiting(chromium) as visits:
        page = visits.open(account_report.index, permissions=CLIPBOARD)
        page.evaluate(ALONE)
        page.evaluate(OPEN_ALL)
        yield page


@pytest.fixture
def hostile(tmp_path: Path) -> Report:
    """A report of forms that a page, a spreadsheet or CSV could take for something else."""
    entries = [
        benchmark(record(head=head, form=form), samples((place + 1) * 1e-3))
        for head in ("dense", "sparse")
        for place, form in enumerate(HOSTILE)
    ]
    return build([write(tmp_path / "run.json", entries)], tmp_path / "report")


def test_one_table_holds_every_measured_case(page: Page, account_report: Report) -> None:
    assert page.locator(TABLE).count() == 1
    assert len(shown(page)) == page.locator(f"{TABLE} tbody tr").count() > 50
    assert page.locator("#shown").text_content() == f"{len(shown(page))} of {len(shown(page))} cases"
    assert page.locator("#shown").get_attribute("role") == "status"


def test_every_column_sorts_up_and_down(page: Page) -> None:
    before = shown(page)
    assert len(headings(page)) == len(before[0])
    ordered = 0
    for place, button in enumerate(page.locator(f"{TABLE} thead th button").all()):
        for direction in ("ascending", "descending"):
            button.click()
            rows = shown(page)
            assert sorted(rows) == sorted(before)
            assert is_sorted([row[place] for row in rows], descending=direction == "descending"), headings(page)[place]
            assert page.locator(f"{TABLE} thead th").nth(place).get_attribute("aria-sort") == direction
            assert page.locator(f"{TABLE} th[aria-sort]").count() == 1
            ordered += rows != before
    assert ordered > 10


def test_enter_on_a_heading_sorts(page: Page) -> None:
    place = headings(page).index("rows")
    page.locator(f"{TABLE} thead th button").nth(place).focus()
    for descending in (False, True):
        page.keyboard.press("Enter")
        assert is_sorted([row[place] for row in shown(page)], descending=descending)


@pytest.mark.parametrize("words", ["sparse", "ONNX", "eager 256", "zipf2  dense", "no such word", "["])
def test_all_words_must_stand_in_a_row(page: Page, words: str) -> None:
    rows = shown(page)
    page.locator("input#filter").fill(words)
    wanted = [row for row in rows if all(word in " ".join(row).lower() for word in words.lower().split())]
    assert shown(page) == wanted
    assert page.locator("#shown").text_content() == f"{len(wanted)} of {len(rows)} cases"
    page.locator("input#filter").fill("")
    assert shown(page) == rows


def test_what_is_chosen_is_what_is_shown(page: Page) -> None:
    rows = shown(page)
    choices = page.locator("#cases select[data-filter]").all()
    assert len(choices) > 2
    for choice in choices:
        option = choice.locator("option").nth(1).text_content()
        choice.select_option(label=option)
        assert 0 < len(shown(page)) < len(rows)
        assert all(option in row for row in shown(page))
        choice.select_option(index=0)
    assert shown(page) == rows


def test_words_and_choices_hold_together(page: Page) -> None:
    choice = page.locator("#cases select[data-filter]").first
    option = choice.locator("option").nth(1).text_content()
    choice.select_option(label=option)
    page.locator("input#filter").fill("256")
    assert shown(page)
    assert all(option in row and any("256" in cell for cell in row) for row in shown(page))
    page.locator("input#filter").fill("")
    choice.select_option(index=0)


@pytest.mark.parametrize("clipboard", [True, False])
def test_what_is_shown_is_what_is_copied(page: Page, clipboard: bool) -> None:
    if not clipboard:
        page.evaluate(WITHOUT_CLIPBOARD)
    page.locator("input#filter").fill("sparse")
    page.locator(f"{TABLE} thead th button").nth(headings(page).index("rows")).click()
    rows = shown(page)
    header, *found = copied(page)
    assert header == headings(page)
    assert len(found) == len(rows)
    for copy, row in zip(found, rows, strict=True):
        assert [number(cell) if number(cell) is not None else cell for cell in copy] == [
            number(cell) if number(cell) is not None else cell for cell in row
        ]
    page.locator("input#filter").fill("")


def test_hostile_cells_survive_the_copy(visits: Visits, hostile: Report) -> None:
    page = visits.open(hostile.index, permissions=CLIPBOARD)
    page.evaluate(OPEN_ALL)
    header, *found = copied(page)
    place = header.index("form")
    assert {cell[place].removeprefix("'") for cell in found} == set(HOSTILE)
    assert not any(cell.startswith(("=", "@")) for row in found for cell in row)
    assert {len(row) for row in found} == {len(header)}
