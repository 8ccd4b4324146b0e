"""One run before and one after: which cases became faster or slower, which lost their time, what changed over all.

Cases are matched by their `case_id`, and also by machine and threads if a side has the same case on several machines.
The ratio is base / new, so above 1 NEW is faster. Every group that is measured draws a new `group_id`, so two records
that share it hold the same blocks (one file is a copy of the other, continued or changed) and are compared block by
block. Two separate runs share none, and their medians are resampled apart. Intervals then cover noise within a run, not
a change in machine load between the two runs; the anchor shows that, see `reports.changes.conditions`.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from math import exp, hypot, log

from reports.changes import conditions as changed_conditions
from reports.changes.change import Change, Doubtful, Side, Untimed, change
from reports.changes.conditions import Anchors, RunFacts
from reports.errors import ReportError
from reports.numbers import units
from reports.numbers.groups import grouped
from reports.numbers.stats import LEAST_EFFECT, Estimate, Verdict
from reports.reading.load import MeasuredCase, Results
from reports.records.record import CaseRecord, Status
from reports.speed.analysis import Head, labels

Key = tuple[str | int, ...]
WORST_FIRST = (Verdict.SLOWER, Verdict.UNCLEAR, Verdict.FASTER, Verdict.SAME)
_AXES = {
    "part": "{}", "dtype": "{}", "device": "{}", "passes": "{}", "clock": "{} clock", "cache": "{} caches",
    "routing": "routing {}",
}  # fmt: skip
"""What may differ between cases of one head, form and number of rows, and how a label says it."""


@dataclass(frozen=True)
class Lost:
    """A case that had a time before and has none after, and why."""

    case: str
    status: Status
    reason: str


@dataclass(frozen=True)
class Mean:
    """The geometric mean of some changes' ratios, with an interval if all of them have one, and their verdicts."""

    name: str
    form: str  # if all of them share it, else ""
    ratio: Estimate
    verdicts: Counter[Verdict]


@dataclass(frozen=True)
class Changes:
    """What differs between two runs; `changes` the worst first, `gained` the cases that have a time only after.

    `untimed` have a time of zero in either run, and so no ratio. `only_base` and `only_new` have a time in one run and
    are missing from the other. `warnings` are sentences on what else may have changed a time. `runs` are those of BASE,
    then those of NEW; there are several a side if their spread decides.
    """

    runs: tuple[RunFacts, ...]
    kind: str  # what a family is, for a heading
    least: float
    changes: tuple[Change, ...]
    untimed: tuple[Untimed, ...] = ()
    lost: tuple[Lost, ...] = ()
    gained: tuple[str, ...] = ()
    only_base: tuple[str, ...] = ()
    only_new: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()

    @property
    def sound(self) -> list[Change]:
        """The changes that are not in doubt, or judged all the same."""
        return [each for each in self.changes if not each.doubt or each.verdict is not Verdict.UNCLEAR]

    @property
    def families(self) -> list[Mean]:
        """The mean of each family over its shapes, without cases in doubt, the worst first."""
        families = grouped(self.sound, lambda each: each.family)
        return sorted(
            (mean(name, members) for name, members in families.items()), key=lambda family: family.ratio.value
        )

    @property
    def overall(self) -> Mean | None:
        """The mean over all changes that are not in doubt, None without any."""
        return mean("all cases", self.sound) if self.sound else None

    def of(self, *verdicts: Verdict) -> list[Change]:
        """Return the changes with one of these verdicts, the worst first."""
        return [each for each in self.changes if each.verdict in verdicts]


def between(
    base: Results, new: Results, least: float = LEAST_EFFECT, doubtful: Doubtful = "unclear", *, several: bool = False
) -> Changes:
    """Return what changed from `base` to `new`; `least` is the smallest effect that counts, as a share.

    `doubtful` says what becomes of cases whose ratio is in doubt; `several` that they are one pair of several runs a
    side, whose spread tells what runs of one commit differ by. Raises `ReportError` if `new` has no case of those
    with a time in `base`.
    """
    key = _identity(base, new)
    before, after = ({key(case.record): case for case in side.cases} for side in (base, new))
    without_before, without_after = ({key(record): record for record in side.not_measured} for side in (base, new))
    pairs = [(case, after[name]) for name, case in before.items() if name in after]
    lost = [record for name, record in without_after.items() if name in before]
    if not pairs and not lost:
        raise nothing_in_common(
            *(units.listing(list(map(str, side.sources))) for side in (base, new)),
            *(side.records[0].case_id for side in (base, new)),
        )
    moved = changed_conditions.anchors(base, new, pairs)
    commit = "" if several else changed_conditions.of_one_commit_only(base, new, pairs)
    return Changes(
        runs=(changed_conditions.run(base, "BASE"), changed_conditions.run(new, "NEW")),
        kind="head and form",
        least=least,
        changes=worst_first(_changes(pairs, moved, commit, least, doubtful)),
        lost=tuple(Lost(record.case_id, record.status, record.reason) for record in lost),
        gained=tuple(case.record.case_id for name, case in after.items() if name in without_before),
        only_base=_missing(before, {*after, *without_after}),
        only_new=_missing(after, {*before, *without_before}),
        warnings=tuple(changed_conditions.warnings(pairs, {} if several else moved, commit, least)),
    )


def worst_first(changes: Iterable[Change]) -> tuple[Change, ...]:
    """Return `changes` by verdict, slower ones first, then by ratio."""
    return tuple(sorted(changes, key=lambda change: (WORST_FIRST.index(change.verdict), change.ratio.value)))


def mean(name: str, changes: Sequence[Change]) -> Mean:
    """Return the geometric mean of the ratios of `changes`, at least one.

    Errors of cases measured apart are independent, so the half widths of their intervals, in logarithms, add in
    quadrature. Cases measured together share their disturbances, so theirs add up.
    """
    forms = {change.form for change in changes}
    return Mean(
        name=name,
        form=forms.pop() if len(forms) == 1 else "",
        ratio=_geometric_mean([(change.together, change.ratio) for change in changes]),
        verdicts=Counter(change.verdict for change in changes),
    )


def nothing_in_common(base: str, new: str, first: str, other: str) -> ReportError:
    """Return the error of two files without a common case, with the name of one case of each."""
    return ReportError(
        f"{base} and {new} have no case in common ({first} in one, {other} in the other): compare two runs of the same "
        "benchmarks."
    )


def _geometric_mean(ratios: Sequence[tuple[str, Estimate]]) -> Estimate:
    """Return the mean of ratios, each beside the name that cases measured together share."""
    samples, blocks = (sum(getattr(ratio, count) for _, ratio in ratios) for count in ("samples", "blocks"))
    centre = sum(log(ratio.value) for _, ratio in ratios) / len(ratios)
    below: defaultdict[str, float] = defaultdict(float)
    above: defaultdict[str, float] = defaultdict(float)
    for together, ratio in ratios:
        if ratio.low is None or ratio.high is None:
            return Estimate(exp(centre), None, None, samples, blocks)
        below[together] += log(ratio.value / ratio.low)
        above[together] += log(ratio.high / ratio.value)
    low, high = (hypot(*widths.values()) / len(ratios) for widths in (below, above))
    return Estimate(exp(centre), exp(centre - low), exp(centre + high), samples, blocks)


def _identity(base: Results, new: Results) -> Callable[[CaseRecord], Key]:
    """Return what identifies a case on both sides: its id, and its machine if a side has that id on several."""
    repeated = {
        name for side in (base, new) for name, times in Counter(r.case_id for r in side.records).items() if times > 1
    }
    return lambda record: record.identity if record.case_id in repeated else (record.case_id,)


def _missing(cases: dict[Key, MeasuredCase], known: set[Key]) -> tuple[str, ...]:
    return tuple(case.record.case_id for name, case in cases.items() if name not in known)


def _changes(
    pairs: Sequence[tuple[MeasuredCase, MeasuredCase]], moved: Anchors, commit: str, least: float, doubtful: Doubtful
) -> Iterable[Change]:
    names = labels(Head.of(new.record) for _, new in pairs)
    differing = [axis for axis in _AXES if len({getattr(new.record, axis) for _, new in pairs}) > 1]
    for base, new in pairs:
        record, groups = new.record, (base.record.group_id, new.record.group_id)
        apart = [axis for axis in ("device", "passes") if axis in differing]
        family = [names[Head.of(record)], record.form, *(getattr(record, axis) for axis in apart)]
        axes = [_AXES[axis].format(getattr(record, axis)) for axis in differing]
        yield change(
            *(Side(case.samples, case.blocks, case.summary) for case in (base, new)),
            case=record.case_id,
            label=", ".join([*family[:2], units.plural(record.rows, "row"), *axes]),
            family=", ".join(family),
            form=record.form,
            together=record.group_id,
            interleaved=groups[0] == groups[1],
            doubt="" if groups[0] == groups[1] else changed_conditions.doubt(moved.get(groups), commit, least),
            least=least,
            doubtful=doubtful,
            anchor=moved.get(groups),
        )
