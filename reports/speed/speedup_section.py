"""The section on speed-ups: theoretical, attainable and realised, of each MoE head over the dense head, by rows."""

from __future__ import annotations

from reports.numbers import units
from reports.output import canvas, legend
from reports.output.blocks import Block, Chart, PageOnly, Panel, Section, Text
from reports.speed import figures, verdicts
from reports.speed.analysis import Analysis, Setting
from reports.speed.settings import panels


def speedup_section(analysis: Analysis) -> Section | None:
    """Return the speed-up of each MoE head over the fastest dense form, or why there is none; None without records."""
    if not analysis.results.records:
        return None
    blocks: list[Block] = [Text(analysis.missing, "note")]
    reading = ""
    if shown := speedup_panels(analysis):
        lines = {"theoretical, by operations": "6 4", "attainable, by floors": "1 3"}
        blocks = [legend.of_styles(analysis.styles, lines), *shown]
        reading = (
            "the dashed line is the theoretical speed-up, by operations, the dotted one what this machine could give "
            "at best, each coloured line what one form reaches over the fastest dense form, with its "
            f"{units.INTERVAL}; the solid line at 1× is equal speed, and the shade between theory and the best form is "
            "the gap. The numbers stand in the account."
        )
    heading = "Theoretical, attainable and realised speed-up"
    return Section("speedup", "Speed-up", [PageOnly(blocks)], heading=heading, reading=reading)


def speedup_panels(analysis: Analysis) -> list[Panel]:
    """Return one panel for each setting with speed-ups, with a chart for each MoE head."""
    charts: dict[Setting, list[Chart]] = {}
    for setting in analysis.usual:
        for head in analysis.heads(analysis.cases(setting)):
            if speedups := analysis.of(setting, head):
                label, spec = analysis.labels[head], canvas.spec(figures.speedup_chart(speedups, analysis.styles))
                chart = Chart(label, spec, verdicts.message(speedups, label), subject="Speed-up")
                charts.setdefault(setting, []).append(chart)
    return panels(charts)
