"""Settings and heads as a report names them, and which of them it shows first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import log

from reports.numbers import units
from reports.output.blocks import Block, Chart, Grid, Panel
from reports.reading.load import Case
from reports.speed.analysis import Analysis, Head, Setting
from reports.speed.floors import Floor

PAPER_BATCH = 256
INTEREST = ("sparse", "soft", "dense")
"""Kinds of heads in the order in which their accounts are offered."""
DEVICES = {"cpu": "CPU", "cuda": "GPU"}


ROUTINGS = {
    "balanced": "every expert as often",
    "uniform": "experts drawn evenly",
    "zipf1": "experts drawn as Zipf(1)",
    "zipf2": "experts drawn as Zipf(2)",
    "hot": "one hot expert",
    "one": "all rows on the same experts",
}


CLOCKS = {"wall": "wall clock", "device": "device clock", "graph": "a CUDA graph's replay"}


def machine(setting: Setting) -> str:
    """Return whose timings they are: a CPU's are called so."""
    threads = f", {units.plural(setting.threads, 'thread')}" if setting.device == "cpu" else ""
    return f"{DEVICES[setting.device]} timings on {setting.device_name}{threads}"


def title(setting: Setting) -> str:
    """Return a setting in words, the machine apart."""
    part = "Head alone" if setting.part == "head" else "Whole classifier"
    axes = [", cold caches"] if setting.cache == "cold" else []
    axes += [f", {ROUTINGS[setting.routing]}"] if setting.routing else []
    return f"{part}, {setting.dtype}, {CLOCKS[setting.clock]}{''.join(axes)}, suite {setting.suite}"


def caption(setting: Setting) -> str:
    """Return the title of a table about one setting."""
    return f"{title(setting)}; {machine(setting)}"


def name(analysis: Analysis, head: Head) -> str:
    """Return a head's label for a column of heads."""
    return analysis.labels[head].replace(" head", "", 1)


def resident(floor: Floor) -> str:
    """Return where what a case must move lies."""
    return "cache-resident" if floor.cached else "in memory"


def from_batch(rows: int) -> tuple[float, int]:
    """Return a key by which numbers of rows are ordered, the nearest to the paper's batch first."""
    return (abs(log(rows / PAPER_BATCH)), rows)


def nearest_batch(cases: Sequence[Case]) -> int:
    """Return the number of rows nearest to the paper's batch among those at which most heads were measured."""
    heads: dict[int, set[Head]] = {}
    for case in cases:
        heads.setdefault(case.record.rows, set()).add(Head.of(case.record))
    most = max(len(found) for found in heads.values())
    shared = [rows for rows, found in heads.items() if len(found) == most]
    return min(shared, key=from_batch)


def panel(setting: Setting, charts: Sequence[Block]) -> Panel:
    """Return blocks about a setting under its name and its machine's."""
    return Panel(title(setting), machine(setting), charts)


def panels(charts: Mapping[Setting, Sequence[Chart]]) -> list[Panel]:
    """Return one panel for each setting that has charts, which lie side by side."""
    return [panel(setting, [Grid(shown)]) for setting, shown in charts.items() if shown]


def is_drawn(setting: Setting) -> bool:
    """Return whether accounts of a setting are drawn: by the wall clock, of warm caches and rows made for nothing."""
    return (setting.clock, setting.cache, setting.routing) == ("wall", "warm", "")
