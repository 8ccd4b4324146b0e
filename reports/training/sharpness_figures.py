"""The charts of curvature: the Hessian's spectrum, the loss along lines, and over a plane.

Losses are drawn as their rise over the loss at the checkpoint, so that a small rise can be seen. Letters: A, B steps
of a plane.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import altair as alt
import numpy as np

from reports.output import canvas
from reports.output.canvas import INK
from reports.output.styles import Style
from reports.records.sharpness import Density, LossLine, Surface

MOST_POINTS = 200  # drawn of a spectrum
DECADES = 7  # of a density below its peak
LINE_DASHES = ([1, 0], [6, 3], [2, 2], [8, 3, 2, 3])
HALF_STEP = 0.5


def density_chart(density: Density, style: Style) -> alt.LayerChart:
    """Draw the spectral density, its axis logarithmic, down to `DECADES` below its peak."""
    floor = max(density.density, default=1.0) * 10.0**-DECADES
    step = -(-len(density.grid) // MOST_POINTS) or 1
    points = [
        {"eigenvalue": place, "density": max(height, floor)}
        for place, height in list(zip(density.grid, density.density, strict=True))[::step]
    ]
    x = alt.X("eigenvalue:Q", axis=alt.Axis(title="eigenvalue of the Hessian", tickCount=6))
    axis = alt.Axis(title="spectral density", format="~e", tickCount=5)
    y = alt.Y("density:Q", scale=alt.Scale(type="log", nice=False), axis=axis)
    base = alt.Chart(canvas.rounded(points)).encode(x=x, y=y)
    zero = alt.Chart(canvas.data([{"x": 0}])).mark_rule(color=INK, opacity=0.5).encode(x=alt.X("x:Q"))
    tooltip = [alt.Tooltip("eigenvalue:Q", format=".4~g"), alt.Tooltip("density:Q", format=".2e")]
    return canvas.finished(
        zero, base.mark_line(strokeWidth=2, color=style.colour).encode(tooltip=canvas.tooltips(tooltip))
    )


def line_chart(lines: Sequence[LossLine], style: Style) -> alt.LayerChart:
    """Draw the rise of the loss along lines of one range; with hollow diamonds if rows take another route.

    If a line's curvature v^T H v is known, the parabola that it and the slope at zero predict is drawn in ink, as high
    as the lines reach.
    """
    points = [point for line in lines for point in rises(line)]
    names = [line.direction for line in lines]
    dashes = [LINE_DASHES[min(place, len(LINE_DASHES) - 1)] for place in range(len(names))]
    dash = alt.StrokeDash("direction:N", scale=alt.Scale(domain=names, range=dashes), legend=None)
    x = alt.X("alpha:Q", axis=alt.Axis(title="distance along the direction", format="~g", tickCount=5, grid=False))
    y = alt.Y("rise:Q", axis=alt.Axis(title="rise of the loss, nats", format="~g", tickCount=5))
    base = alt.Chart(canvas.rounded(points)).encode(x=x, y=y)
    tooltip = ["direction:N", alt.Tooltip("alpha:Q", format=".4~g"), alt.Tooltip("rise:Q", format=".4~g"), "rerouted:Q"]
    ceiling = max((abs(point["rise"]) for point in points), default=0.0)
    parabolas = [point for line in lines for point in parabola(line) if abs(point["rise"]) <= max(1.5 * ceiling, 1e-30)]
    predicted = alt.Chart(canvas.rounded(parabolas)).encode(x=x, y=y, detail=alt.Detail("direction:N"))
    layers = [
        base.mark_line(strokeWidth=2, color=style.colour).encode(strokeDash=dash),
        predicted.mark_line(strokeWidth=1.2, color=INK, strokeDash=[1, 3], strokeCap="round"),
    ]
    for test, mark, some in (
        ("datum.rerouted == 0", {"size": 24, "filled": True}, not all(point["rerouted"] for point in points)),
        ("datum.rerouted > 0", {"size": 55, "shape": "diamond", "filled": False}, any(p["rerouted"] for p in points)),
    ):
        if some:
            marks = base.transform_filter(test).mark_point(opacity=1, color=style.colour, **mark)
            layers.append(marks.encode(tooltip=canvas.tooltips(tooltip)))
    return canvas.finished(*layers)


def parabola(line: LossLine) -> list[dict[str, Any]]:
    """Return the rise that slope and curvature at zero predict at every alpha; none if either is unknown."""
    if line.curvature is None or len(line.alphas) < 3:
        return []
    alphas, rises = np.array(line.alphas), np.array(line.losses) - _at_zero(line)
    order = np.argsort(np.abs(alphas), kind="stable")
    near = [place for place in order if alphas[place] != 0][:2]
    if len(near) < 2 or alphas[near[0]] == alphas[near[1]]:
        return []
    slope = float((rises[near[0]] - rises[near[1]]) / (alphas[near[0]] - alphas[near[1]]))
    return [
        {"alpha": alpha, "rise": slope * alpha + line.curvature * alpha**2 / 2, "direction": line.direction}
        for alpha in line.alphas
    ]


def surface_chart(surface: Surface) -> alt.LayerChart:
    """Draw the rise of the loss over a plane, (A, B), as a heat map; with a dot if rows take another route."""
    middle = [int(np.argmin(np.abs(steps))) for steps in (surface.alphas, surface.betas)]
    zero = surface.losses[middle[0]][middle[1]]
    edges = [_edges(steps) for steps in (surface.alphas, surface.betas)]
    cells = [
        {
            "alpha": alpha,
            "beta": beta,
            "left": edges[0][row],
            "right": edges[0][row + 1],
            "low": edges[1][column],
            "high": edges[1][column + 1],
            "rise": surface.losses[row][column] - zero,
            "rerouted": surface.rerouted[row][column] if surface.rerouted else 0,
        }
        for row, alpha in enumerate(surface.alphas)
        for column, beta in enumerate(surface.betas)
    ]
    base = alt.Chart(canvas.rounded(cells))
    legend = alt.Legend(title="rise of the loss, nats")
    fill = alt.Color("rise:Q", scale=alt.Scale(scheme="viridis"), legend=legend)
    axes = [alt.Axis(title=f"{place} direction", tickCount=5, grid=False) for place in ("first", "second")]
    scale = alt.Scale(nice=False, zero=False)
    tooltip = [alt.Tooltip(f"{name}:Q", format=".4~g") for name in ("alpha", "beta", "rise")] + ["rerouted:Q"]
    moved = [cell for cell in cells if cell["rerouted"]]
    layers = [
        base.mark_rect(stroke=None).encode(
            x=alt.X("left:Q", scale=scale, axis=axes[0].copy()),
            x2=alt.X2("right:Q"),
            y=alt.Y("low:Q", scale=scale, axis=axes[1].copy()),
            y2=alt.Y2("high:Q"),
            color=fill,
            tooltip=canvas.tooltips(tooltip),
        )
    ]
    if moved:
        dots = alt.Chart(canvas.rounded(moved)).mark_point(size=6, filled=True, color="white", opacity=0.8)
        layers.append(dots.encode(x=alt.X("alpha:Q"), y=alt.Y("beta:Q")))
    return canvas.finished(*layers, height=canvas.HEIGHT + 60)


def rises(line: LossLine) -> list[dict[str, Any]]:
    """Return the points of a line: `alpha`, `rise` over the loss at zero, rows `rerouted` and `direction`."""
    zero = _at_zero(line)
    rerouted = line.rerouted or (0,) * len(line.alphas)
    return [
        {"alpha": alpha, "rise": loss - zero, "rerouted": rows, "direction": line.direction}
        for alpha, loss, rows in zip(line.alphas, line.losses, rerouted, strict=True)
    ]


def _at_zero(line: LossLine) -> float:
    """Return the loss at the step nearest to zero."""
    return line.losses[int(np.argmin(np.abs(line.alphas)))]


def _edges(steps: Sequence[float]) -> list[float]:
    """Return the borders between cells centred on `steps` (A,), (A + 1,)."""
    if len(steps) < 2:
        return [steps[0] - HALF_STEP, steps[0] + HALF_STEP]
    middles = [(left + right) / 2 for left, right in pairwise(steps)]
    return [2 * steps[0] - middles[0], *middles, 2 * steps[-1] - middles[-1]]
