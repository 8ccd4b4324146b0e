"""What differs between two runs beside the code: machine, versions, threads, weights, and the time of the anchor."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from reports.numbers import units
from reports.reading.load import MeasuredCase, Results
from reports.records.record import CaseRecord, Group

UNKNOWN = "not recorded"
ARROW = "\N{RIGHTWARDS ARROW}"
SIDES = ("BASE", "NEW")
OTHERS = 1.0
"""If the load exceeds the threads of a run by more, other work was running."""


@dataclass(frozen=True)
class RunFacts:
    """One of two runs in words: its file, its commit, and when and on what it was measured."""

    file: str
    commit: str
    measured: str
    machine: str


def run(results: Results) -> RunFacts:
    """Return a run in words."""
    records = results.records
    threads = ({units.plural(record.threads, "thread") for record in records if record.device == "cpu"}) or {""}
    devices = sorted({record.device_name for record in records})
    return RunFacts(
        file=units.listing(list(map(str, results.sources))),
        commit=commits((record.commit, record.dirty) for record in records),
        measured=units.moment(max(record.moment for record in records)),
        machine=", ".join(filter(None, [*devices, units.listing(sorted(threads))])),
    )


def commits(pairs: Iterable[tuple[str, bool | None]]) -> str:
    """Return commits with their hashes cut short, and which had uncommitted changes."""
    return ", ".join(
        f"{(commit[:10] if len(commit) >= 40 else commit) or UNKNOWN}{' with uncommitted changes' if dirty else ''}"
        for commit, dirty in dict.fromkeys(pairs)
    )


def warnings(
    base: Results, new: Results, pairs: Sequence[tuple[MeasuredCase, MeasuredCase]], least: float
) -> list[str]:
    """Return in sentences what differs between matched cases beside the code; `least` is that of the verdicts."""
    facts = [(_facts(before.record), _facts(after.record)) for before, after in pairs]
    sides = {side: [pair[place] for pair in pairs] for place, side in enumerate(SIDES)}
    return [
        *differences(facts),
        *(uncommitted(side) for side, cases in sides.items() if any(case.record.dirty for case in cases)),
        *(sentence for side, cases in sides.items() for sentence in _load(side, cases)),
        *_anchors(base, new, pairs, least),
    ]


def differences(pairs: Sequence[tuple[Mapping[str, str], Mapping[str, str]]]) -> Iterator[str]:
    """Yield a sentence for each fact that differs: its two values, and in how many of the `pairs`."""
    counts: Counter[tuple[str, str, str]] = Counter()
    for base, new in pairs:
        for name in {**base, **new}:
            old, now = base.get(name) or UNKNOWN, new.get(name) or UNKNOWN
            if old != now:
                counts[name, old, now] += 1
    for (name, old, now), times in counts.items():
        scope = "" if times == len(pairs) else f" in {units.count(times)} of {units.plural(len(pairs), 'case')}"
        yield f"The {name} differs{scope}: {old} {ARROW} {now}."


def uncommitted(side: str) -> str:
    """Return the warning that a side's commit does not say what ran."""
    return f"{side} was measured with uncommitted changes: its commit does not say what ran."


def _facts(record: CaseRecord) -> Mapping[str, str]:
    return {
        "device": record.device_name,
        "CPU": record.cpu,
        "driver": record.driver,
        "number of threads": str(record.threads),
        "way threads wait": record.thread_wait,
        **{f"version of {name}": version for name, version in record.versions.items()},
        f"hash of the weights of {record.checkpoint}": record.weights_sha256[:12],
    }


def _anchors(
    base: Results, new: Results, pairs: Sequence[tuple[MeasuredCase, MeasuredCase]], least: float
) -> Iterator[str]:
    """Warn if the time of the anchor, work that never changes, moved by `least` or more in any group."""
    before, after = ({group.group_id: group for group in side.groups} for side in (base, new))
    matched = dict.fromkeys((old.record.group_id, now.record.group_id) for old, now in pairs)
    known = [(before[old], after[now]) for old, now in matched if old != now and old in before and now in after]
    factors = [_middle(now) / _middle(old) for old, now in known if _middle(old) and _middle(now)]
    moved = sum(max(factor, 1 / factor) >= 1 + least for factor in factors)
    if moved:
        span = " to ".join(dict.fromkeys(units.factor(pick(factors)) for pick in (min, max)))
        yield (
            f"The anchor, work that never changes, took {span} as long in NEW as in BASE, beyond the least effect in "
            f"{units.count(moved)} of {units.plural(len(factors), 'group')}: there the machine itself changed."
        )


def _load(side: str, cases: Iterable[MeasuredCase]) -> Iterator[str]:
    """Warn if more waited for the processor than the threads of the run."""
    loads = [(case.record.load_1m or 0.0, case.record.threads) for case in cases]
    busiest, threads = max(loads, key=lambda pair: pair[0] - pair[1], default=(0.0, 0))
    if busiest > threads + OTHERS:
        yield (
            f"{side} was measured beside other work: the load average was {busiest:.1f} when a group began, with "
            f"{units.plural(threads, 'thread')} of its own."
        )


def _middle(group: Group) -> float:
    return float(np.median(group.anchor)) if group.anchor else 0.0
