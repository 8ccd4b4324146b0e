"""The alarm: a case that takes less than its floor allows shows that the floor, the clock or the counted work is wrong.

A floor has some slack, and the alarm allows for it. A copy that writes through a cache reads each line that it writes,
so it moves three bytes for every two counted: work that only reads can move up to 1.5 times a copy's bytes per second.
The best large product that was tried may fall short of the true peak by a tenth.
"""

from __future__ import annotations

from reports.numbers import units
from reports.numbers.stats import Estimate
from reports.speed.analysis import Analysis, Head
from reports.speed.floors import Floor

READING = 1.5
"""Work that only reads may move this many times the bytes per second of a copy."""
SLACK = 0.1
"""The true ceilings may be this share better than the measured ones."""
NAMED = 3
"""So many cases are named at most."""


def alarm(analysis: Analysis) -> list[str]:
    """Return a warning that names the cases that undercut their floors, or nothing if there are none."""
    below = [case for case, floor in analysis.floors.items() if undercuts(analysis.latencies[case], floor)]
    if not below:
        return []
    cases = [
        f"{analysis.labels[Head.of(case.record)]}, {case.record.form}, {units.plural(case.record.rows, 'row')}: "
        f"{units.seconds(analysis.latencies[case].value)} against {units.seconds(analysis.floors[case].seconds)}"
        for case in below
    ]
    verb = "takes" if len(below) == 1 else "take"
    return [
        f"Warning: {units.plural(len(below), 'case')} {verb} less than the machine needs at least, so the floor, the "
        f"clock or the counted work is wrong ({'; '.join(cases[:NAMED])}"
        f"{f'; and {units.count(len(below) - NAMED)} more' if len(below) > NAMED else ''})."
    ]


def undercuts(median: Estimate, floor: Floor) -> bool:
    """Return whether the whole interval of a median, or the median if it has none, lies below what the floor allows."""
    least = (max(floor.arithmetic, floor.bandwidth / READING) + floor.launch) / (1 + SLACK)
    return (median.value if median.high is None else median.high) < least
