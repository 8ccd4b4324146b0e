"""The charts of a report as pictures, SVG and PNG, each readable by itself: titled, with its legend, on white."""

from __future__ import annotations

import json
import re
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import altair
import vl_convert

from reports.output.blocks import Beside, Block, Chart, Details, Grid, PageOnly, Panel, Section, Subsection
from reports.output.canvas import CONFIG, INK
from reports.records.files import make_folder, write

FOLDER = "charts"
WIDTH = 560  # pixels
SCALE = 2.0  # of a PNG
INK_ON_WHITE, QUIET = "#1d1f22", "#5a5f66"
LINE = 90
"""Characters of a line of the sentence below a title."""
LEGEND_COLUMNS = 6
VEGA_LITE = ".".join(altair.SCHEMA_VERSION.removeprefix("v").split(".")[:2])


@dataclass(frozen=True)
class Picture:
    """A chart to be seen alone, with the setting and machine that a page names beside it."""

    chart: Chart
    setting: str


def export(pictures: Mapping[str, Picture], out: Path) -> Iterator[Path]:
    """Write each picture into `out / "charts"`, as SVG and as PNG, and yield the path of each SVG file.

    A chart of choices shows its first. Pictures of an earlier report in that folder are removed first.
    """
    folder = make_folder(out / FOLDER)
    for pattern in ("*.svg", "*.png", "*.tmp"):
        for old in folder.glob(pattern):
            old.unlink()
    for name, picture in pictures.items():
        path = folder / f"{name}.svg"
        svg = vl_convert.vegalite_to_svg(json.dumps(specification(picture)), vl_version=VEGA_LITE)
        write(path, svg)
        write(path.with_suffix(".png"), vl_convert.svg_to_png(svg, scale=SCALE))
        yield path


def pictures(sections: Sequence[Section]) -> dict[str, Picture]:
    """Return every chart of a report by a name made of its section, its place there and its heading."""
    return {
        f"{section.id}-{place}-{_slug(picture.chart.heading)}".rstrip("-"): picture
        for section in sections
        for place, picture in enumerate(_within(section.blocks), 1)
    }


def specification(picture: Picture) -> dict[str, Any]:
    """Return the Vega-Lite specification of a picture."""
    chart = picture.chart
    ink = json.dumps({**chart.spec, "config": CONFIG}).replace(f'"{INK}"', f'"{INK_ON_WHITE}"')
    spec: dict[str, Any] = json.loads(ink)
    parts = [chart.subject, chart.heading, *(choice.label for choice in chart.choices[:1])]
    heading = ": ".join(filter(None, parts))
    words = [line for text in (picture.setting, chart.message) for line in textwrap.wrap(text, LINE)]
    title = {
        "text": f"{heading[:1].upper()}{heading[1:]}",
        "subtitle": words,
        "anchor": "start",
        "offset": 12,
        "color": INK_ON_WHITE,
        "fontSize": 13,
        "subtitleColor": QUIET,
        "subtitleFontSize": 11,
    }
    spec |= {"width": WIDTH, "background": "white", "padding": 12, "title": title}
    _add_legends(spec)
    return spec


def _within(blocks: Sequence[Block], setting: str = "") -> Iterator[Picture]:
    """Yield the charts within blocks in their order, with the setting of the panel around them."""
    for block in blocks:
        match block:
            case Chart():
                yield Picture(block, setting)
            case Panel():
                yield from _within(block.blocks, "; ".join(filter(None, (block.title, block.machine))))
            case Grid() | Beside() | Subsection() | Details() | PageOnly():
                yield from _within(block.blocks, setting)


def _slug(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", text.lower())[:40].strip("-")


def _add_legends(spec: dict[str, Any]) -> None:
    """Give every mark of compared names a legend; on a page one legend serves all charts."""
    if spec.get("mark", {}).get("type") != "text":
        for channel in ("color", "fill", "shape", "strokeDash"):
            encoding = spec.get("encoding", {}).get(channel, {})
            if "field" in encoding and encoding.get("legend", "") is None:
                encoding["legend"] = {"title": None, "orient": "top", "columns": LEGEND_COLUMNS}
    for layer in spec.get("layer", []):
        _add_legends(layer)
