"""The section on speed-ups: theoretical, attainable and realised, of each MoE head over the dense head, by rows."""

from __future__ import annotations

from reports.numbers import units
from reports.output import canvas, legend
from reports.output.blocks import Block, Chart, PageOnly, Section, Text
from reports.speed import figures, verdicts
from reports.speed.analysis import Analysis, Setting
from reports.speed.settings import panels


def speedup_section(analysis: Analysis) -> Section:
    """Return the speed-up of each MoE head over the fastest dense form, or why there is none."""
    charts: dict[Setting, list[Chart]] = {}
    for setting in analysis.usual:
        for head in analysis.heads(analysis.cases(setting)):
            if speedups := analysis.of(setting, head):
                label, spec = analysis.labels[head], canvas.spec(figures.speedup_chart(speedups, analysis.styles))
                chart = Chart(label, spec, verdicts.message(speedups, label), subject="Speed-up")
                charts.setdefault(setting, []).append(chart)
    blocks: list[Block] = [Text(analysis.missing, "note")]
    reading = ""
    if charts:
        lines = {"theoretical, by operations": figures.THEORY, "attainable, by floors": figures.ATTAINABLE}
        blocks = [legend.of_styles(analysis.styles, lines), *panels(charts)]
        reading = (
            "the dashed line is the theoretical speed-up, by operations, the dotted one what this machine could give "
            "at best, each coloured line what one form reaches over the fastest dense form, with its "
            f"{units.INTERVAL}; the solid line at 1× is equal speed, and the shade between theory and the best form is "
            "the gap. The numbers stand in the account."
        )
    heading = "Theoretical, attainable and realised speed-up"
    return Section(
        "speedup",
        "Speed-up",
        [PageOnly(blocks)],
        heading=heading,
        reading=reading,
        about="every form of every head over the fastest dense form, by rows",
    )
