"""The section on accuracy: the test accuracy of each trained head against its time near the paper's batch."""

from __future__ import annotations

from collections.abc import Sequence

from reports.numbers import units
from reports.output import canvas, legend
from reports.output.blocks import Block, Chart, PageOnly, Section, Text
from reports.reading.load import MeasuredCase
from reports.speed import figures
from reports.speed.analysis import Analysis, Head
from reports.speed.settings import nearest_batch, panels


def accuracy_section(analysis: Analysis) -> Section:
    """Return test accuracy against latency at the batch nearest to 256, in a panel for each setting with trained heads.

    Without a trained head it says so.
    """
    charts = {}
    for setting in analysis.usual:
        full = [case for case in analysis.cases(setting) if not case.record.scheme]  # accuracy is that of full weights
        trained = [case for case in full if case.record.test_accuracy is not None]
        if trained:
            batch = nearest_batch(trained)
            charts[setting] = [_chart(analysis, [case for case in trained if case.record.rows == batch], batch)]
    blocks: list[Block] = [Text("No trained head was measured, so there is no accuracy to show.", "note")]
    reading = ""
    if charts:
        blocks = [legend.of_styles(analysis.styles), *panels(charts)]
        reading = (
            "up is more accurate, left is faster; the forms of one head stand at one height, and its fastest form "
            "carries its name."
        )
    return Section(
        "accuracy",
        "Accuracy",
        [PageOnly(blocks)],
        heading="Accuracy against latency",
        reading=reading,
        about="what a faster head costs in test accuracy",
    )


def _chart(analysis: Analysis, cases: Sequence[MeasuredCase], batch: int) -> Chart:
    names = {case: analysis.labels[Head.of(case.record)] for case in cases}
    spec = canvas.spec(figures.accuracy_chart(cases, analysis.latencies, names, analysis.styles))
    heading = f"batch of {units.count(batch)}"
    return Chart(heading, spec, _message(analysis, cases, batch), subject="Accuracy against latency")


def _message(analysis: Analysis, cases: Sequence[MeasuredCase], batch: int) -> str:
    clauses = []
    for head in analysis.heads(cases):
        best = analysis.fastest(case for case in cases if Head.of(case.record) == head)
        accuracy, time = units.percent(best.record.test_accuracy or 0), units.seconds(analysis.latencies[best].value)
        clauses.append(f"{analysis.labels[head]} {accuracy} in {time} ({best.record.form})")
    return f"Test accuracy, and the time of the fastest form, at {units.plural(batch, 'row')}: {'; '.join(clauses)}."
