"""One picture of a sharpness file, so that `moegap sharpness` alone shows what it found."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import vl_convert

from reports.output.styles import Style, contenders
from reports.records.sharpness import Sharpness, SharpnessPart
from reports.training import sharpness_figures as figures

WIDTH = 330
INK = "#222"
_OUTER = ("$schema", "config", "background", "datasets")  # of a whole picture, not of one chart in it


def plot(file: Sharpness) -> str | None:
    """Return the spectral density, the lines and the plane of each subset as an SVG; None where there are none."""
    (style,) = contenders([file.policy or file.head])
    specs = [(part, list(_specs(part, style))) for part in file.parts]
    rows = [_row(part, charts) for part, charts in specs if charts]
    if not rows:
        return None
    whole = {
        "config": specs[0][1][0]["config"],
        "datasets": {name: data for _, charts in specs for spec in charts for name, data in spec["datasets"].items()},
        "background": "white",
        "title": f"Sharpness of {file.checkpoint} on {file.data}",
        "vconcat": rows,
    }
    svg: str = vl_convert.vegalite_to_svg(whole)
    return svg.replace("currentColor", INK)


def _row(part: SharpnessPart, charts: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """Return the charts of one subset side by side."""
    inner = [{name: value for name, value in spec.items() if name not in _OUTER} for spec in charts]
    return {
        "title": f"{part.images} {part.subset} images, loss {part.loss:.4g}",
        "hconcat": [spec | {"width": WIDTH} for spec in inner],
        "resolve": {"scale": {"color": "independent"}},
    }


def _specs(part: SharpnessPart, style: Style) -> Iterator[dict[str, Any]]:
    if part.density and any(height > 0 for height in part.density.density):
        yield figures.density_chart(part.density, style).to_dict()
    for extent in dict.fromkeys(line.range for line in part.lines):
        chart = figures.line_chart([line for line in part.lines if line.range == extent], style).to_dict()
        yield chart | {"title": f"loss along directions, {extent} range"}
    if part.surface:
        yield figures.surface_chart(part.surface).to_dict()
