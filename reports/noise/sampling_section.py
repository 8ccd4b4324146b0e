"""The section on sampling: what it cost, and how steady the machine was, by an unchanged anchor."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from reports.numbers import units
from reports.numbers.groups import grouped
from reports.output.blocks import Details, PageOnly, Section, Table, Text, without_blanks
from reports.output.tables import Field, number, word
from reports.reading.load import MeasuredCase
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
    return Section(
        "sampling",
        "Sampling",
        [*map(Text, costs), PageOnly([groups])],
        heading="How it was sampled",
        about="what measuring took, and the drift of each group",
    )


def drift(analysis: Analysis) -> list[Table]:
    """Return, for each setting, how steady the anchor was in each group; settings may share a group."""
    fields: list[Field[tuple[Group, Sequence[MeasuredCase]]]] = [
        number("rows", lambda item: units.count(item[1][0].record.rows)),
        number("heads and forms", lambda item: units.count(len(item[1]))),
        number("blocks", lambda item: units.count(len(item[0].anchor))),
        number("anchor, median", lambda item: units.seconds(float(np.median(item[0].anchor or [0.0])))),
        number("least", lambda item: units.seconds(min(item[0].anchor, default=0.0))),
        number("most", lambda item: units.seconds(max(item[0].anchor, default=0.0))),
        number(f"blocks beyond {100 * DRIFTED:g} %", lambda item: units.count(len(marked(item[0])))),
        number("throttled blocks", _throttled),
        word("marked blocks", lambda item: listed(item[0])),
        number("clock, MHz", lambda item: units.span(item[0].clock_mhz)),
        number("power, W", lambda item: units.span(item[0].power_w)),
        word("ended by", lambda item: _ends(item[1])),
        number("overhead", lambda item: _overhead(item[0])),
    ]
    groups = {group.group_id: group for group in analysis.results.groups}
    items = {}
    for setting in analysis.settings:
        cases = [case for case in analysis.cases(setting) if case.record.group_id in groups]
        members = grouped(cases, lambda case: case.record.group_id)
        order = sorted(members.items(), key=lambda member: member[1][0].record.rows)
        items[setting] = [(groups[name], same) for name, same in order]
    return [without_blanks(table) for table in tables(fields, items)]


def _throttled(item: tuple[Group, Sequence[MeasuredCase]]) -> str:
    group, cases = item
    return units.count(len(group.throttled)) if cases[0].record.device == "cuda" else ""


def _ends(cases: Sequence[MeasuredCase]) -> str:
    return units.listing(sorted({case.record.stopped_by for case in cases} - {""}) or [""])


def _overhead(group: Group) -> str:
    return units.signed_percent(1 - (group.sampling + group.cold_start) / group.wall) if group.wall else ""


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
