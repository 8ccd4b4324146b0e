"""Each MoE case beside its dense rival: the saving that was counted, the speed-up that was measured.

Cases are compared within a setting and a number of rows. The rival of a head is the dense head with as many
features, classes and hidden units (experts x hidden) and, for a whole classifier, the same backbone; where a setting
has none, any dense head takes its place and the comparison is marked unmatched. Of several rivals those count that
were measured interleaved with the head, if any were.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from reports.numbers import stats, units
from reports.numbers.stats import Estimate, Verdict
from reports.output.styles import Style, styles
from reports.reading.load import Case, Results
from reports.records.record import CaseRecord
from reports.speed.floors import Floor, floor

MADE_ROUTINGS = ("balanced", "uniform", "zipf1", "zipf2", "hot", "one")
MAP_SUITE = "scale"  # whose many heads are shown as one map of break-even
KINDS = ("dense", "sparse", "soft")  # the order in which heads are shown
USUAL_POLICY = "top_k"  # of a sparse head, and of records from before there were others


@dataclass(frozen=True)
class Setting:
    """What cases must share to be compared, apart from the number of rows.

    `routing` is that which the rows were made for, and "" for real rows and for drawn ones.
    """

    suite: str
    part: str
    dtype: str
    device: str
    clock: str
    device_name: str
    threads: int
    cache: str
    routing: str

    @classmethod
    def of(cls, record: CaseRecord) -> Setting:
        """Return the setting a record belongs to."""
        return cls(
            suite=record.suite,
            part=record.part,
            dtype=record.dtype,
            device=record.device,
            clock=record.clock,
            device_name=record.device_name,
            threads=record.threads,
            cache=record.cache,
            routing=record.routing if record.routing in MADE_ROUTINGS else "",
        )

    def rank(self) -> tuple[bool, bool, bool, bool, bool, int, tuple[str, str, str, int]]:
        """Return a sorting key: head before classifier, GPU before CPU, wall before device, float32 first.

        Warm caches come before cold ones, and rows as they are before those made for a routing, even ones first.
        """
        return (
            self.part != "head",
            self.device != "cuda",
            self.clock != "wall",
            self.dtype != "float32",
            self.cache != "warm",
            ("", *MADE_ROUTINGS).index(self.routing),
            (self.suite, self.dtype, self.device_name, self.threads),
        )


@dataclass(frozen=True)
class Head:
    """A head, whatever form it is executed in. `kind` is dense, soft or sparse; sizes as in the record."""

    kind: str
    checkpoint: str
    backbone: str
    features: int
    hidden: int
    experts: int
    k: int
    classes: int
    activation: str
    policy: str  # by which a sparse head routes; "" for others
    public: bool = field(compare=False)  # its sizes are a public model's, after which its checkpoint is named

    @classmethod
    def of(cls, record: CaseRecord) -> Head:
        """Return the head a record is about."""
        return cls(
            kind=record.head,
            checkpoint=record.checkpoint,
            backbone=record.backbone,
            features=record.features,
            hidden=record.hidden,
            experts=record.experts,
            k=record.k,
            classes=record.classes,
            activation=record.activation,
            policy=(record.policy or USUAL_POLICY) if record.head == "sparse" else "",
            public=bool(record.source),
        )

    @property
    def shape(self) -> str:
        """Its size in words."""
        if self.kind == "dense":
            return f"hidden width {self.hidden}"
        served = f", {self.k} per row" if self.kind == "sparse" else ""
        if self.policy not in ("", USUAL_POLICY):
            served = f", {self.policy} with k = {self.k}"
        return f"{self.experts} experts of width {self.hidden}{served}"


@dataclass(frozen=True)
class Comparison:
    """An MoE case and the dense case it is held against; all ratios are dense / MoE."""

    case: Case
    base: Case
    matched: bool  # equal sizes; a speed-up between unmatched heads says little
    theoretical: float  # of counted operations
    attainable: float | None  # of floors; None where either has none
    realised: Estimate  # of measured times
    verdict: Verdict


@dataclass(frozen=True)
class Speedup:
    """All comparisons of one MoE head at one number of rows; a form's fastest case stands for it."""

    setting: Setting
    head: Head
    rows: int
    against_best: tuple[Comparison, ...]  # each form against the fastest dense form
    same_form: tuple[Comparison, ...]  # each form against the dense head in that form, where there is one

    @property
    def best(self) -> Comparison:
        """The fastest form against the fastest dense form."""
        return min(self.against_best, key=lambda comparison: _median(comparison.case))


@dataclass(frozen=True)
class Analysis:
    """What the results say.

    `latencies` has the median of each case, `floors` the least time of each that has one, `labels` a short distinct
    name of each head.
    """

    results: Results
    latencies: Mapping[Case, Estimate]
    floors: Mapping[Case, Floor]
    speedups: tuple[Speedup, ...]
    settings: tuple[Setting, ...]
    labels: Mapping[Head, str]

    def cases(self, setting: Setting) -> list[Case]:
        """Return the measured heads of a setting with at least one row, by head and form, fewest rows first."""
        heads = [case for case in _heads(self.results) if case.record.rows]
        chosen = [case for case in heads if Setting.of(case.record) == setting]
        return sorted(chosen, key=lambda case: (KINDS.index(case.record.head), case.record.form, case.record.rows))

    @property
    def styles(self) -> list[Style]:
        """The look of each form that was measured."""
        return styles(case.record.form for case in self.results.cases)

    @property
    def missing(self) -> str:
        """Why there is no speed-up to show, or ""."""
        kinds = {case.record.head for case in self.results.cases}
        if not self.results.records or any(speedup.setting.suite != MAP_SUITE for speedup in self.speedups):
            return ""
        if self.speedups:
            return "These heads were measured for a map of break-even, which has their speed-ups."
        if not kinds:
            return "Nothing was measured, so there is no speed-up to report; the reasons stand below."
        if kinds == {"dense"}:
            return "Only dense heads were measured: a speed-up needs a soft or sparse head beside them."
        if "dense" not in kinds:
            return f"No dense head was measured beside the {units.listing(sorted(kinds))} one: a speed-up needs both."
        return "No MoE head was measured in the same setting and at as many rows as a dense one: none can be compared."

    @property
    def usual(self) -> list[Setting]:
        """The settings of warm caches and of rows that no routing was made for, or all where there are none such.

        Those of a map of break-even, whose many heads that map shows, are never among them.
        """
        drawn = [setting for setting in self.settings if setting.suite != MAP_SUITE]
        return [setting for setting in drawn if (setting.cache, setting.routing) == ("warm", "")] or drawn

    def heads(self, cases: Iterable[Case]) -> list[Head]:
        """Return the heads of some cases, dense ones first, each kind by name."""
        return sorted(
            {Head.of(case.record) for case in cases}, key=lambda head: (KINDS.index(head.kind), self.labels[head])
        )

    def of(self, setting: Setting, head: Head) -> list[Speedup]:
        """Return the speed-ups of a head in a setting, fewest rows first."""
        chosen = [speedup for speedup in self.speedups if (speedup.setting, speedup.head) == (setting, head)]
        return sorted(chosen, key=lambda speedup: speedup.rows)


def analyse(results: Results) -> Analysis:
    """Return every median and every comparison that the results allow."""
    floors = {case: found for case in results.cases if (found := floor(case.record, results.ceilings))}
    return Analysis(
        results=results,
        latencies={case: stats.median(case.samples, case.blocks) for case in results.cases},
        floors=floors,
        speedups=tuple(_speedups(_heads(results), floors)),
        settings=tuple(sorted({Setting.of(case.record) for case in _heads(results)}, key=Setting.rank)),
        labels=labels(Head.of(record) for record in results.records),
    )


def _heads(results: Results) -> list[Case]:
    """Return the measured cases that compute a head: neither its products alone nor an anchor beside it."""
    return [case for case in results.cases if case.record.computes == "head"]


def labels(heads: Iterable[Head]) -> dict[Head, str]:
    """Return a name for each head: `sparse head`, and in brackets as much as tells it from others of its kind.

    Public models' heads are called by their models.
    """
    distinct = set(heads)
    names = {}
    for head in distinct:
        kin = [other for other in distinct if other.kind == head.kind]
        peers = [other for other in kin if other.public == head.public]
        for detail in _details(head, alone=len(peers) == len(kin)):
            if len({detail(peer) for peer in peers}) == len(peers):
                break
        suffix = detail(head)
        names[head] = f"{head.kind} head ({suffix})" if suffix else f"{head.kind} head"
    return names


def _details(head: Head, alone: bool) -> list[Callable[[Head], str]]:
    """Return what may tell a head from others, the shortest first; nothing need be said of one `alone`."""
    if head.public:
        return [_checkpoint, _everything]
    return [*([_nothing] if alone else []), _shape, _sizes, _checkpoint, _everything]


def _nothing(head: Head) -> str:
    return ""


def _shape(head: Head) -> str:
    return head.shape


def _sizes(head: Head) -> str:
    return f"{head.shape}, {head.features} to {head.classes}"


def _checkpoint(head: Head) -> str:
    return head.checkpoint


def _everything(head: Head) -> str:
    return ", ".join([head.checkpoint, _sizes(head), head.activation, head.backbone])


def _speedups(cases: Iterable[Case], floors: Mapping[Case, Floor]) -> Iterable[Speedup]:
    groups: dict[tuple[Setting, int], list[Case]] = {}
    for case in cases:
        if case.record.rows and case.record.flops:
            groups.setdefault((Setting.of(case.record), case.record.rows), []).append(case)
    for (setting, rows), group in groups.items():
        dense = [case for case in group if case.record.head == "dense"]
        moe: dict[Head, list[Case]] = {}
        for case in group:
            if case.record.head != "dense":
                moe.setdefault(Head.of(case.record), []).append(case)
        for head, members in moe.items() if dense else ():
            matching = rivals(head, members, dense)
            forms, dense_forms = _fastest_by_form(members), _fastest_by_form(matching or dense)
            best_dense = min(dense_forms.values(), key=_median)
            yield Speedup(
                setting=setting,
                head=head,
                rows=rows,
                against_best=tuple(_compare(case, best_dense, floors, bool(matching)) for case in forms.values()),
                same_form=tuple(
                    _compare(case, dense_forms[form], floors, bool(matching))
                    for form, case in forms.items()
                    if form in dense_forms
                ),
            )


def rivals(head: Head, cases: Sequence[Case], dense: Sequence[Case]) -> list[Case]:
    """Return the `dense` cases of the head's size: those interleaved with any of its `cases`, or else all."""
    matching = [case for case in dense if _matched(head, case.record)]
    return [rival for rival in matching if any(rival.interleaved_with(case) for case in cases)] or matching


def _matched(head: Head, dense: CaseRecord) -> bool:
    sizes = (head.features, head.classes, head.experts * head.hidden)
    same_backbone = dense.part == "head" or head.backbone == dense.backbone
    return sizes == (dense.features, dense.classes, dense.hidden) and same_backbone


def _fastest_by_form(cases: Iterable[Case]) -> dict[str, Case]:
    fastest: dict[str, Case] = {}
    for case in sorted(cases, key=_median):
        fastest.setdefault(case.record.form, case)
    return fastest


def _compare(case: Case, base: Case, floors: Mapping[Case, Floor], matched: bool) -> Comparison:
    realised = stats.ratio_of_medians(
        base.samples, base.blocks, case.samples, case.blocks, interleaved=case.interleaved_with(base)
    )
    least, own = floors.get(base), floors.get(case)
    return Comparison(
        case=case,
        base=base,
        matched=matched,
        theoretical=base.record.flops / case.record.flops,
        attainable=least.seconds / own.seconds if least and own else None,
        realised=realised,
        verdict=stats.verdict(realised),
    )


def _median(case: Case) -> float:
    return float(np.median(case.samples))
