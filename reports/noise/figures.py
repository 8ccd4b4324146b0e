"""The chart of raw samples: every sample in the order taken, the medians of their blocks, the case's median."""

from __future__ import annotations

import altair as alt

from reports.output import canvas
from reports.output.canvas import INK
from reports.output.styles import COLOURS

SAMPLES, MEDIAN = "samples", "median"
"""Names of the data."""
BLOCKS, AFTER_MEDIAN, WITHIN = "|", ":", " "
"""What stands between the blocks of the samples, after the median of a block, and between its samples."""


def samples_chart() -> alt.LayerChart:
    """Draw the samples of any case in microseconds, of the data that `samples` and `median` give.

    The axis of time is logarithmic, so that one call much slower than the others does not press them together.
    `samples` are one text, in which signs part blocks, their medians and samples, so that thousands of them stay small;
    `median` is a row with the median and, where it has an interval, `low` and `high`.
    """
    axis = alt.Axis(title="time", labelExpr=canvas.DURATION, labelOverlap="greedy", tickCount=5)
    y = alt.Y("seconds:Q", scale=alt.Scale(type="log", nice=False, padding=8), axis=axis)
    x = alt.X(
        "place:Q",
        scale=alt.Scale(nice=False, zero=False, padding=8),
        axis=alt.Axis(
            title="samples shown, in the order taken", format="d", tickMinStep=1, grid=False, labelBound=True
        ),
    )
    samples = (
        canvas.named(SAMPLES)
        .transform_calculate(block=f"split(datum.data, '{BLOCKS}')")
        .transform_flatten(["block"])
        .transform_window(number="row_number()")
        .transform_calculate(parts=f"split(datum.block, '{AFTER_MEDIAN}')")
        .transform_calculate(us=f"split(datum.parts[1], '{WITHIN}')", middle="toNumber(datum.parts[0]) * 1e-6")
        .transform_flatten(["us"])
        .transform_window(place="row_number()")
        .transform_calculate(seconds="toNumber(datum.us) * 1e-6")
    )
    line = canvas.named(MEDIAN).transform_calculate(
        seconds="datum.us * 1e-6",
        least="isValid(datum.low) ? datum.low * 1e-6 : datum.seconds",
        most="isValid(datum.high) ? datum.high * 1e-6 : datum.seconds",
    )
    tooltip = [alt.Tooltip("number:Q", title="block"), alt.Tooltip("us:N", title="µs")]
    return canvas.finished(
        line.mark_rect(color=INK, opacity=0.12).encode(y=alt.Y("least:Q"), y2="most:Q"),
        line.mark_rule(color=INK, strokeDash=[6, 4], strokeWidth=1.5).encode(y="seconds:Q"),
        samples.mark_point(filled=True, size=16, opacity=0.6, color=INK).encode(x=x, y=y, tooltip=tooltip),
        samples.mark_line(color=COLOURS[4], strokeWidth=1.5, interpolate="step").encode(x=x, y="middle:Q"),
    )
