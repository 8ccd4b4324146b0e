"""A report as one HTML page that needs nothing but itself.

Text from result files is data. Jinja escapes it, its `tojson` inside the page's JSON; beyond that, a content security
policy lets the browser run only the two scripts written here, and load nothing.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import vl_convert
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from reports.canvas import CONFIG
from reports.export import VEGA_LITE

TEMPLATES = Path(__file__).parent / "templates"


def render(content: dict[str, Any]) -> str:
    """Return the report as HTML; `content` is what `reports.page` gathers for both its templates."""
    scripts = [_vega(), (TEMPLATES / "page.js").read_text(encoding="utf-8")]
    hashes = [base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts]
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.policies["json.dumps_kwargs"] = {"sort_keys": True, "separators": (",", ":"), "ensure_ascii": False}
    environment.filters["embedded"] = _embedded
    style = (TEMPLATES / "page.css").read_text(encoding="utf-8")
    page = {"scripts": scripts, "hashes": hashes, "style": style, "chart_config": CONFIG}
    return environment.get_template("index.html").render(content, **page)


def _embedded(spec: Mapping[str, Any]) -> dict[str, Any]:
    """Return a specification without what the page holds once for all."""
    return {name: value for name, value in spec.items() if name not in ("$schema", "config")}


@cache
def _vega() -> str:
    """Return Vega, Vega-Lite and vega-embed as one script, fit to stand inside a script element."""
    bundle = vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;", vl_version=VEGA_LITE)
    return bundle.replace("</script", r"<\/script").replace("<!--", r"<\!--")
