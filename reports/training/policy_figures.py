"""The charts of routing policies: what accuracy each buys, one dot per seed."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean, stdev
from typing import Any

import altair as alt

from reports.output import canvas
from reports.output.styles import Style


def accuracy_chart(points: Sequence[dict[str, Any]], title: str, styles: Sequence[Style]) -> alt.LayerChart:
    """Draw test accuracy against a cost: each of `points` has `policy`, `seed`, `cost` and `accuracy` (a share).

    Costs are above zero, on a logarithmic axis. A seed is a small mark, the mean of a policy a large one, between bars
    one standard deviation long on each side.
    """
    dots = [{**point, "accuracy": 100 * point["accuracy"]} for point in points]
    means = [_mean(style.name, [point for point in dots if point["policy"] == style.name]) for style in styles]
    ends = [value for point in means for value in (point["low"], point["high"])] + [p["accuracy"] for p in dots]
    margin = max(0.12 * (max(ends) - min(ends)), 0.1)
    y = alt.Y(
        "accuracy:Q",
        scale=alt.Scale(domain=[min(ends) - margin, max(ends) + margin], zero=False, nice=False),
        axis=alt.Axis(format=".1f", title="test accuracy, %", tickCount=5),
    )
    costs = [point["cost"] for point in dots]
    room = max((max(costs) / min(costs)) ** 0.08, 1.03)
    x = alt.X(
        "cost:Q",
        scale=alt.Scale(type="log", domain=[min(costs) / room, max(costs) * room], nice=False),
        axis=alt.Axis(title=title, tickCount=6, format="~s", grid=False, labelOverlap="greedy"),
    )
    colour, mark = canvas.colour(styles, "policy"), canvas.symbol(styles, "policy")
    tooltip = ["policy:N", "seed:N", alt.Tooltip("accuracy:Q", format=".2f"), alt.Tooltip("cost:Q", format=".4~s")]
    marks, centres = alt.Chart(canvas.rounded(dots)), alt.Chart(canvas.rounded(means))
    return canvas.finished(
        marks.mark_point(size=30, opacity=0.7, filled=False).encode(
            x=x, y=y, color=colour, shape=mark, tooltip=canvas.tooltips(tooltip)
        ),
        centres.mark_rule(strokeWidth=1.5).encode(x=x, y=alt.Y("low:Q"), y2=alt.Y2("high:Q"), color=colour),
        centres.mark_point(size=110, filled=True, opacity=1).encode(
            x=x, y=y, color=colour, shape=mark, tooltip=canvas.tooltips(["policy:N", *tooltip[2:], "seeds:Q"])
        ),
    )


def _mean(policy: str, points: Sequence[dict[str, Any]]) -> dict[str, Any]:
    accuracies = [point["accuracy"] for point in points]
    mean, sd = fmean(accuracies), stdev(accuracies) if len(accuracies) > 1 else 0.0
    cost = fmean(point["cost"] for point in points)
    return {
        "policy": policy, "cost": cost, "accuracy": mean, "low": mean - sd, "high": mean + sd, "seeds": len(points),
    }  # fmt: skip
