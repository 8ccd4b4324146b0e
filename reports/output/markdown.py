"""The findings in Markdown, fit for a pull request; text from result files shows as it is and does nothing."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from reports.reading.visible import visible


def render(content: dict[str, Any], template: str = "report.md") -> str:
    """Return the report, or another `template`, as Markdown; of a report `content` is what `reports.page` gathers."""
    environment = Environment(  # noqa: S701 - the output is Markdown, which `text` escapes
        loader=FileSystemLoader(Path(__file__).parents[1] / "templates"),
        finalize=text,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["code"] = code
    return environment.get_template(template).render(content)


def text(value: object) -> str:
    """Return `value` as Markdown that shows exactly it: one line, no markup, no mention of a user."""
    if isinstance(value, Markup):
        return value
    line = _line(str(value)).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"([\\`*_\[\]|#~!$])", r"\\\1", line).replace("@", "@\u200b")


def code(value: str) -> Markup:
    """Return `value` as a Markdown code span."""
    line = _line(value)
    fence = "`" * (1 + max(map(len, re.findall("`+", line)), default=0))
    span = f"{fence} {line} {fence}" if "`" in line else f"`{line}`"
    return Markup(span)  # noqa: S704 - Markdown shows a code span as it stands


def _line(words: str) -> str:
    return " ".join(visible(words).split())
