"""A report in Markdown, fit for a pull request; text from result files shows as it is and does nothing."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from reports.output.blocks import (
    Answer,
    Beside,
    Block,
    Chart,
    Commands,
    Details,
    Facts,
    Findings,
    Grid,
    Items,
    Page,
    PageOnly,
    Panel,
    Reason,
    Section,
    Subsection,
    Table,
    Text,
)
from reports.reading.visible import visible


def render(page: Page) -> str:
    """Return the report as Markdown, without what is for the page alone and without sections that are then empty."""
    sections = "".join(rendered(section) for section in page.sections)
    more = f"{text(page.more)}\n" if page.more else ""
    return f"# {text(page.heading)}\n\n{text(page.lede)}\n\n{sections}{more}"


def rendered(section: Section, *, whole: bool = False) -> str:
    """Return a section as Markdown, with what is for the page alone if `whole`; "" if nothing is left."""
    lines = list(_lines(section.blocks, whole))
    if not lines:
        return ""
    brief = [text(section.brief), ""] if section.brief else []
    return "\n".join([f"## {text(section.heading or section.title)}", "", *brief, *lines, ""]).rstrip("\n") + "\n\n"


def text(value: object) -> str:
    """Return `value` as Markdown that shows exactly it: one line, without markup or mentions of users."""
    line = _line(str(value)).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"([\\`*_\[\]|#~!$])", r"\\\1", line).replace("@", "@\u200b")


def code(value: str) -> str:
    """Return `value` as code, of which no renderer makes markup."""
    line = _line(value)
    if "<" in line:
        return f"<code>{text(line)}</code>"
    fence = "`" * (1 + max(map(len, re.findall("`+", line)), default=0))
    return f"{fence} {line} {fence}" if "`" in line else f"`{line}`"


def _lines(blocks: Sequence[Block], whole: bool) -> Iterator[str]:
    """Yield the lines of blocks; bullets of blocks that follow each other make one list."""
    listed = False
    for block in blocks:
        lines = list(_block(block, whole))
        if not lines:
            continue
        if listed and not lines[0].startswith("- "):
            yield ""
        yield from lines
        listed = lines[-1].lstrip().startswith("- ")
    if listed:
        yield ""


def _block(block: Block, whole: bool) -> Iterator[str]:
    """Yield the lines of a block, and a blank one unless they are bullets."""
    match block:
        case Text(style="plain"):
            yield from (text(block.words), "")
        case Text():
            yield f"- {text(block.words)}"
        case Items():
            yield from (f"- {text(sentence)}" for sentence in block.sentences)
        case Table():
            yield from _table(block)
        case Chart():
            yield from _chart(block)
        case Facts():
            yield from (f"**{text(block.title)}**", "")
            for name, value in block.rows:
                yield f"- {'**Warning:** ' if name in block.warnings else ''}{text(name)}: {text(value)}"
        case Reason():
            yield f"- **{text(block.status)}**: {text(block.reason)}"
            yield from (f"  - {text(case)}" for case in block.cases)
        case Answer():
            yield f"- **{text(block.words)}** {text(block.setting)}. {' '.join(map(text, block.sentences))}"
        case Findings():
            for finding in block.findings:
                yield f"- **{text(finding.title)}**: {' '.join(map(text, finding.sentences))}"
        case Commands():
            yield from (f"- {code(line)}" for line in block.lines)
        case PageOnly():
            yield from _lines(block.blocks, whole) if whole else ()
        case Grid() | Beside():
            yield from _lines(block.blocks, whole)
        case Subsection():
            yield from _under([f"### {text(block.title)}"], block.blocks, whole)
        case Panel():
            heading = "; ".join(filter(None, (block.title, block.machine)))
            yield from _under([f"**{text(heading)}**"], block.blocks, whole)
        case Details():
            inside = list(_lines(block.blocks, whole))
            opened = " open" if block.opened else ""
            if inside:
                yield from (f"<details{opened}>", f"<summary>{text(block.title)}</summary>", "", *inside)
                yield from ("</details>", "")


def _under(heading: Sequence[str], blocks: Sequence[Block], whole: bool) -> Iterator[str]:
    """Yield blocks under a heading, and nothing if there are none."""
    lines = list(_lines(blocks, whole))
    if lines:
        yield from (*heading, "", *lines)


def _chart(chart: Chart) -> Iterator[str]:
    """Yield what a chart shows, under its heading unless the message repeats that, or what its choices show."""
    if chart.choices:
        shown = chart.choices if chart.every_choice else chart.choices[:1]
        yield from (f"- {text(choice.message)}" for choice in shown)
    else:
        heading = "" if chart.heading in chart.message else f"{text(chart.heading)}: "
        yield f"- {heading}{text(chart.message)}"


def _table(table: Table) -> Iterator[str]:
    if table.titled:
        yield from (f"**{text(table.caption)}**", "")
    yield f"| {' | '.join(text(column.title) for column in table.columns)} |"
    yield f"| {' | '.join('---:' if column.numeric else '---' for column in table.columns)} |"
    yield from (f"| {' | '.join(map(text, row))} |" for row in table.rows)
    yield ""


def _line(words: str) -> str:
    return " ".join(visible(words).split())
