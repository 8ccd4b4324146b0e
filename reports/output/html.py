"""A report as one HTML page that needs nothing but itself.

Text from result files is data. Jinja escapes it, its `tojson` inside the page's JSON; beyond that, a content security
policy lets the browser run only the two scripts written here, and load nothing.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import vl_convert
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from reports.output.blocks import Chart
from reports.output.canvas import CONFIG
from reports.output.export import VEGA_LITE
from reports.reading.visible import visible

TEMPLATES = Path(__file__).parents[1] / "templates"


@dataclass(frozen=True)
class Title:
    """What the report is called in a browser's tab, and at its head."""

    short: str
    long: str


@dataclass(frozen=True)
class Section:
    """A section of the page: its id, its title in the table of contents, and the content without which it is left out.

    Its template stands in `templates/sections`.
    """

    id: str
    title: str
    needs: str = ""

    @property
    def template(self) -> str:
        """Where its template is."""
        return f"sections/{self.id.replace('-', '_')}.html"


SECTIONS = (
    Section("verdict", "Verdict"),
    Section("environment", "Environment", "machines"),
    Section("changes", "Before and after", "changes"),
    Section("speedup", "Speed-up", "measured"),
    Section("account", "Account of the gap", "measured"),
    Section("profile", "Profile", "profile"),
    Section("break-even", "Break-even", "break_even"),
    Section("latency", "Latency and throughput", "measured"),
    Section("roofline", "Roofline", "roofline"),
    Section("accuracy", "Accuracy", "measured"),
    Section("routing", "Routing", "measured"),
    Section("training", "Training", "trainings"),
    Section("policies", "Routing policies", "policies"),
    Section("sharpness", "Sharpness", "sharpness"),
    Section("beside", "The paper beside us", "beside"),
    Section("targets", "Targets", "targets"),
    Section("efficiency", "Efficiency", "efficiency"),
    Section("classifier", "Whole classifier", "within_classifier"),
    Section("cold", "Cold caches", "cold"),
    Section("cold-start", "Cold start and memory", "measured"),
    Section("work", "Work executed", "work"),
    Section("cases", "All cases", "measured"),
    Section("not-measured", "Not measured", "measured"),
    Section("sampling", "Sampling", "sampling"),
    Section("noise", "Raw samples", "noise"),
    Section("self-test", "Self-test", "self_tests"),
    Section("remake", "Remake"),
)
"""All sections, in the order of the page."""


def render(content: dict[str, Any]) -> str:
    """Return the report as HTML; `content` is what `reports.page` gathers for both its templates."""
    scripts = [_vega(), (TEMPLATES / "page.js").read_text(encoding="utf-8")]
    hashes = [base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts]
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        finalize=_seen,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.policies["json.dumps_kwargs"] = {"sort_keys": True, "separators": (",", ":"), "ensure_ascii": False}
    environment.filters |= {"embedded": _embedded, "packed": _packed}
    style = (TEMPLATES / "page.css").read_text(encoding="utf-8")
    shown = [section for section in SECTIONS if not section.needs or content.get(section.needs)]
    page = {"sections": shown, "scripts": scripts, "hashes": hashes, "style": style, "chart_config": CONFIG}
    return environment.get_template("index.html").render(content, **page)


def _seen(value: object) -> object:
    """Return what stands in the page for the value of an expression: visible text for text from a file."""
    return visible(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def _embedded(chart: Chart) -> dict[str, Any]:
    """Return a chart's specification without what the page holds once for all, and its data packed.

    Where there are choices, these hold the data.
    """
    kept = {name: value for name, value in chart.spec.items() if name not in ("$schema", "config", "datasets")}
    return kept if chart.choices else kept | {"datasets": _packed(chart.spec.get("datasets", {}))}


def _packed(datasets: Mapping[str, Any]) -> dict[str, Any]:
    """Return named data with each name of a field once, which halves the page; lists of bare numbers stay."""
    return {name: _columns(rows) if rows and isinstance(rows[0], Mapping) else rows for name, rows in datasets.items()}


def _columns(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return rows as one list of values for each field, None where a row lacks it."""
    names = dict.fromkeys(name for row in rows for name in row)
    return {name: [row.get(name) for row in rows] for name in names}


@cache
def _vega() -> str:
    """Return Vega, Vega-Lite and vega-embed as one script, fit to stand inside a script element."""
    bundle = vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;", vl_version=VEGA_LITE)
    return bundle.replace("</script", r"<\/script").replace("<!--", r"<\!--")
