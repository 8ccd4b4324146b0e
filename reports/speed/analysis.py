"""Each MoE case beside its dense rival: the saving that was counted, the speed-up that was measured.

Cases are compared within a setting and a number of rows. The rival of a head is the dense head with as many
features, classes and hidden units (experts x hidden) and, for a whole classifier, the same backbone. If a setting has
none, any dense head takes its place and the comparison is marked unmatched. Rivals that were measured interleaved with
the head come before others.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from reports.numbers import stats, units
from reports.numbers.groups import grouped
from reports.numbers.stats import Estimate, Verdict
from reports.output.styles import Style, styles
from reports.reading.load import MeasuredCase, Results
from reports.records.record import CaseRecord
from reports.speed.floors import Floor, floor

MADE_ROUTINGS = {  # by evenness
    "balanced": "every expert equally often",
    "uniform": "experts drawn evenly",
    "zipf1": "experts drawn as Zipf(1)",
    "zipf2": "experts drawn as Zipf(2)",
    "hot": "one hot expert",
    "one": "all rows on the same experts",
}
"""Routings that rows can be made for, in words."""
MAP_SUITE = "scale"  # its many heads are shown as one map of break-even
KINDS = ("dense", "sparse", "soft")  # the order in which heads are shown
USUAL_POLICY = "top_k"  # of a sparse head, and of records older than the other policies


@dataclass(frozen=True)
class Setting:
    """What cases must share to be compared, beside the number of rows.

    `routing` is the one that the rows were made for, "" for real rows and for random ones.
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
    passes: str

    @classmethod
    def of(cls, record: CaseRecord) -> Setting:
        """Return the setting a record belongs to."""
        shared: dict[str, Any] = {name: getattr(record, name) for name in cls.__dataclass_fields__}
        return cls(**shared | {"routing": record.routing if record.routing in MADE_ROUTINGS else ""})

    @property
    def usual(self) -> bool:
        """Whether it is a forward pass with warm caches on rows that were not made for a routing."""
        return (self.passes, self.cache, self.routing) == ("forward", "warm", "")

    def rank(self) -> tuple[bool, bool, bool, bool, bool, bool, int, tuple[str, str, str, int]]:
        """Return a sorting key: head before classifier, GPU before CPU, wall before device, float32 first.

        A forward pass comes before training, warm caches before cold ones, and rows as they are before rows made for a
        routing, the most even first. Of one suite most threads come first: that is the machine as a whole.
        """
        return (
            self.part != "head",
            self.device != "cuda",
            self.clock != "wall",
            self.dtype != "float32",
            self.passes != "forward",
            self.cache != "warm",
            ("", *MADE_ROUTINGS).index(self.routing),
            (self.suite, self.dtype, self.device_name, -self.threads),
        )


@dataclass(frozen=True)
class Head:
    """A head, in whatever form it is executed. `kind` is dense, soft or sparse; the sizes are the record's."""

    kind: str
    checkpoint: str
    backbone: str
    features: int
    hidden: int
    experts: int
    k: int
    classes: int
    activation: str
    policy: str  # of a sparse head's routing; "" for others
    public: bool = field(compare=False)  # it has the sizes of a public model, and its checkpoint the model's name

    @classmethod
    def of(cls, record: CaseRecord) -> Head:
        """Return the head a record is about."""
        same = ("checkpoint", "backbone", "features", "hidden", "experts", "k", "classes", "activation")
        return cls(
            kind=record.head,
            policy=(record.policy or USUAL_POLICY) if record.head == "sparse" else "",
            public=bool(record.source),
            **{name: getattr(record, name) for name in same},
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
    """An MoE case and the dense case it is compared with; all ratios are dense / MoE."""

    case: MeasuredCase
    base: MeasuredCase
    matched: bool  # both have one size; a speed-up between unmatched heads says little
    theoretical: float  # of counted operations
    attainable: float | None  # of floors; None if either case has none
    realised: Estimate  # of measured times
    verdict: Verdict


@dataclass(frozen=True)
class Speedup:
    """All comparisons of one MoE head at one number of rows; a form's fastest case stands for it."""

    setting: Setting
    head: Head
    rows: int
    against_best: tuple[Comparison, ...]  # each form against the fastest dense form, in the order of `by_speed`
    same_form: tuple[Comparison, ...]  # each form against the dense head in that form, if there is one

    @property
    def best(self) -> Comparison:
        """The fastest form with full weights, if there is any, against the fastest dense form."""
        return self.against_best[0]


@dataclass(frozen=True)
class Analysis:
    """What the results say.

    `latencies` has the median of each case, `floors` the least time of each that has one, `labels` a short distinct
    name of each head.
    """

    results: Results
    latencies: Mapping[MeasuredCase, Estimate]
    floors: Mapping[MeasuredCase, Floor]
    speedups: tuple[Speedup, ...]
    settings: tuple[Setting, ...]
    labels: Mapping[Head, str]

    def cases(self, setting: Setting) -> list[MeasuredCase]:
        """Return the measured heads of a setting with at least one row, by head and form, fewest rows first."""
        return self._cases.get(setting, [])

    @cached_property
    def _cases(self) -> dict[Setting, list[MeasuredCase]]:
        chosen = [case for case in _heads(self.results) if case.record.rows]
        chosen.sort(key=lambda case: (KINDS.index(case.record.head), case.record.form, case.record.rows))
        return grouped(chosen, lambda case: Setting.of(case.record))

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
        """The settings of a forward pass with warm caches on rows as they are, or all settings if there are none.

        Settings of a break-even map are never among them: the map shows their many heads.
        """
        drawn = [setting for setting in self.settings if setting.suite != MAP_SUITE]
        return [setting for setting in drawn if setting.usual] or drawn

    def heads(self, cases: Iterable[MeasuredCase]) -> list[Head]:
        """Return the heads of these cases, dense heads first, each kind by name."""
        return sorted(
            {Head.of(case.record) for case in cases}, key=lambda head: (KINDS.index(head.kind), self.labels[head])
        )

    def fastest(self, cases: Iterable[MeasuredCase]) -> MeasuredCase:
        """Return the case with the least median, one with full weights if there is any."""
        return min(cases, key=by_speed(self.latencies))

    def of(self, setting: Setting, head: Head) -> list[Speedup]:
        """Return the speed-ups of a head in a setting, fewest rows first."""
        chosen = [speedup for speedup in self.speedups if (speedup.setting, speedup.head) == (setting, head)]
        return sorted(chosen, key=lambda speedup: speedup.rows)


def by_speed(latencies: Mapping[MeasuredCase, Estimate]) -> Callable[[MeasuredCase], tuple[bool, float]]:
    """Return a sorting key: the fastest case first, those with stored weights last, since their precision is lower."""
    return lambda case: (bool(case.record.scheme), latencies[case].value)


def analyse(results: Results) -> Analysis:
    """Return every median and every comparison that the results allow."""
    latencies = {case: stats.median(case.samples, case.blocks) for case in results.cases}
    floors = {case: lowest for case in results.cases if (lowest := floor(case.record, results.ceilings))}
    return Analysis(
        results=results,
        latencies=latencies,
        floors=floors,
        speedups=tuple(_speedups(_heads(results), latencies, floors)),
        settings=tuple(sorted({Setting.of(case.record) for case in _heads(results)}, key=Setting.rank)),
        labels=labels(Head.of(record) for record in results.records),
    )


def _heads(results: Results) -> list[MeasuredCase]:
    """Return the measured cases that compute a whole head, not its products alone or an anchor beside it."""
    return [case for case in results.cases if case.record.computes == "head"]


def labels(heads: Iterable[Head]) -> dict[Head, str]:
    """Return a name for each head: `sparse head`, and in brackets what sets it apart from others of its kind.

    The heads of public models have the names of their models.
    """
    groups = grouped(set(heads), lambda head: (head.kind, head.public))
    names = {}
    for (kind, public), peers in groups.items():
        candidates = list(zip(*(_details(head, alone=(kind, not public) not in groups) for head in peers), strict=True))
        details = next((each for each in candidates if len(set(each)) == len(peers)), candidates[-1])
        for head, detail in zip(peers, details, strict=True):
            names[head] = f"{kind} head ({detail})" if detail else f"{kind} head"
    return names


def _details(head: Head, alone: bool) -> list[str]:
    """Return what may set a head apart from others, the shortest first; a head `alone` of its kind needs nothing."""
    sizes = f"{head.shape}, {head.features} to {head.classes}"
    everything = ", ".join([head.checkpoint, sizes, head.activation, head.backbone])
    if head.public:
        return [head.checkpoint, everything]
    return [*([""] if alone else []), head.shape, sizes, head.checkpoint, everything]


def _speedups(
    cases: Iterable[MeasuredCase], latencies: Mapping[MeasuredCase, Estimate], floors: Mapping[MeasuredCase, Floor]
) -> Iterator[Speedup]:
    counted = [case for case in cases if case.record.rows and case.record.flops]
    for (setting, rows), group in grouped(counted, lambda case: (Setting.of(case.record), case.record.rows)).items():
        heads = grouped(group, lambda case: Head.of(case.record))
        dense = [case for case in group if case.record.head == "dense"]
        for head, members in heads.items() if dense else ():
            if head.kind == "dense":
                continue
            matching = rivals(head, members, dense)
            forms, dense_forms = (_fastest_by_form(side, latencies) for side in (members, matching or dense))
            best_dense, *_ = dense_forms.values()
            matched = bool(matching)
            against_best = tuple(_compare(case, best_dense, floors, matched) for case in forms.values())
            shared = [form for form in forms if form in dense_forms]
            same_form = tuple(_compare(forms[form], dense_forms[form], floors, matched) for form in shared)
            yield Speedup(setting, head, rows, against_best, same_form)


def rivals(head: Head, cases: Sequence[MeasuredCase], dense: Sequence[MeasuredCase]) -> list[MeasuredCase]:
    """Return the `dense` cases of the head's size that are interleaved with its `cases`, or all if none is."""
    matching = [case for case in dense if _matched(head, case.record)]
    return [rival for rival in matching if any(rival.interleaved_with(case) for case in cases)] or matching


def ratio(base: MeasuredCase, case: MeasuredCase) -> Estimate:
    """Return how many times faster `case` is than `base`, block by block if both were measured in the same blocks."""
    return stats.ratio_of_medians(
        base.samples, base.blocks, case.samples, case.blocks, interleaved=case.interleaved_with(base)
    )


def _matched(head: Head, dense: CaseRecord) -> bool:
    sizes = (head.features, head.classes, head.experts * head.hidden)
    same_backbone = dense.part == "head" or head.backbone == dense.backbone
    return sizes == (dense.features, dense.classes, dense.hidden) and same_backbone


def _fastest_by_form(
    cases: Iterable[MeasuredCase], latencies: Mapping[MeasuredCase, Estimate]
) -> dict[str, MeasuredCase]:
    """Return the fastest case of each form, the fastest form first and those with stored weights last."""
    fastest_first = sorted(cases, key=by_speed(latencies))
    forms = grouped(fastest_first, lambda case: case.record.form)
    return {form: same_form[0] for form, same_form in forms.items()}


def _compare(case: MeasuredCase, base: MeasuredCase, floors: Mapping[MeasuredCase, Floor], matched: bool) -> Comparison:
    realised = ratio(base, case)
    least, least_moe = floors.get(base), floors.get(case)
    return Comparison(
        case=case,
        base=base,
        matched=matched,
        theoretical=base.record.flops / case.record.flops,
        attainable=least.seconds / least_moe.seconds if least and least_moe else None,
        realised=realised,
        verdict=stats.verdict(realised),
    )
