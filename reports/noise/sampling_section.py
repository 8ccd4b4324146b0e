"""The section on sampling: what it cost, and how steady the machine was, by an unchanged anchor."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from reports.numbers import units
from reports.output.blocks import Details, PageOnly, Section, Table, Text, numeric, without_blanks, worded
from reports.reading.load import Case
from reports.records.record import Group
from reports.speed.analysis import Analysis
from reports.speed.settings import tables

DRIFTED = 0.1
"""A block is marked if its anchor is off the group's median by more than this share."""
NAMED = 10
"""So many marked blocks of a group are named at most."""


def marked(group: Group) -> list[int]:
    """Return the blocks in which the anchor was more than a tenth off its median."""
    anchor = np.array(group.anchor)
    middle = np.median(anchor) if anchor.size else 0.0
    return [int(block) for block in np.flatnonzero(np.abs(anchor - middle) > DRIFTED * middle)]


def listed(group: Group) -> str:
    """Name the blocks that drifted or throttled, at most `NAMED` of them; "" if there are none."""
    blocks = [str(block) for block in sorted({*marked(group), *group.throttled})]
    return units.some(blocks, NAMED) if blocks else ""


def sampling_section(analysis: Analysis) -> Section | None:
    """Return what sampling cost and how steady the machine was, or None if no group was recorded."""
    costs = sentences(analysis)
    if not costs:
        return None
    groups = Details(
        "Drift, group by group",
        drift(analysis),
        reading="in each block of a group an unchanged piece of work was timed beside the cases; what moves it is the "
        "machine. Marked blocks, numbered from 0, drifted or were throttled; their samples are kept. Clock and power "
        "are a GPU’s, read after each block. Overhead is the group’s time outside timed calls and the preparing of "
        "forms.",
    )
    return Section("sampling", "Sampling", [*map(Text, costs), PageOnly([groups])], heading="How it was sampled")


def drift(analysis: Analysis) -> list[Table]:
    """Return, for each setting, how steady the anchor was in each group; settings may share a group."""
    columns = (
        *numeric(
            "rows",
            "heads and forms",
            "blocks",
            "anchor, median",
            "least",
            "most",
            f"blocks beyond {100 * DRIFTED:g} %",
            "throttled blocks",
        ),
        *worded("marked blocks"),
        *numeric("clock, MHz", "power, W"),
        *worded("ended by"),
        *numeric("overhead"),
    )
    groups = {group.group_id: group for group in analysis.results.groups}
    rows = {}
    for setting in analysis.settings:
        members: dict[str, list[Case]] = {}
        for case in analysis.cases(setting):
            if case.record.group_id in groups:
                members.setdefault(case.record.group_id, []).append(case)
        order = sorted(members.items(), key=lambda member: member[1][0].record.rows)
        rows[setting] = [_row(groups[name], cases) for name, cases in order]
    return [without_blanks(table) for table in tables(columns, rows)]


def sentences(analysis: Analysis) -> list[str]:
    """Say what sampling cost and how many blocks were disturbed, over all recorded groups."""
    groups = analysis.results.groups
    wall = sum(group.wall for group in groups)
    if not wall:
        return []
    blocks = sum(len(group.anchor) for group in groups)
    drifted, throttled = sum(len(marked(group)) for group in groups), sum(len(group.throttled) for group in groups)
    timed, started = sum(group.sampling for group in groups) / wall, sum(group.cold_start for group in groups) / wall
    return [
        f"Measuring took {units.duration(wall)}: {units.percent(timed)} in timed calls, {units.percent(started)} in "
        f"preparing forms, which is measured too, and {units.signed_percent(1 - timed - started)} beside them.",
        f"In {units.count(drifted)} of {units.plural(blocks, 'block')} the unchanged anchor was more than "
        f"{100 * DRIFTED:g} % off its group's median, and in {units.count(throttled)} a GPU lowered its clock; "
        "their samples are kept.",
    ]


def _row(group: Group, cases: Sequence[Case]) -> tuple[str, ...]:
    anchor = group.anchor or [0.0]
    overhead = 1 - (group.sampling + group.cold_start) / group.wall if group.wall else None
    return (
        units.count(cases[0].record.rows),
        units.count(len(cases)),
        units.count(len(group.anchor)),
        units.seconds(float(np.median(anchor))),
        units.seconds(min(anchor)),
        units.seconds(max(anchor)),
        units.count(len(marked(group))),
        units.count(len(group.throttled)) if cases[0].record.device == "cuda" else "",
        listed(group),
        units.span(group.clock_mhz),
        units.span(group.power_w),
        units.listing(sorted({case.record.stopped_by for case in cases} - {""}) or [""]),
        "" if overhead is None else units.signed_percent(overhead),
    )
