"""The charts of benchmark results, one function each, from measured values to an Altair chart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import ceil, floor, log10
from typing import Any

import altair as alt

from reports.numbers import units
from reports.numbers.stats import Estimate, Verdict
from reports.output import canvas
from reports.output.blocks import Datasets
from reports.output.canvas import INK
from reports.output.styles import COLOURS, GREY, Style
from reports.reading.load import MeasuredCase
from reports.records.record import CaseRecord
from reports.speed.analysis import Comparison, Speedup

THEORY, ATTAINABLE, DENSE, EVEN = [6, 4], [1, 3], [6, 4], [6, 4]
"""Dashes of the lines of theory, of floors, of the fastest dense form and of an even split."""
POINTS, REFERENCE = "points", "reference"
"""Names of the data of charts by rows."""


def speedup_chart(speedups: Sequence[Speedup], styles: Sequence[Style]) -> alt.LayerChart:
    """Draw the speed-up of one MoE head over the best dense form by rows, with the theoretical one above it.

    `speedups` belong to one head in one setting. The shaded gap lies between theory and the best form; the attainable
    speed-up crosses it if floors are known. Forms stand a little apart, so that no interval hides another.
    """
    sizes = [speedup.rows for speedup in speedups]
    apart = (max(sizes) / min(sizes) * 2) ** 0.008
    shown = {comparison.case.record.form for speedup in speedups for comparison in speedup.against_best}
    forms = [style.name for style in styles if style.name in shown]
    measured = [
        {**point, "x": point["rows"] * apart ** (forms.index(point["form"]) - (len(forms) - 1) / 2)}
        for speedup in speedups
        for point in map(_speedup_point, speedup.against_best)
    ]
    bests = [
        {"rows": speedup.rows, "theoretical": speedup.best.theoretical, "realised": speedup.best.realised.value}
        for speedup in speedups
    ]
    x, dodged = _rows_axis(sizes), _rows_axis(sizes, field="x")
    possible = _possible(speedups)
    ends = _ends(bests, possible, measured)
    y = _factor_axis(_bounds(ends, max(1.004, (max(ends) / min(ends)) ** 0.06)))
    gap = alt.Chart(canvas.rounded(bests)).mark_area(color=INK, opacity=0.07)
    theory = alt.Chart(canvas.rounded(bests)).mark_line(color=INK, strokeDash=THEORY, strokeWidth=1.5, point=_BAR)
    machine = alt.Chart(canvas.rounded(possible)).mark_line(color=INK, strokeDash=ATTAINABLE, strokeWidth=2, point=_BAR)
    base = alt.Chart(canvas.rounded(measured))
    tooltip = [*_TOOLTIP_CASE, "speed-up:N", "interval:N", "verdict:N"]
    return canvas.finished(
        alt.Chart(canvas.data([{"y": 1.0}])).mark_rule(color=INK, opacity=0.6).encode(y=alt.Y("y:Q")),  # equal speed
        gap.encode(x=x, y=alt.Y("theoretical:Q"), y2=alt.Y2("realised:Q")),
        theory.encode(x=x, y=alt.Y("theoretical:Q")),
        machine.encode(x=x, y=alt.Y("attainable:Q")),
        _named_line(bests, x, "theoretical", "theoretical", above=True),
        _named_line(possible, x, "attainable", "attainable", above=False),
        base.mark_rule(strokeWidth=1.5).encode(
            x=dodged, y=alt.Y("low:Q"), y2=alt.Y2("high:Q"), color=canvas.colour(styles, "form")
        ),
        *_lines(base, dodged, y, styles, tooltip),
    )


def answer_chart(speedups: Sequence[Speedup]) -> alt.LayerChart:
    """Draw what the fastest form of one head reached by rows, with its intervals, below theory and the attainable.

    Each point has the colour of its verdict: faster, slower, or neither clearly.
    """
    sizes = [speedup.rows for speedup in speedups]
    points = [{**_speedup_point(each.best), "theoretical": each.best.theoretical} for each in speedups]
    possible = _possible(speedups)
    ends = _ends(points, possible, points)
    x, y = _rows_axis(sizes), _factor_axis(_bounds(ends, max(1.004, (max(ends) / min(ends)) ** 0.08)))
    base, machine = alt.Chart(canvas.rounded(points)), alt.Chart(canvas.rounded(possible))
    colour = alt.Color("verdict:N", scale=alt.Scale(domain=[*Verdict], range=_VERDICTS), legend=None)
    tooltip = [*_TOOLTIP_CASE, "speed-up:N", "interval:N", "verdict:N"]
    return canvas.finished(
        base.mark_area(color=INK, opacity=0.07).encode(x=x, y=alt.Y("theoretical:Q"), y2=alt.Y2("speedup:Q")),
        alt.Chart(canvas.data([{"y": 1.0}])).mark_rule(color=INK, opacity=0.6).encode(y=alt.Y("y:Q")),  # equal speed
        base.mark_line(color=INK, strokeDash=THEORY, strokeWidth=1.5, point=_BAR).encode(x=x, y="theoretical:Q"),
        machine.mark_line(color=INK, strokeDash=ATTAINABLE, strokeWidth=2, point=_BAR).encode(x=x, y="attainable:Q"),
        _named_line(points, x, "theoretical", "theoretical", above=True),
        _named_line(possible, x, "attainable", "attainable", above=False),
        base.mark_line(color=INK, strokeWidth=2).encode(x=x, y=y),
        base.mark_rule(strokeWidth=2).encode(x=x, y=alt.Y("low:Q"), y2=alt.Y2("high:Q"), color=colour),
        base.mark_point(filled=True, size=90, opacity=1).encode(
            x=x, y=y, color=colour, tooltip=canvas.tooltips(tooltip)
        ),
        height=220,
    )


def latency_chart(styles: Sequence[Style], sizes: Sequence[int], seconds: tuple[float, float]) -> alt.LayerChart:
    """Draw the median times of a head's forms by rows, with bands for the intervals, from the data of `latencies_of`.

    Both axes are logarithmic. `sizes` are the numbers of rows and `seconds` bounds the vertical axis: the charts of all
    heads share them. The fastest dense case at each number of rows is drawn as a reference.
    """
    y = _duration(alt.Y, seconds)
    shown = [alt.Tooltip("median:N"), "interval:N", "samples:Q"]
    return _by_rows(styles, sizes, y, shown)


def throughput_chart(styles: Sequence[Style], sizes: Sequence[int], rates: tuple[float, float]) -> alt.LayerChart:
    """Draw rows a second from the data of `throughputs_of`, as `latency_chart` draws times."""
    y = _logarithmic(alt.Y, "value:Q", rates, title="rows a second", format="~s")
    shown = [alt.Tooltip(f"{field}:Q", format=",.3~s", title=title) for field, title in _RATES.items()]
    return _by_rows(styles, sizes, y, shown)


def latencies_of(
    cases: Sequence[MeasuredCase], latencies: Mapping[MeasuredCase, Estimate], dense: Sequence[MeasuredCase]
) -> Datasets:
    """Return the data of a `latency_chart`: median seconds of `cases`, and of the fastest `dense` form by rows."""
    points = [_latency_point(case, latencies[case]) for case in cases]
    reference = [{"rows": rows, "value": value} for rows, value in fastest(dense, latencies).items()]
    return {POINTS: canvas.seen(points), REFERENCE: canvas.seen(reference)}


def throughputs_of(
    cases: Sequence[MeasuredCase], latencies: Mapping[MeasuredCase, Estimate], dense: Sequence[MeasuredCase]
) -> Datasets:
    """Return the data of a `throughput_chart`: rows over median time, with the intervals inverted."""
    points = [_throughput_point(case, latencies[case]) for case in cases]
    reference = [{"rows": rows, "value": rows / value} for rows, value in fastest(dense, latencies).items()]
    return {POINTS: canvas.seen(points), REFERENCE: canvas.seen(reference)}


def skew_chart(
    cases: Sequence[MeasuredCase],
    latencies: Mapping[MeasuredCase, Estimate],
    routings: Mapping[str, str],
    styles: Sequence[Style],
    dense: float | None,
) -> alt.LayerChart:
    """Draw the median time of one head's forms by how its rows are spread over experts.

    `cases` belong to one head and number of rows. `routings` maps each routing to its label, in the order shown.
    `dense` is the median in seconds of the fastest dense form, drawn as a reference.
    """
    points = [{**_latency_point(case, latencies[case]), "spread": routings[case.record.routing]} for case in cases]
    times = [end for point in points for end in (point["low"], point["high"], point["value"]) if end is not None]
    y = _duration(alt.Y, _bounds([*times, *([dense] if dense else [])], 1.2))
    x = alt.X("spread:O", sort=list(routings.values()), axis=alt.Axis(title="rows go to experts", labelAngle=0))
    base = alt.Chart(canvas.rounded(points))
    reference = alt.Chart(canvas.data([{"value": dense}] if dense else []))
    bars = base.mark_rule(strokeWidth=1.5).encode(
        x=x, y=alt.Y("low:Q"), y2=alt.Y2("high:Q"), color=canvas.colour(styles, "form")
    )
    tooltip = [*_TOOLTIP_CASE, alt.Tooltip("spread:N", title="rows go to experts"), "median:N", "interval:N"]
    line = reference.mark_rule(color=INK, strokeDash=DENSE, strokeWidth=1.5).encode(y=y)
    return canvas.finished(line, bars, *_lines(base, x, y, styles, tooltip))


def accuracy_chart(
    cases: Sequence[MeasuredCase],
    latencies: Mapping[MeasuredCase, Estimate],
    names: Mapping[MeasuredCase, str],
    styles: Sequence[Style],
) -> alt.LayerChart:
    """Draw test accuracy against median time: one point for each case, with the head's name at its fastest.

    `cases` have one number of rows and a test accuracy each; `names` are their heads.
    """
    heads = [{"head": names[case], "accuracy": 100 * (case.record.test_accuracy or 0)} for case in cases]
    points = [_latency_point(case, latencies[case]) | head for case, head in zip(cases, heads, strict=True)]
    firsts: dict[str, dict[str, Any]] = {}
    for point in sorted(points, key=lambda point: point["value"]):
        firsts.setdefault(point["head"], point)
    low, high = min(point["accuracy"] for point in points), max(point["accuracy"] for point in points)
    margin = max(0.25 * (high - low), 0.2)
    scale = alt.Scale(domain=[low - margin, high + margin], nice=False, zero=False)
    y = alt.Y("accuracy:Q", scale=scale, axis=alt.Axis(format=".1f", title="test accuracy, %", tickCount=5))
    x = _duration(alt.X, _bounds([point["value"] for point in points]))
    base = alt.Chart(canvas.rounded(points))
    tooltip = ["head:N", *_TOOLTIP_CASE, "accuracy:Q", "median:N"]
    ranked = sorted(firsts.values(), key=lambda point: -point["accuracy"])
    names_by_side = [
        alt.Chart(canvas.data(ranked[side::2])).mark_text(color=INK, align="left", dx=6, dy=dy)
        for side, dy in enumerate((-9, 14))  # neighbours above and below their points, in turn
    ]
    return canvas.finished(
        base.mark_point(filled=True, size=90, opacity=1).encode(
            x=x,
            y=y,
            color=canvas.colour(styles, "form"),
            shape=canvas.symbol(styles, "form"),
            tooltip=canvas.tooltips(tooltip),
        ),
        *(side.encode(x=x, y=y, text=alt.Text("head:N")) for side in names_by_side),
    )


def routing_chart(record: CaseRecord) -> alt.LayerChart:
    """Draw the share of all assignments that each expert serves, and the line of an even split.

    `record` has `rows_per_expert` (E,).
    """
    total = sum(record.rows_per_expert)
    shares = [
        {"expert": expert, "rows": rows, "share": rows / total} for expert, rows in enumerate(record.rows_per_expert)
    ]
    labels = alt.Axis(title="expert", labelAngle=0, labelOverlap="greedy", ticks=False)
    x = alt.X("expert:O", axis=labels, scale=alt.Scale(paddingInner=0.25))
    y = alt.Y("share:Q", axis=alt.Axis(format="~%", title="share of assignments", tickCount=5))
    bars = alt.Chart(canvas.data(shares)).mark_bar(color=COLOURS[0])
    even = alt.Chart(canvas.data([{"share": 1 / len(shares)}]))
    return canvas.finished(
        bars.encode(x=x, y=y, tooltip=canvas.tooltips(["expert:O", alt.Tooltip("share:Q", format=".1%"), "rows:Q"])),
        even.mark_rule(color=INK, strokeDash=EVEN, strokeWidth=1.5).encode(y=alt.Y("share:Q")),
    )


def fastest(cases: Sequence[MeasuredCase], latencies: Mapping[MeasuredCase, Estimate]) -> dict[int, float]:
    """Return the least median in seconds for each number of rows, fewest rows first."""
    least: dict[int, float] = {}
    for case in sorted(cases, key=lambda case: case.record.rows):
        rows, value = case.record.rows, latencies[case].value
        least[rows] = min(value, least.get(rows, value))
    return least


_BAR = alt.OverlayMarkDef(shape="stroke", color=INK, size=120, strokeWidth=1.5, filled=False)  # for a line of one point
_VERDICTS = [COLOURS[2], COLOURS[4], GREY, GREY]  # in the order of `Verdict`
_RATES = {"value": "rows a second", "low": "at least", "high": "at most"}
_TOOLTIP_CASE = ["form:N", alt.Tooltip("rows:Q", format=",")]


def _possible(speedups: Sequence[Speedup]) -> list[dict[str, Any]]:
    """Return the attainable speed-up at each number of rows where it is known."""
    known = ((speedup.rows, speedup.best.attainable) for speedup in speedups)
    return [{"rows": rows, "attainable": attainable} for rows, attainable in known if attainable is not None]


def _ends(
    bests: Sequence[Mapping[str, Any]], possible: Sequence[Mapping[str, Any]], measured: Sequence[Mapping[str, Any]]
) -> list[float]:
    """Return all that the axis of a speed-up must hold: equal speed, both bounds, and what was measured."""
    ends = [1.0, *(point["theoretical"] for point in bests), *(point["attainable"] for point in possible)]
    return ends + [point[end] for point in measured for end in ("speedup", "low", "high") if point[end] is not None]


def _speedup_point(comparison: Comparison) -> dict[str, Any]:
    return {
        "form": comparison.case.record.form,
        "rows": comparison.case.record.rows,
        "speedup": comparison.realised.value,
        "low": comparison.realised.low,
        "high": comparison.realised.high,
        "speed-up": units.factor(comparison.realised.value),
        "interval": units.factor_interval(comparison.realised),
        "verdict": comparison.verdict,
    }


def _latency_point(case: MeasuredCase, median: Estimate) -> dict[str, Any]:
    return {
        "form": case.record.form,
        "rows": case.record.rows,
        "value": median.value,
        "low": median.low,
        "high": median.high,
        "median": units.seconds(median.value),
        "interval": units.seconds_interval(median),
        "samples": median.samples,
    }


def _throughput_point(case: MeasuredCase, median: Estimate) -> dict[str, Any]:
    rows = case.record.rows
    low, high = (None if end is None else rows / end for end in (median.high, median.low))
    return {"form": case.record.form, "rows": rows, "value": rows / median.value, "low": low, "high": high}


def _by_rows(styles: Sequence[Style], sizes: Sequence[int], y: alt.Y, shown: Sequence[Any]) -> alt.LayerChart:
    """Draw the forms by rows, with bands for their intervals and the reference; `shown` goes into the tooltips."""
    x = _rows_axis(sizes)
    base, reference = canvas.named(POINTS), canvas.named(REFERENCE)
    band = base.mark_area(opacity=0.2).encode(
        x=x, y=alt.Y("low:Q"), y2=alt.Y2("high:Q"), color=canvas.colour(styles, "form")
    )
    line = reference.mark_line(color=INK, strokeDash=DENSE, strokeWidth=1.5).encode(x=x, y=y)
    return canvas.finished(line, band, *_lines(base, x, y, styles, [*_TOOLTIP_CASE, *shown]))


def _lines(
    base: alt.Chart, x: alt.X, y: alt.Y, styles: Sequence[Style], tooltip: Sequence[Any]
) -> tuple[alt.Chart, alt.Chart]:
    """Return the line of each form and the points on it."""
    return (
        base.mark_line(strokeWidth=2).encode(
            x=x, y=y, color=canvas.colour(styles, "form"), strokeDash=canvas.dash(styles, "form")
        ),
        base.mark_point(filled=True, size=55, opacity=1).encode(
            x=x,
            y=y,
            color=canvas.colour(styles, "form"),
            shape=canvas.symbol(styles, "form"),
            tooltip=canvas.tooltips(tooltip),
        ),
    )


def _named_line(points: Sequence[Mapping[str, Any]], x: alt.X, field: str, words: str, above: bool) -> alt.Chart:
    """Draw the name of a line where the line begins."""
    base = alt.Chart(canvas.rounded(points[:1]))
    name: alt.Chart = base.mark_text(color=INK, align="left", dx=5, dy=-7 if above else 9, fontSize=10).encode(
        x=x, y=f"{field}:Q", text=alt.value(words)
    )
    return name


def _factor_axis(bounds: tuple[float, float]) -> alt.Y:
    powers = [2.0**power for power in range(-20, 20)]
    title = "times faster than the best dense form"
    label = f"datum.label + '{units.TIMES}'"
    axis = alt.Axis(title=title, values=_ticks(powers, bounds), format="~g", labelExpr=label)
    return alt.Y("speedup:Q", scale=alt.Scale(type="log", base=2, domain=list(bounds), nice=False), axis=axis)


def _rows_axis(rows: Sequence[int], field: str = "rows") -> alt.X:
    ticks = sorted(set(rows))
    axis = alt.Axis(title="rows in a batch", values=ticks, format=",d", labelOverlap="greedy", grid=False)
    return alt.X(
        f"{field}:Q",
        scale=alt.Scale(type="log", base=2, domain=_bounds(ticks, 1.2 * (ticks[-1] / ticks[0]) ** 0.03), nice=False),
        axis=axis,
    )


def _duration(channel: type[Any], domain: tuple[float, float]) -> Any:
    axis = {"title": "median time of a call", "labelExpr": canvas.DURATION}
    return _logarithmic(channel, "value:Q", domain, **axis)


def _logarithmic(channel: type[Any], field: str, domain: tuple[float, float], **axis: Any) -> Any:
    """Return an axis with ticks at powers of ten, and at 2 and 5 times these if it spans few of them."""
    powers = [10.0**power for power in range(-9, 13)]
    steps = [step * power for power in powers for step in (1, 2, 5)]
    values = _ticks(powers if domain[1] / domain[0] > 3e3 else steps, domain)
    scale = alt.Scale(type="log", domain=list(domain), nice=False)
    return channel(field, scale=scale, axis=alt.Axis(labelOverlap="greedy", values=values, **axis))


def _ticks(candidates: Sequence[float], bounds: tuple[float, float]) -> list[float]:
    """Return the candidates within `bounds`, or evenly spaced round numbers if there are fewer than three."""
    low, high = bounds
    within = [value for value in candidates if low <= value <= high]
    if len(within) >= 3:
        return within
    rough = (high - low) / 5
    power = 10.0 ** floor(log10(rough))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough)
    return [round(place * step, 12) for place in range(ceil(low / step), floor(high / step) + 1)]


def _bounds(values: Sequence[float], margin: float = 1.4) -> tuple[float, float]:
    return min(values) / margin, max(values) * margin
