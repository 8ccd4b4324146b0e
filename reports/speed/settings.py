"""Settings and heads as a report names them, and which of them it shows first."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import log
from typing import TypeVar

from reports.numbers import units
from reports.numbers.groups import grouped
from reports.output.blocks import Block, Chart, Grid, Panel, Table
from reports.output.tables import Field, number, tabulated, word
from reports.reading.load import MeasuredCase
from reports.speed.analysis import MADE_ROUTINGS, Analysis, Head, Setting
from reports.speed.floors import Floor

_Item = TypeVar("_Item")
PAPER_BATCH = 256
INTEREST = ("sparse", "soft", "dense")
"""Kinds of heads in the order in which their accounts are offered."""
DEVICES = {"cpu": "CPU", "cuda": "GPU"}
CACHES = {"warm": "", "cold": ", cold caches", "rotated": ", copies in turn"}
CLOCKS = {"wall": "wall clock", "device": "device clock", "graph": "a CUDA graph's replay"}


def machine(setting: Setting) -> str:
    """Return which machine the timings are from, and that a CPU's are a CPU's."""
    threads = f", {units.plural(setting.threads, 'thread')}" if setting.device == "cpu" else ""
    return f"{DEVICES[setting.device]} timings on {setting.device_name}{threads}"


def title(setting: Setting) -> str:
    """Return a setting in words, without its machine."""
    part = "Head alone" if setting.part == "head" else "Whole classifier"
    axes = [", forward and backward" if setting.passes == "training" else "", CACHES[setting.cache]]
    axes += [f", {MADE_ROUTINGS[setting.routing]}"] if setting.routing else []
    return f"{part}, {setting.dtype}, {CLOCKS[setting.clock]}{''.join(axes)}, suite {setting.suite}"


def caption(setting: Setting) -> str:
    """Return the title of a table about one setting."""
    return f"{title(setting)}; {machine(setting)}"


def name(analysis: Analysis, head: Head) -> str:
    """Return a head's label for a column of heads."""
    return analysis.labels[head].replace(" head", "", 1)


def identity(analysis: Analysis, case: Callable[[_Item], MeasuredCase]) -> list[Field[_Item]]:
    """Return the fields that say which `case` an item is about."""
    return [
        word("head", lambda item: name(analysis, Head.of(case(item).record))),
        word("form", lambda item: case(item).record.form),
        number("rows", lambda item: units.count(case(item).record.rows)),
    ]


def resident(floor: Floor) -> str:
    """Return where the bytes lie that a case must move."""
    return "cache-resident" if floor.cached else "in memory"


def from_batch(rows: int) -> tuple[float, int]:
    """Return a sorting key for numbers of rows: the nearest to the paper's batch comes first."""
    return (abs(log(rows / PAPER_BATCH)), rows)


def nearest_batch(cases: Sequence[MeasuredCase]) -> int:
    """Return the number of rows nearest to the paper's batch among the sizes at which most heads were measured."""
    sizes = grouped(cases, lambda case: case.record.rows)
    heads = {rows: len({Head.of(case.record) for case in same}) for rows, same in sizes.items()}
    most = max(heads.values())
    return min((rows for rows, measured in heads.items() if measured == most), key=from_batch)


def panel(setting: Setting, charts: Sequence[Block]) -> Panel:
    """Return the blocks of a setting under its name and machine."""
    return Panel(title(setting), machine(setting), charts)


def panels(charts: Mapping[Setting, Sequence[Chart]]) -> list[Panel]:
    """Return one panel for each setting that has charts, with its charts side by side."""
    return [panel(setting, [Grid(shown)]) for setting, shown in charts.items() if shown]


def is_drawn(setting: Setting) -> bool:
    """Return whether accounts of a setting are drawn: a usual one by the wall clock."""
    return setting.clock == "wall" and setting.usual


def tables(fields: Sequence[Field[_Item]], items: Mapping[Setting, Sequence[_Item]]) -> list[Table]:
    """Return one table of the `fields` for each setting that has items."""
    return [tabulated(caption(setting), fields, each) for setting, each in items.items() if each]
