"""Every kind of block becomes HTML and Markdown: text from files is text, and what is for the page stays there."""

from __future__ import annotations

import re
from typing import get_args

import pytest

from reports.output import blocks, html, markdown
from reports.output.blocks import (
    Answer,
    Beside,
    Block,
    Chart,
    Choice,
    Clause,
    Commands,
    Details,
    Facts,
    Filter,
    FilteredTable,
    Finding,
    Findings,
    Grid,
    Items,
    Key,
    Legend,
    Page,
    PageOnly,
    Panel,
    Reason,
    Section,
    Subsection,
    Table,
    Text,
    choosing,
    folded,
    numeric,
    worded,
)
from tests.reports.test_page import Outline

ATTACK = "<img src=x onerror=alert(1)>|[a](b)`@user"
TABLE = Table(f"caption {ATTACK}", (*worded("head"), *numeric("n")), ((f"cell {ATTACK}", "3"),))
SPEC = {"mark": "bar", "datasets": {"rows": [{"a": 1}]}}
KINDS: list[Block] = [
    Text(f"plain {ATTACK}"),
    Items([f"item {ATTACK}"]),
    TABLE,
    FilteredTable(TABLE, (Filter(0, "head", (f"cell {ATTACK}",)),)),
    Chart(f"heading {ATTACK}", SPEC, f"message {ATTACK}"),
    Legend("Forms", [Key(f"key {ATTACK}", "<circle/>")]),
    Facts(f"machine {ATTACK}", [("CPU", ATTACK)]),
    Reason("failed", f"reason {ATTACK}", (f"case {ATTACK}",)),
    Answer([Clause("It is "), Clause(ATTACK, "FASTER")], ATTACK, [ATTACK]),
    Findings([Finding(f"title {ATTACK}", [ATTACK], "here")]),
    Commands([f"moegap {ATTACK}"]),
    Grid([Text(f"in a grid {ATTACK}")]),
    Beside([Text("wide"), Text(f"narrow {ATTACK}")]),
    Panel(f"panel {ATTACK}", ATTACK, [Text("within")]),
    Subsection(f"subsection {ATTACK}", [Text("within")], reading=ATTACK),
    Details(f"details {ATTACK}", [Text("within")], reading=ATTACK),
    PageOnly([Text(f"page only {ATTACK}")]),
]


def page(*shown: Block, **fields: str) -> Page:
    return Page("a name", "A heading", "A lede.", [Section("here", "Here", shown, **fields)])


def test_the_kinds_below_are_all_there_are() -> None:
    assert [type(block) for block in KINDS] == list(get_args(blocks.Block))


@pytest.mark.parametrize("block", KINDS, ids=lambda block: type(block).__name__)
def test_every_kind_becomes_a_page_whose_text_is_text(block: Block) -> None:
    shown = Outline(html.render(page(block)))
    assert shown.all("img") == []
    assert ATTACK in shown.text
    text = markdown.render(page(block))
    prose = re.sub("``.*``", "", text)
    assert "<img" not in prose
    assert "@user" not in prose
    assert not re.search(r"(?<!\\)\]\(", prose)


def test_markdown_leaves_out_what_is_for_the_page_alone() -> None:
    hidden = (PageOnly([TABLE, Panel("a panel", "", [Text("hidden")])]), KINDS[3], KINDS[5])
    assert "## Here" not in markdown.render(page(*hidden, reading="how", brief="short"))
    text = markdown.render(page(Panel("kept", "", [PageOnly([Text("hidden")]), Text("shown")]), brief="short"))
    assert "shown" in text
    assert "short" in text
    assert "hidden" not in text
    assert "caption" in markdown.rendered(page(*hidden).sections[0], whole=True)


def test_only_the_page_says_how_to_read_it() -> None:
    both = page(Text("shown"), reading="up is better.", brief="Up is better, in short.")
    assert "<summary>How to read it</summary><p>Up is better.</p>" in html.render(both)
    assert "How to read it" not in markdown.render(both)
    assert "in short" not in html.render(both)


def test_a_folded_section_is_closed_under_its_heading_and_says_what_it_is_about() -> None:
    section = Section("here", "Here", [Text("inside")], about="what is there", folded=True)
    text = html.render(Page("a name", "A heading", "A lede.", [section]))
    assert re.search(r'<details class="fold">\s*<summary><h2 id="here-title">Here</h2> <span[^>]*>what is there<', text)
    assert markdown.rendered(section) == "## Here\n\ninside\n\n"


def test_a_fact_that_weakens_the_numbers_is_a_warning() -> None:
    facts = Facts("machine", [("load", "9"), ("date", "now")], warnings=["load"])
    assert html.render(page(facts)).count('<div class="warning"><dt>load</dt>') == 1
    assert "- **Warning:** load: 9\n- date: now" in markdown.render(page(facts))


def test_an_answer_shows_each_verdict_in_its_words() -> None:
    answer = Answer([Clause("It is "), Clause("slower at 1 row", "SLOWER"), Clause(".")], "here", ["Because."])
    assert 'It is <strong data-verdict="SLOWER">slower at 1 row</strong>.' in html.render(page(answer))
    assert "- **It is slower at 1 row.** here. Because." in markdown.render(page(answer))


def test_a_chart_of_choices_says_its_first_or_every_one() -> None:
    choices = [Choice(word, {"rows": [{"a": 1}]}, f"{word} is said.") for word in ("one", "two")]
    assert "two is said" not in markdown.render(page(choosing("which", SPEC, choices)))
    assert "two is said" in markdown.render(page(choosing("which", SPEC, choices, every_choice=True)))


def test_bullets_make_one_list_and_tables_stand_apart() -> None:
    text = markdown.render(page(Text("a note", "note"), Items(["an item"]), TABLE, Text("words")))
    assert "- a note\n- an item\n\n**caption" in text
    assert "| 3 |\n\nwords\n" in text


def test_a_folded_table_has_its_caption_once() -> None:
    assert markdown.render(page(folded(TABLE))).count("caption") == 1
    assert html.render(page(folded(TABLE))).count('<p class="title"') == 0
