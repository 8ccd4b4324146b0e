"""Where the time of a call went, read back from a trace: stages, launches, gaps and the longest operators.

On a CPU a stage's time is the wall time of its ranges, without the ranges nested in them. On a GPU it is the time for
which the work that the stage launched keeps the device busy, whenever that work ran. If no range names a stage, the
names of operators or kernels decide. The rest of the call is `other`, so stages and `other` sum to the call. A profiled
call is slower than a timed one: its shares say where time goes, not how long a call takes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import chain, zip_longest
from pathlib import Path

from bench.errors import BenchError
from bench.execution.stages import CALL, OPERATORS, OTHER, PREFIX, PROVIDER, RANGES, STAGES
from bench.profile.spans import Span, Timeline, in_turn, read_spans, without_overruns
from bench.profile.stage_names import KERNELS, stages_named
from reports.records.profile import Operator, Stage, StagePart, ToldBy

LAUNCHES = ("cuda_runtime", "cuda_driver")
KERNEL_LAUNCH, GRAPH_LAUNCH = "LaunchKernel", "GraphLaunch"
"""In the names of the calls of CUDA and of HIP that start one kernel, and those of a graph."""
DEVICE_WORK = ("kernel", "gpu_memcpy", "gpu_memset")
WRAPPERS = ("Torch-Compiled Region", "## Call CompiledFxGraph")
"""Name prefixes of operators that only wrap the kernels of torch.compile: their self time is Python's."""
_STAGES = {PREFIX + stage: stage for stage in STAGES}


class LostWorkError(BenchError):
    """The profiler lost kernels of every call."""


@dataclass(frozen=True)
class Breakdown:
    """Means over the `calls` of a trace; `parts` has every stage and `other`, `operators` the longest first.

    Calls of which the profiler lost a kernel are not among these: there are `dropped` of them.
    `told_by` says whether ranges or names decided the stages. `host` is the seconds per call that the host works: on a
    GPU from the beginning of the call until its last launch returns, `overlap` of them while the device is busy; on a
    CPU the time outside all operators.
    """

    calls: int
    parts: dict[Stage, StagePart]
    operators: tuple[Operator, ...]
    told_by: ToldBy
    host: float
    overlap: float
    dropped: int = 0

    @property
    def seconds(self) -> float:
        """Seconds per call."""
        return sum(part.seconds for part in self.parts.values())

    @property
    def busy(self) -> float:
        """Seconds per call in which a kernel (GPU) or an operator (CPU) runs."""
        return sum(operator.seconds for operator in self.operators)

    @property
    def gap(self) -> float:
        """Seconds per call in which none runs: the host between launches, Python between operators."""
        return max(0.0, self.seconds - self.busy)  # two sums of the same times may differ in their last digit

    @property
    def launches(self) -> float:
        """Pieces of work started per call."""
        return sum(part.launches for part in self.parts.values())


@dataclass
class _Totals:
    """Nanoseconds and counts over all calls: parts by stage, operators by (name, where)."""

    told_by: ToldBy
    parts: Counter[str] = field(default_factory=Counter)
    launches: Counter[str] = field(default_factory=Counter)
    operators: Counter[tuple[str, str]] = field(default_factory=Counter)
    counts: Counter[tuple[str, str]] = field(default_factory=Counter)
    host: int = 0
    overlap: int = 0

    def stages(self, work: Sequence[Span], ranges: Timeline, started: Sequence[Span | None]) -> list[str]:
        """Return the stage of each piece of `work`, by the range in which it was `started` or by its name."""
        if self.told_by == "names":
            order = sorted(range(len(work)), key=lambda place: work[place].start)
            named = dict(zip(order, stages_named([work[place].name for place in order]), strict=True))
            return [named[place] for place in range(len(work))]
        stages = [_stage(ranges.at(span.start) if span else None) for span in started]
        return [
            KERNELS.get(span.name, OTHER) if stage == OTHER else stage for span, stage in zip(work, stages, strict=True)
        ]


def breakdown(path: Path, *, middle: bool = False) -> Breakdown:
    """Return the mean breakdown of the calls in the trace at `path`, or that of the `middle` call alone.

    The middle call is the one of median length, which a few disturbed calls do not change.

    Raises `BenchError` for a file that is no trace, holds no call, or lost a kernel of every call.
    """
    spans = read_spans(path)
    every = [span for span in spans if span.category == RANGES and span.name == CALL]
    if not every:
        raise BenchError(f"{path} holds no {CALL} range; write the trace with `moegap profile`")
    lost = _lost_launches(spans, every)
    calls = [call for call in every if not any(map(call.holds, lost))]
    if not calls:
        raise LostWorkError(f"{path} lacks kernels of every call, which the profiler lost; profile again")
    sound = calls
    if middle:
        calls = [sorted(calls, key=lambda call: call.end - call.start)[(len(calls) - 1) // 2]]
    work = _work_by_call(spans, calls) if any(span.category in DEVICE_WORK for span in spans) else None
    inside = [[span for span in spans if span.thread == call.thread and call.holds(span)] for call in calls]
    totals = _Totals("ranges" if any(map(_names_stage, chain(*inside))) else "names")
    for place, call in enumerate(calls):
        within = [span.within(call) for span in inside[place]]
        ranges = Timeline([call, *filter(_names_stage, within)])
        if work is None:
            _add_host(totals, call, ranges, list(filter(_does_work, within)))
        else:
            _add_device(totals, call, ranges, work[place])
    return _means(totals, len(calls), len(every) - len(sound))


def _names_stage(span: Span) -> bool:
    return span.category == RANGES and span.name in _STAGES


def _does_work(span: Span) -> bool:
    return span.category == OPERATORS and not span.name.startswith(WRAPPERS)


def _add_host(totals: _Totals, call: Span, ranges: Timeline, operators: list[Span]) -> None:
    """Add a call on a CPU, whose stages and operators ran in the call's own thread."""
    self_times = _add_operators(totals, operators)
    stages = totals.stages(operators, ranges, operators)
    gap = call.end - call.start - sum(self_times)
    if totals.told_by == "ranges":
        for span, nanoseconds in zip(ranges.spans, ranges.self_times(), strict=True):
            totals.parts[_stage(span)] += nanoseconds
    else:
        for stage, nanoseconds in zip(stages, self_times, strict=True):
            totals.parts[stage] += nanoseconds
        totals.parts[OTHER] += gap
    totals.host += gap
    end = call.start
    for operator, stage in sorted(zip(operators, stages, strict=True), key=lambda pair: (pair[0].start, -pair[0].end)):
        if operator.start >= end:
            totals.launches[stage] += 1
            end = operator.end


def _add_device(totals: _Totals, call: Span, ranges: Timeline, work: list[tuple[Span, Span | None]]) -> None:
    """Add a call on a GPU, with its device work and the host's spans that launched it, if the trace has them."""
    latest = 2 * call.end - call.start  # no clock is off by a whole call, which waits for its work
    work = [(span if span.end <= latest else span.within(call), launch) for span, launch in work]
    call = replace(call, end=max([call.end, *(done.end for done, _ in work)]))
    done = in_turn([span.within(call) for span, _ in work])
    busy = _add_operators(totals, done)
    stages = totals.stages([span for span, _ in work], ranges, [launch for _, launch in work])
    for stage, nanoseconds in zip(stages, busy, strict=True):
        totals.launches[stage] += 1
        totals.parts[stage] += nanoseconds
    totals.parts[OTHER] += call.end - call.start - sum(busy)
    launching = replace(call, end=max([call.start, *(launch.end for _, launch in work if launch)])).within(call)
    totals.host += launching.end - launching.start
    totals.overlap += sum(Timeline([span.within(launching) for span in done]).self_times())


def _add_operators(totals: _Totals, spans: list[Span]) -> list[int]:
    """Add operators or device work by name, and return the nanoseconds of each."""
    self_times = Timeline(spans).self_times()
    for span, nanoseconds in zip(spans, self_times, strict=True):
        where = "gpu" if span.category in DEVICE_WORK else span.args.get(PROVIDER, "cpu")
        totals.operators[span.name, where] += nanoseconds
        totals.counts[span.name, where] += 1
    return self_times


def _stage(span: Span | None) -> str:
    return _STAGES.get(span.name, OTHER) if span else OTHER


def _work_by_call(spans: list[Span], calls: list[Span]) -> list[list[tuple[Span, Span | None]]]:
    """Return, for each call, its device work and the host's span that launched it.

    That span is the CUDA call with the same correlation, or else the operator with the same external id. Work without
    either belongs to the call in which it starts, and has no stage.
    """
    launches = {span.args.get("correlation"): span for span in spans if span.category in LAUNCHES}
    operators = {span.args.get("External id"): span for span in spans if span.category in (OPERATORS, RANGES)}
    work: list[list[tuple[Span, Span | None]]] = [[] for _ in calls]
    for span in without_overruns([span for span in spans if span.category in DEVICE_WORK]):
        correlation, external = span.args.get("correlation"), span.args.get("External id")
        launch = launches.get(correlation) if correlation else None
        launch = launch or (operators.get(external) if external else None)
        for call, belonging in zip(calls, work, strict=True):
            if call.holds(launch or span):
                belonging.append((span, launch))
    return work


def _lost_launches(spans: list[Span], calls: list[Span]) -> list[Span]:
    """Return the host's launches in `calls` of kernels that the trace does not have.

    A graph that is replayed in every call launches as many kernels in each, so the fullest one has all of them.
    """
    works = Counter(span.args.get("correlation") for span in spans if span.category in DEVICE_WORK)
    launches = sorted(
        (span for span in spans if span.category in LAUNCHES and span.args.get("correlation")),
        key=lambda span: span.start,
    )
    lost = [span for span in launches if KERNEL_LAUNCH in span.name and not works[span.args["correlation"]]]
    graphs = [span for span in launches if GRAPH_LAUNCH in span.name]
    by_call = [[span for span in graphs if call.holds(span)] for call in calls]
    for replays in zip_longest(*by_call):
        nodes = [(span, works[span.args["correlation"]]) for span in replays if span]
        most = max(number for _, number in nodes)
        lost += [span for span, number in nodes if number < max(most, 1)]
    return lost


def _means(totals: _Totals, calls: int, dropped: int) -> Breakdown:
    def seconds(nanoseconds: int) -> float:
        return nanoseconds / calls * 1e-9

    parts = {
        name: StagePart(seconds=seconds(totals.parts[name]), launches=totals.launches[name] / calls)
        for name in (*STAGES, OTHER)
    }
    operators = tuple(
        Operator(name=name, where=where, seconds=seconds(nanoseconds), count=totals.counts[name, where] / calls)
        for (name, where), nanoseconds in totals.operators.most_common()
    )
    return Breakdown(calls, parts, operators, totals.told_by, seconds(totals.host), seconds(totals.overlap), dropped)
