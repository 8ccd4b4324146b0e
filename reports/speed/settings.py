"""Settings and heads as a report names them, and which of them it shows first."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from math import log

from reports.numbers import units
from reports.output.blocks import Block, Chart, Column, Grid, Panel, Table, numeric, worded
from reports.reading.load import Case
from reports.speed.analysis import MADE_ROUTINGS, Analysis, Head, Setting
from reports.speed.floors import Floor

PAPER_BATCH = 256
INTEREST = ("sparse", "soft", "dense")
"""Kinds of heads in the order in which their accounts are offered."""
DEVICES = {"cpu": "CPU", "cuda": "GPU"}
CLOCKS = {"wall": "wall clock", "device": "device clock", "graph": "a CUDA graph's replay"}


def machine(setting: Setting) -> str:
    """Return which machine the timings are from, and that a CPU's are a CPU's."""
    threads = f", {units.plural(setting.threads, 'thread')}" if setting.device == "cpu" else ""
    return f"{DEVICES[setting.device]} timings on {setting.device_name}{threads}"


def title(setting: Setting) -> str:
    """Return a setting in words, without its machine."""
    part = "Head alone" if setting.part == "head" else "Whole classifier"
    axes = [", cold caches"] if setting.cache == "cold" else []
    axes += [f", {MADE_ROUTINGS[setting.routing]}"] if setting.routing else []
    return f"{part}, {setting.dtype}, {CLOCKS[setting.clock]}{''.join(axes)}, suite {setting.suite}"


def caption(setting: Setting) -> str:
    """Return the title of a table about one setting."""
    return f"{title(setting)}; {machine(setting)}"


def name(analysis: Analysis, head: Head) -> str:
    """Return a head's label for a column of heads."""
    return analysis.labels[head].replace(" head", "", 1)


CASE = (*worded("head", "form"), *numeric("rows"))
"""The columns of `identity`."""


def identity(analysis: Analysis, case: Case) -> tuple[str, str, str]:
    """Return the cells that say which case a row is about."""
    record = case.record
    return (name(analysis, Head.of(record)), record.form, units.count(record.rows))


def resident(floor: Floor) -> str:
    """Return where the bytes lie that a case must move."""
    return "cache-resident" if floor.cached else "in memory"


def from_batch(rows: int) -> tuple[float, int]:
    """Return a sorting key for numbers of rows: the nearest to the paper's batch comes first."""
    return (abs(log(rows / PAPER_BATCH)), rows)


def nearest_batch(cases: Sequence[Case]) -> int:
    """Return the number of rows nearest to the paper's batch among the sizes at which most heads were measured."""
    heads: dict[int, set[Head]] = {}
    for case in cases:
        heads.setdefault(case.record.rows, set()).add(Head.of(case.record))
    most = max(map(len, heads.values()))
    shared = [rows for rows, measured in heads.items() if len(measured) == most]
    return min(shared, key=from_batch)


def panel(setting: Setting, charts: Sequence[Block]) -> Panel:
    """Return the blocks of a setting under its name and machine."""
    return Panel(title(setting), machine(setting), charts)


def panels(charts: Mapping[Setting, Sequence[Chart]]) -> list[Panel]:
    """Return one panel for each setting that has charts, with its charts side by side."""
    return [panel(setting, [Grid(shown)]) for setting, shown in charts.items() if shown]


def is_drawn(setting: Setting) -> bool:
    """Return whether accounts of a setting are drawn: wall clock, warm caches and rows not made for a routing."""
    return (setting.clock, setting.cache, setting.routing) == ("wall", "warm", "")


def tables(columns: tuple[Column, ...], rows: Mapping[Setting, Iterable[tuple[str, ...]]]) -> list[Table]:
    """Return one table of the `columns` for each setting that has rows."""
    shown = {setting: tuple(each) for setting, each in rows.items()}
    return [Table(caption(setting), columns, each) for setting, each in shown.items() if each]
