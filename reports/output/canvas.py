"""What all charts share: the page's ink, one height, the styles of what is compared, and data inside the chart.

Axes and text are drawn in `currentColor`, so that a chart takes the ink of its page, light or dark. Charts carry no
legend: a page shows one for all of them, from the same styles.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import altair as alt

from reports.output.styles import Style

HEIGHT = 260
INK = "currentColor"
DIGITS = 5  # of a rounded value; a table has those that matter
DURATION = (  # the label of an axis of seconds
    "datum.value >= 1 ? format(datum.value, '~g') + ' s'"
    " : datum.value >= 0.001 ? format(datum.value * 1000, '~g') + ' ms'"
    " : format(datum.value * 1000000, '~g') + ' µs'"
)

CONFIG: dict[str, Any] = {  # the same for all charts, so that a page holds it once
    "font": "system-ui, sans-serif",
    "view": {"stroke": None},
    "axis": {
        **{f"{part}Color": INK for part in ("label", "title", "domain", "tick", "grid")},
        "gridOpacity": 0.12,
        "domainOpacity": 0.5,
        "tickOpacity": 0.5,
        "labelFontSize": 11,
        "titleFontSize": 11,
        "titleFontWeight": "normal",
        "titlePadding": 8,
    },
    "legend": {
        "labelColor": INK,
        "titleColor": INK,
        "labelFontSize": 11,
        "titleFontSize": 11,
        "titleFontWeight": "normal",
        "orient": "top",
        "gradientLength": 140,
    },
}


def colour(styles: Sequence[Style], field: str) -> alt.Color:
    """Return the colours of the names in `field`."""
    return alt.Color(f"{field}:N", scale=_scale(styles, [style.colour for style in styles]), legend=None)


def symbol(styles: Sequence[Style], field: str) -> alt.Shape:
    """Return the marks of the names in `field`."""
    return alt.Shape(f"{field}:N", scale=_scale(styles, [style.symbol for style in styles]), legend=None)


def dash(styles: Sequence[Style], field: str) -> alt.StrokeDash:
    """Return the dashes of the names in `field`."""
    dashes = [list(style.dash or (1, 0)) for style in styles]
    return alt.StrokeDash(f"{field}:N", scale=_scale(styles, dashes), legend=None)


def tooltips(fields: Iterable[Any]) -> list[alt.Tooltip]:
    """Return what a tooltip shows: fields such as "form:N", or with a format of their own.

    Channels are built here and elsewhere as their classes: Altair takes milliseconds to find the class of a string.
    """
    return [alt.Tooltip(field) if isinstance(field, str) else field for field in fields]


def data(rows: Sequence[Mapping[str, Any]]) -> alt.InlineData:
    """Return `rows` as the data of a chart."""
    return alt.InlineData(values=[dict(row) for row in rows])


def rounded(rows: Sequence[Mapping[str, Any]]) -> alt.InlineData:
    """Return `rows` as the data of a chart, numbers rounded to what can be seen."""
    return data(seen(rows))


def seen(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return `rows` with numbers rounded to what can be seen."""
    return [{name: _seen(value) for name, value in row.items()} for row in rows]


def named(name: str) -> alt.Chart:
    """Return a chart of the data that each choice brings under this name."""
    chart: alt.Chart = alt.Chart(alt.NamedData(name))
    return chart


def finished(*layers: Any, height: int = HEIGHT) -> alt.LayerChart:
    """Return the layers as one chart in the page's ink, as wide as its container."""
    return alt.LayerChart(layer=list(layers), width="container", height=height, background="transparent", config=CONFIG)


def spec(chart: alt.LayerChart) -> dict[str, Any]:
    """Return the specification of a chart. Validation takes long and does not depend on data, so tests do it."""
    specification: dict[str, Any] = chart.to_dict(validate=False)
    return specification


def _scale(styles: Sequence[Style], values: Sequence[Any]) -> alt.Scale:
    return alt.Scale(domain=[style.name for style in styles], range=list(values))


def _seen(value: Any) -> Any:
    return float(f"{value:.{DIGITS}g}") if isinstance(value, float) else value
