"""The charts of trainings: a thin line for each seed, and a thick one for their mean.

Letters: C classes, E experts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import altair as alt
import numpy as np

from reports.output import canvas
from reports.output.styles import Style
from reports.records.training_study import TrainingRun

MOST_EPOCHS = 200  # drawn; longer trainings are thinned to every second, third ... epoch
MOST_WORDS = 16  # if there are more classes or experts, cells of the heat map hold no number
PARTS = ("train", "validation")
DASHES = ([5, 3], [1, 0])
Points = list[dict[str, Any]]


def curve(runs: Sequence[TrainingRun], field: str) -> Points:
    """Return `field` of every epoch and run that has it, as points with `epoch`, `value` and `seed`."""
    return [
        {"epoch": row.epoch, "value": getattr(row, field), "seed": run.seed}
        for run in runs
        for row in run.history
        if getattr(row, field) is not None
    ]


def mean_curve(points: Points) -> Points:
    """Return the mean over seeds of every epoch, with the number `n` of seeds that reached it."""
    epochs: dict[int, list[float]] = {}
    for point in points:
        epochs.setdefault(point["epoch"], []).append(point["value"])
    return [
        {"epoch": epoch, "value": float(np.mean(values)), "n": len(values)} for epoch, values in sorted(epochs.items())
    ]


def learning_chart(
    runs: Sequence[TrainingRun], quantity: str, style: Style, domain: tuple[float, float], epochs: int
) -> alt.LayerChart:
    """Draw `quantity` ("accuracy" or "loss") of one head on training and validation images against the epoch.

    `domain` bounds the vertical axis, so that the charts of several heads can share it.
    """
    format_, title = (".0%", "accuracy") if quantity == "accuracy" else (",~f", "loss, nats")
    y = alt.Y("value:Q", scale=alt.Scale(domain=list(domain), zero=False), axis=alt.Axis(format=format_, title=title))
    dash = alt.StrokeDash("part:N", scale=alt.Scale(domain=list(PARTS), range=list(DASHES)), legend=None)
    curves = {part: curve(runs, f"{prefix}_{quantity}") for part, prefix in zip(PARTS, ("train", "val"), strict=True)}
    return _chart("part", curves, alt.value(style.colour), dash, y, epochs, alone=len(runs) < 2)


def routing_chart(
    runs: Mapping[str, Sequence[TrainingRun]], field: str, title: str, styles: Sequence[Style], epochs: int
) -> alt.LayerChart:
    """Draw one routing statistic, `field`, of every mixture against the epoch."""
    y = alt.Y("value:Q", scale=alt.Scale(zero=True), axis=alt.Axis(title=title, tickCount=5))
    colour, dash = canvas.colour(styles, "head"), canvas.dash(styles, "head")
    curves = {name: curve(group, field) for name, group in runs.items()}
    return _chart("head", curves, colour, dash, y, epochs, alone=all(len(group) < 2 for group in runs.values()))


def class_chart(shares: Sequence[Sequence[float]]) -> alt.LayerChart:
    """Draw what share of each class's assignments each expert serves, `shares` (C, E), as a heat map."""
    cells: Points = [
        {"class": label, "expert": expert, "share": share, "percent": f"{100 * share:.0f}"}
        for label, row in enumerate(shares)
        for expert, share in enumerate(row)
    ]
    most = max(map(max, shares))
    base = alt.Chart(canvas.rounded(cells)).encode(
        x=alt.X("expert:O", axis=alt.Axis(title="expert", labelAngle=0, labelOverlap="greedy", ticks=False)),
        y=alt.Y("class:O", axis=alt.Axis(title="class", labelOverlap="greedy", ticks=False)),
    )
    scale = alt.Scale(scheme="viridis", domain=[0, most])
    tooltip: list[Any] = ["class:O", "expert:O", alt.Tooltip("share:Q", format=".1%")]
    legend = alt.Legend(title="share of the class's assignments", format=".0%")
    layers = [
        base.mark_rect().encode(
            color=alt.Color("share:Q", scale=scale, legend=legend), tooltip=canvas.tooltips(tooltip)
        )
    ]
    if max(len(shares), len(shares[0])) <= MOST_WORDS:
        ink = alt.condition(f"datum.share > {0.6 * most:.5g}", alt.value("black"), alt.value("white"))
        layers.append(base.mark_text(fontSize=10).encode(text=alt.Text("percent:N"), color=ink))
    return canvas.finished(*layers, height=max(canvas.HEIGHT, min(16 * len(shares), 3 * canvas.HEIGHT)))


def _chart(
    key: str, curves: Mapping[str, Points], colour: Any, dash: alt.StrokeDash, y: alt.Y, epochs: int, *, alone: bool
) -> alt.LayerChart:
    """Draw the seeds' thin lines and the mean's thick one of each curve; if seeds are `alone`, their means are enough.

    `key` is the field that names the curve.
    """
    seeds = [
        {**point, key: name, "line": f"{name} {point['seed']}"} for name, points in curves.items() for point in points
    ]
    means = [{**point, key: name} for name, points in curves.items() for point in mean_curve(points)]
    axis = alt.Axis(title="epoch", grid=False, tickMinStep=1, format="d")
    x = alt.X("epoch:Q", scale=alt.Scale(domain=[1 if epochs > 1 else 0, max(epochs, 1)], nice=False), axis=axis)
    thin, thick = (alt.Chart(canvas.rounded(_thinned(points))) for points in (seeds, means))
    layers = [
        thick.mark_line(strokeWidth=2.5).encode(x=x, y=y, color=colour, strokeDash=dash),
        thick.mark_point(size=40, opacity=0).encode(
            x=x, y=y, tooltip=canvas.tooltips(["epoch:Q", alt.Tooltip("value:Q", format=".4"), "n:Q", f"{key}:N"])
        ),
    ]
    if not alone:
        line = thin.mark_line(strokeWidth=0.8, opacity=0.6)
        layers.insert(0, line.encode(x=x, y=y, color=colour, strokeDash=dash, detail=alt.Detail("line:N")))
    return canvas.finished(*layers)


def _thinned(points: Points) -> Points:
    """Return at most about `MOST_EPOCHS` epochs of the points, the last among them."""
    last = max((point["epoch"] for point in points), default=0)
    step = -(-last // MOST_EPOCHS) or 1
    return [point for point in points if (last - point["epoch"]) % step == 0]
