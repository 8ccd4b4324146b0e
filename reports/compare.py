"""Each MoE case beside its dense rival: the saving that was counted, the speed-up that was measured.

Cases are compared within a setting and a number of rows. The rival of a head is the dense head with as many
features, classes and hidden units (experts x hidden) and, for a whole classifier, the same backbone; where a setting
has none, any dense head takes its place and the comparison is marked unmatched.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from reports import stats
from reports.load import Case, Results
from reports.record import CaseRecord
from reports.stats import Estimate, Verdict

KINDS = ("dense", "sparse", "soft")  # the order in which heads are shown
USUAL_POLICY = "top_k"  # of a sparse head, and of records from before there were others


@dataclass(frozen=True)
class Setting:
    """What cases must share to be compared, apart from the number of rows."""

    suite: str
    part: str
    dtype: str
    device: str
    clock: str
    device_name: str
    threads: int

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
        )

    def rank(self) -> tuple[bool, bool, bool, bool, tuple[str, str, str, int]]:
        """Return a sorting key: head before classifier, GPU before CPU, wall before device, float32 first."""
        names = (self.suite, self.dtype, self.device_name, self.threads)
        return (self.part != "head", self.device != "cuda", self.clock != "wall", self.dtype != "float32", names)


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
    """An MoE case and the dense case it is held against; both ratios are dense / MoE."""

    case: Case
    base: Case
    matched: bool  # equal sizes; a speed-up between unmatched heads says little
    theoretical: float
    realised: Estimate
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
    """What the results say. `latencies` has the median of each case, `labels` a short distinct name of each head."""

    results: Results
    latencies: Mapping[Case, Estimate]
    speedups: tuple[Speedup, ...]
    settings: tuple[Setting, ...]
    labels: Mapping[Head, str]

    def cases(self, setting: Setting) -> list[Case]:
        """Return the measured cases of a setting with at least one row, by head and form, fewest rows first."""
        chosen = [case for case in self.results.cases if Setting.of(case.record) == setting and case.record.rows]
        return sorted(chosen, key=lambda case: (KINDS.index(case.record.head), case.record.form, case.record.rows))

    def of(self, setting: Setting, head: Head) -> list[Speedup]:
        """Return the speed-ups of a head in a setting, fewest rows first."""
        chosen = [speedup for speedup in self.speedups if (speedup.setting, speedup.head) == (setting, head)]
        return sorted(chosen, key=lambda speedup: speedup.rows)


def analyse(results: Results) -> Analysis:
    """Return every median and every comparison that the results allow."""
    return Analysis(
        results=results,
        latencies={case: stats.median(case.samples, case.blocks) for case in results.cases},
        speedups=tuple(_speedups(results.cases)),
        settings=tuple(sorted({Setting.of(case.record) for case in results.cases}, key=Setting.rank)),
        labels=labels(Head.of(record) for record in results.records),
    )


def labels(heads: Iterable[Head]) -> dict[Head, str]:
    """Return a name for each head: `sparse head`, and in brackets as much as tells it from others of its kind."""
    distinct = set(heads)
    names = {}
    for head in distinct:
        rivals = [other for other in distinct if other.kind == head.kind]
        for detail in (_nothing, _shape, _checkpoint, _everything):
            if len({detail(rival) for rival in rivals}) == len(rivals):
                break
        suffix = detail(head)
        names[head] = f"{head.kind} head ({suffix})" if suffix else f"{head.kind} head"
    return names


def _nothing(head: Head) -> str:
    return ""


def _shape(head: Head) -> str:
    return head.shape


def _checkpoint(head: Head) -> str:
    return head.checkpoint


def _everything(head: Head) -> str:
    widths = f"{head.features} to {head.classes}"
    return ", ".join([head.checkpoint, head.shape, widths, head.activation, head.backbone])


def _speedups(cases: Iterable[Case]) -> Iterable[Speedup]:
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
            matching = [case for case in dense if _matched(head, case.record)]
            forms, dense_forms = _fastest_by_form(members), _fastest_by_form(matching or dense)
            best_dense = min(dense_forms.values(), key=_median)
            yield Speedup(
                setting=setting,
                head=head,
                rows=rows,
                against_best=tuple(_compare(case, best_dense, bool(matching)) for case in forms.values()),
                same_form=tuple(
                    _compare(case, dense_forms[form], bool(matching))
                    for form, case in forms.items()
                    if form in dense_forms
                ),
            )


def _matched(head: Head, dense: CaseRecord) -> bool:
    sizes = (head.features, head.classes, head.experts * head.hidden)
    same_backbone = dense.part == "head" or head.backbone == dense.backbone
    return sizes == (dense.features, dense.classes, dense.hidden) and same_backbone


def _fastest_by_form(cases: Iterable[Case]) -> dict[str, Case]:
    fastest: dict[str, Case] = {}
    for case in sorted(cases, key=_median):
        fastest.setdefault(case.record.form, case)
    return fastest


def _compare(case: Case, base: Case, matched: bool) -> Comparison:
    realised = stats.ratio_of_medians(
        base.samples, base.blocks, case.samples, case.blocks, interleaved=case.interleaved_with(base)
    )
    return Comparison(
        case=case,
        base=base,
        matched=matched,
        theoretical=base.record.flops / case.record.flops,
        realised=realised,
        verdict=stats.verdict(realised),
    )


def _median(case: Case) -> float:
    return float(np.median(case.samples))
