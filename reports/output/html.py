"""A report as one HTML page that needs nothing but itself.

Text from result files is data. Jinja escapes it, its `tojson` inside the page's JSON; beyond that, a content security
policy lets the browser run only the two scripts written here, and load nothing.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import vl_convert
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from reports.output.blocks import Block, Chart, Page, Section
from reports.output.canvas import CONFIG
from reports.output.export import VEGA_LITE
from reports.reading.visible import visible

TEMPLATES = Path(__file__).parents[1] / "templates"


def render(page: Page) -> str:
    """Return the report as HTML."""
    scripts = [_vega(), (TEMPLATES / "page.js").read_text(encoding="utf-8")]
    frame = {
        "scripts": scripts,
        "hashes": [base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts],
        "style": (TEMPLATES / "page.css").read_text(encoding="utf-8"),
        "chart_config": CONFIG,
    }
    return _environment().get_template("index.html").render(frame, page=page)


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        finalize=_seen,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.policies["json.dumps_kwargs"] = {"sort_keys": True, "separators": (",", ":"), "ensure_ascii": False}
    environment.filters |= {"embedded": _embedded, "packed": _packed, "sentence": _sentence, "shown": _shown}
    return environment


def _shown(blocks: Sequence[Block | Section], level: int) -> Markup:
    """Return blocks as HTML, each by the macro named after its class; `level` is that of their headings."""
    macros = _environment().get_template("blocks.html").module
    return Markup("").join(getattr(macros, type(block).__name__)(block, level) for block in blocks)


def _sentence(words: str) -> str:
    """Return words that begin a sentence."""
    return words[:1].upper() + words[1:]


def _seen(value: object) -> object:
    """Return a value as the page shows it: text that is not markup as visible text."""
    return visible(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def _embedded(chart: Chart) -> dict[str, Any]:
    """Return a chart's specification without what all charts of the page share, and with its data packed.

    If there are choices, these hold the data.
    """
    kept = {name: value for name, value in chart.spec.items() if name not in ("$schema", "config", "datasets")}
    return kept if chart.choices else kept | {"datasets": _packed(chart.spec.get("datasets", {}))}


def _packed(datasets: Mapping[str, Any]) -> dict[str, Any]:
    """Return named data with each field's name once, which halves the page; lists of bare numbers stay."""
    return {name: _columns(rows) if rows and isinstance(rows[0], Mapping) else rows for name, rows in datasets.items()}


def _columns(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return rows as one list of values for each field, None if a row lacks it."""
    names = dict.fromkeys(name for row in rows for name in row)
    return {name: [row.get(name) for row in rows] for name in names}


@cache
def _vega() -> str:
    """Return Vega, Vega-Lite and vega-embed as one script, fit for a script element."""
    bundle = vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;", vl_version=VEGA_LITE)
    return bundle.replace("</script", r"<\/script").replace("<!--", r"<\!--")
