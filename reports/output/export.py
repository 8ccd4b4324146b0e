"""The charts of a report as pictures, SVG and PNG, each readable by itself: titled, with its legend, on white."""

from __future__ import annotations

import json
import re
import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass, replace
from pathlib import Path
from typing import Any

import altair
import vl_convert

from reports.output.blocks import Chart
from reports.output.canvas import CONFIG, INK
from reports.reading.files import write, write_bytes

FOLDER = "charts"
SUBJECTS = {
    "speedups": "Speed-up",
    "latencies": "Latency",
    "throughputs": "Throughput",
    "accuracies": "Accuracy against latency",
    "routings": "Assignments by expert",
    "skews": "Latency against skew",
    "break_even": "Break-even",
    "profile": "Profile",
}
"""What the charts of a section are about, where their headings do not say it; by the section's name in the content."""
WIDTH = 560  # pixels
SCALE = 2.0  # of a PNG
INK_ON_WHITE, QUIET = "#1d1f22", "#5a5f66"
LINE = 90
"""Characters of a line of the sentence below a title."""
LEGEND_COLUMNS = 6
SETTING = {"title", "machine"}
"""Fields of every kind of panel, which together are the setting of its charts."""
VEGA_LITE = ".".join(altair.SCHEMA_VERSION.removeprefix("v").split(".")[:2])


@dataclass(frozen=True)
class Picture:
    """A chart to be seen alone, with what a page tells beside it: its section's subject, the setting and machine."""

    chart: Chart
    setting: str
    subject: str = ""


def export(found: Mapping[str, Picture], out: Path) -> Iterator[Path]:
    """Write each picture into `out / "charts"`, as SVG and as PNG, and yield the path of its SVG file once it is there.

    A chart of choices shows its first. Pictures of an earlier report in that folder are removed before.
    """
    folder = out / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    for old in (*folder.glob("*.svg"), *folder.glob("*.png")):
        old.unlink()
    for name, picture in found.items():
        yield _export(picture, folder / f"{name}.svg")


def pictures(content: Mapping[str, Any]) -> dict[str, Picture]:
    """Return every chart of a report's `content` by a name that its section and its place give it."""
    return {
        f"{section.replace('_', '-')}-{place}-{_slug(picture.chart.heading)}".rstrip("-"): replace(
            picture, subject=SUBJECTS.get(section, "")
        )
        for section, value in content.items()
        for place, picture in enumerate(_within(value), 1)
    }


def specification(picture: Picture) -> dict[str, Any]:
    """Return the Vega-Lite specification of a picture."""
    chart = picture.chart
    ink = json.dumps({**chart.spec, "config": CONFIG}).replace(f'"{INK}"', f'"{INK_ON_WHITE}"')
    spec: dict[str, Any] = json.loads(ink)
    parts = [picture.subject, chart.heading, *(choice.label for choice in chart.choices[:1])]
    heading = ": ".join(filter(None, parts))
    told = [line for text in (picture.setting, chart.message) for line in textwrap.wrap(text, LINE)]
    title = {"text": f"{heading[:1].upper()}{heading[1:]}", "subtitle": told, "anchor": "start", "offset": 12}
    look = {"color": INK_ON_WHITE, "fontSize": 13, "subtitleColor": QUIET, "subtitleFontSize": 11}
    spec |= {"width": WIDTH, "background": "white", "padding": 12, "title": title | look}
    _add_legends(spec)
    return spec


def _within(value: Any, setting: str = "") -> Iterator[Picture]:
    """Return the charts within a value, in the order in which they stand there, with the `setting` around them."""
    if isinstance(value, Chart):
        yield Picture(value, setting)
    elif isinstance(value, Mapping):
        yield from _within(list(value.values()), setting)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _within(item, setting)
    elif is_dataclass(value):
        parts = {field.name: getattr(value, field.name) for field in fields(value)}
        own = "; ".join(filter(None, (parts["title"], parts["machine"]))) if parts.keys() >= SETTING else setting
        yield from _within(list(parts.values()), own)


def _slug(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", text.lower())[:40].strip("-")


def _export(picture: Picture, path: Path) -> Path:
    svg = vl_convert.vegalite_to_svg(json.dumps(specification(picture)), vl_version=VEGA_LITE)
    write(path, svg)
    write_bytes(path.with_suffix(".png"), vl_convert.svg_to_png(svg, scale=SCALE))
    return path


def _add_legends(spec: Any) -> None:
    """Give every mark of compared names, which in a page one legend explains for all, a legend of its own."""
    if isinstance(spec, list):
        for item in spec:
            _add_legends(item)
    elif isinstance(spec, dict) and _mark(spec) != "text":
        for channel in ("color", "fill", "shape", "strokeDash"):
            encoding = spec.get("encoding", {}).get(channel)
            if isinstance(encoding, dict) and "field" in encoding and encoding.get("legend", "") is None:
                encoding["legend"] = {"title": None, "orient": "top", "columns": LEGEND_COLUMNS}
        _add_legends(spec.get("layer", []))


def _mark(spec: dict[str, Any]) -> Any:
    mark = spec.get("mark")
    return mark.get("type") if isinstance(mark, dict) else mark
