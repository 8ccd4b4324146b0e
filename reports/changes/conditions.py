"""What differs between two runs beside the code: machine, versions, threads, weights, and the time of the anchor."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from reports.numbers import units
from reports.reading.load import MeasuredCase, Results
from reports.records.record import CaseRecord, Group

UNKNOWN = "not recorded"
ONE_COMMIT = "both runs are of one commit"
MOVED = "the anchor moved"
OVERRULED = "--doubtful raw judges by the ratio as it is, --doubtful normalised by that beside the anchor"
Anchors = Mapping[tuple[str, str], float]
"""How many times as long the anchor took in NEW, by the group in BASE and that in NEW."""
ARROW = "\N{RIGHTWARDS ARROW}"
SIDES = ("BASE", "NEW")
OTHERS = 1.0
"""If the load exceeds the threads of a run by more, other work was running."""


@dataclass(frozen=True)
class RunFacts:
    """A run in words: its file, its commit, when and on what it was measured, and whether it is of BASE or of NEW."""

    file: str
    commit: str
    measured: str
    machine: str
    side: str = ""


def run(results: Results, side: str) -> RunFacts:
    """Return a run of BASE or NEW in words."""
    records = results.records
    threads = ({units.plural(record.threads, "thread") for record in records if record.device == "cpu"}) or {""}
    devices = sorted({record.device_name for record in records})
    return RunFacts(
        file=units.listing(list(map(str, results.sources))),
        commit=commits((record.commit, record.dirty) for record in records),
        measured=units.moment(max(record.moment for record in records)),
        machine=", ".join(filter(None, [*devices, units.listing(sorted(threads))])),
        side=side,
    )


def commits(pairs: Iterable[tuple[str, bool | None]]) -> str:
    """Return commits with their hashes cut short, and which had uncommitted changes."""
    return ", ".join(
        f"{(commit[:10] if len(commit) >= 40 else commit) or UNKNOWN}{' with uncommitted changes' if dirty else ''}"
        for commit, dirty in dict.fromkeys(pairs)
    )


def warnings(
    pairs: Sequence[tuple[MeasuredCase, MeasuredCase]], moved: Anchors, commit: str, least: float
) -> list[str]:
    """Return in sentences what differs between matched cases beside the code; `least` is that of the verdicts.

    `moved` is how far the anchors of their groups moved, and `commit` the only one of both sides, "" if there are more.
    """
    sides = {side: [pair[place] for pair in pairs] for place, side in enumerate(SIDES)}
    return [
        *differences(_all_facts(pairs)),
        *(uncommitted(side) for side, cases in sides.items() if any(case.record.dirty for case in cases)),
        *(sentence for side, cases in sides.items() for sentence in _load(side, cases)),
        *_anchors(moved, pairs, least),
        *([of_one_commit(commit)] if commit else []),
    ]


def anchors(base: Results, new: Results, pairs: Sequence[tuple[MeasuredCase, MeasuredCase]]) -> Anchors:
    """Return how many times as long the anchor took in NEW, for the groups of each case, if they are two."""
    before, after = ({group.group_id: _middle(group) for group in side.groups} for side in (base, new))
    matched = dict.fromkeys((old.record.group_id, now.record.group_id) for old, now in pairs)
    return {
        (old, now): after[now] / before[old]
        for old, now in matched
        if old != now and before.get(old) and after.get(now)
    }


def doubt(anchor: float | None, commit: str, least: float) -> str:
    """Return why the ratio of a case may mislead, by how far its `anchor` moved and the one `commit` of both sides."""
    if anchor is not None and _has_moved(anchor, least):
        return MOVED
    return ONE_COMMIT if commit else ""


def of_one_commit_only(base: Results, new: Results, pairs: Sequence[tuple[MeasuredCase, MeasuredCase]]) -> str:
    """Return the commit of both sides if they are two runs of one and nothing else on record differs, else ""."""
    apart = [(old.record, now.record) for old, now in pairs if old.record.group_id != now.record.group_id]
    if not apart or any(differences(_all_facts(pairs))):
        return ""
    return same_commit(*([(record.commit, record.dirty) for record in side] for side in zip(*apart, strict=True)))


def same_commit(base: Collection[tuple[str, bool | None]], new: Collection[tuple[str, bool | None]]) -> str:
    """Return the only commit of both sides, "" if there are several, none is known, or any had uncommitted changes."""
    every = {*base, *new}
    commit, dirty = next(iter(every), ("", None))
    is_hash = re.fullmatch("[0-9a-f]{7,}", commit)  # and not "unversioned"
    return commit if is_hash and len(every) == 1 and dirty is False else ""


def of_one_commit(commit: str) -> str:
    """Return the warning that both runs are of one commit."""
    return (
        f"Both runs are of commit {commits([(commit, False)])} and nothing that the files record differs, so a ratio "
        "shows by how much runs differ from each other, and no case is judged: give several runs a side "
        f"(--base A B C --new D E F), or {OVERRULED}."
    )


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


def _all_facts(
    pairs: Iterable[tuple[MeasuredCase, MeasuredCase]],
) -> list[tuple[Mapping[str, str], Mapping[str, str]]]:
    return [(_facts(before.record), _facts(after.record)) for before, after in pairs]


def _has_moved(anchor: float, least: float) -> bool:
    return max(anchor, 1 / anchor) >= 1 + least


def _anchors(moved: Anchors, pairs: Sequence[tuple[MeasuredCase, MeasuredCase]], least: float) -> Iterator[str]:
    """Warn if the time of the anchor, work that never changes, moved by `least` or more in any group."""
    beyond = {groups for groups, factor in moved.items() if _has_moved(factor, least)}
    if beyond:
        factors = moved.values()
        span = " to ".join(dict.fromkeys(units.factor(pick(factors)) for pick in (min, max)))
        cases = sum((old.record.group_id, now.record.group_id) in beyond for old, now in pairs)
        are = f"{units.plural(cases, 'case')} {'is' if cases == 1 else 'are'} in doubt ({OVERRULED})"
        yield (
            f"The anchor, work that never changes, took {span} as long in NEW as in BASE, beyond the least effect in "
            f"{units.count(len(beyond))} of {units.plural(len(factors), 'group')}: there the machine changed, so {are}."
        )


def beside_other_work(record: CaseRecord) -> bool:
    """Return whether more waited for the processor than the threads of the run when the case's group began."""
    return (record.load_1m or 0.0) > record.threads + OTHERS


def _load(side: str, cases: Iterable[MeasuredCase]) -> Iterator[str]:
    """Warn if more waited for the processor than the threads of the run."""
    loads = [(case.record.load_1m or 0.0, case.record.threads) for case in cases if beside_other_work(case.record)]
    if loads:
        busiest, threads = max(loads, key=lambda pair: pair[0] - pair[1])
        yield (
            f"{side} was measured beside other work: the load average was {busiest:.1f} when a group began, with "
            f"{units.plural(threads, 'thread')} of its own."
        )


def _middle(group: Group) -> float:
    return float(np.median(group.anchor)) if group.anchor else 0.0
