"""The suite `targets`: our kernels beside their peers on the paper's head and on large layers.

A target is a threshold on a ratio of two of these cases; `reports.targets` reads them from the result. The most
important contests come first, so that a run that is short of time leaves out the least important ones.

Letters: N rows, E experts, k experts per row.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import torch

from bench.cases.case import Case, Shape
from bench.cases.estimate import estimated_seconds
from bench.cases.measure import measure_group, skipped
from bench.cases.result import Outcome
from bench.subjects import public_layers
from bench.subjects.skew import Skew
from bench.subjects.subject import Subject
from bench.timing.ceilings import measure_ceilings
from bench.timing.precision import dtype_name
from reports.records.record import Cache, Ceilings, ClockName, Group, Status

SUITE, REHEARSAL = "targets", "targets-rehearsal"
PAPER, OLMOE, MIXTRAL, E128, DEEPSEEK = "paper", "olmoe-1b-7b", "mixtral-8x7b", "qwen3-30b-a3b", "deepseek-v3-rank"
GPT_OSS = "gpt-oss-20b"

HEAD_FP32 = ("empty", "triton", "triton_fused", "triton_grouped", "loop", "eager", "masked")
ENGINE = ("onnxruntime_moe", "onnxruntime_moe_graph")
HEAD = (*HEAD_FP32, "grouped_mm")
CEILINGS = ("copy", "peak")
COMPILED = ("compile_grouped_mm", "compile_max")
LARGE = ("empty", "triton", "triton_products", "cublas", "grouped_mm")
FEW_ROWS = ("empty", "copy", "triton", "triton_grouped", "grouped_mm")
STORED = ("triton_fp8_blocks", "triton_mxfp4")
GIVEN = ("triton_given", "moe_ops")
TUNING = ("liger",)
"""Peers that try so many configurations of their own at the first call that they come last."""
OPTIONAL = GIVEN + TUNING
SKEWED = ("triton", "triton_products")
ROTATED = ("triton", "eager")

CPU_HEAD = ("native", "eager", "compile", "grouped_mm", "onnxruntime", "onnxruntime_moe")
CPU_DENSE = ("native", "eager", "compile", "onnxruntime")
CPU_LARGE = ("native", "read", "peak")
CPU_STORED = ("onnxruntime_int8", "onnxruntime_int4")
CPU_SKEWS: tuple[Skew, ...] = ("zipf2", "hot")

View = tuple[ClockName, Cache]
VIEWS: tuple[View, ...] = (("graph", "warm"), ("graph", "cold"), ("wall", "warm"))
CPU_VIEWS: tuple[View, ...] = (("wall", "warm"),)
REHEARSED_VIEWS: tuple[View, ...] = (("wall", "warm"), ("wall", "cold"))


@dataclass(frozen=True)
class Contest:
    """Cases measured interleaved: `forms` of a layer's sparse head at N rows that are spread evenly over the experts.

    `dense` are the forms of the dense head. `skewed` are forms of the sparse head that are also measured on the
    routings `skews`, `rotated` those also measured on copies in turn, to compare with a flush. The widths of a public
    layer are divided by `shrink`.
    """

    layer: str
    rows: int
    dtype: torch.dtype
    forms: tuple[str, ...]
    dense: tuple[str, ...] = ()
    skewed: tuple[str, ...] = ()
    skews: tuple[Skew, ...] = ("zipf1", "hot")
    rotated: tuple[str, ...] = ()
    views: tuple[View, ...] = VIEWS
    shrink: int = 1

    def __str__(self) -> str:
        return f"{self.layer}, {self.rows:,} rows, {dtype_name(self.dtype)}"

    def cases(self, subjects: Sequence[Subject], device: torch.device) -> list[Case]:
        """Return the cases on the sparse and the dense subject of the layer."""
        sparse, dense = subjects
        named: list[tuple[Subject, Skew, tuple[str, ...]]] = [
            (sparse, "balanced", self.forms),
            (dense, "balanced", self.dense),
            *((sparse, skew, self.skewed) for skew in self.skews),
        ]
        views = [(subject, skew, name, view) for subject, skew, names in named for name in names for view in self.views]
        turns: View = (self.views[0][0], "rotated")
        views += [(sparse, "balanced", name, turns) for name in self.rotated]
        return [
            Case(subject, name, Shape("head", self.rows, self.dtype, device, skew, caches), clock)
            for subject, skew, name, (clock, caches) in views
        ]


def plan() -> list[Contest]:
    """Return the contests of a run on a GPU, the most important first."""
    bf16, fp32 = torch.bfloat16, torch.float32
    eager = ("eager",)
    compiled = ("eager", "compile_max")
    return [
        Contest(PAPER, 256, bf16, HEAD + CEILINGS, eager, rotated=ROTATED),
        Contest(E128, 8192, bf16, (*LARGE, *GIVEN, "peak"), skewed=SKEWED),
        Contest(E128, 128, bf16, FEW_ROWS + GIVEN, rotated=ROTATED[:1]),
        *(Contest(PAPER, rows, bf16, HEAD, eager) for rows in (65536, 1, 1024, 16, 64, 4096, 16384)),
        Contest(OLMOE, 8192, bf16, LARGE, skewed=SKEWED),
        Contest(MIXTRAL, 8192, bf16, LARGE),
        Contest(PAPER, 256, bf16, HEAD + CEILINGS + COMPILED, compiled, rotated=ROTATED),
        Contest(E128, 8192, bf16, (*LARGE, *GIVEN, "peak", "compile_grouped_mm"), skewed=SKEWED),
        Contest(DEEPSEEK, 64, bf16, FEW_ROWS + STORED),
        Contest(PAPER, 1024, fp32, HEAD_FP32 + CEILINGS + ENGINE, eager),
        *(Contest(PAPER, rows, fp32, HEAD_FP32, eager) for rows in (1, 65536, 64, 16384)),
        Contest(E128, 32768, bf16, (*LARGE, *GIVEN)),
        Contest(DEEPSEEK, 8192, bf16, LARGE),
        Contest(MIXTRAL, 64, bf16, FEW_ROWS + STORED),
        Contest(PAPER, 65536, bf16, HEAD + COMPILED, compiled),
        Contest(E128, 8192, bf16, (*LARGE, *OPTIONAL, "peak", "compile_grouped_mm"), skewed=SKEWED),
        Contest(E128, 128, bf16, FEW_ROWS + OPTIONAL, rotated=ROTATED[:1]),
        Contest(E128, 32768, bf16, (*LARGE, *OPTIONAL)),
    ]


def cpu_plan() -> list[Contest]:
    """Return the contests of a run on a CPU, the most important first.

    The weights of a layer are about 2 GB, held three times, and widened to float64 for a while. Few rows of gpt-oss
    take bfloat16; for many rows, which few CPUs multiply in bfloat16, it is narrowed to fit into memory.
    """
    fp32, views = torch.float32, CPU_VIEWS
    skewed = {2048: ("native",), 8192: ("native",)}
    return [
        *(
            Contest(PAPER, rows, fp32, CPU_HEAD, CPU_DENSE, skewed.get(rows, ()), CPU_SKEWS, views=views)
            for rows in (1, 256, 8192, 32, 2048, 65536)
        ),
        *(Contest(layer, rows, fp32, CPU_LARGE, views=views) for layer in (OLMOE, E128) for rows in (1, 16, 1024)),
        *(Contest(GPT_OSS, rows, torch.bfloat16, CPU_LARGE[:2], views=views) for rows in (1, 16)),
        Contest(GPT_OSS, 1024, fp32, CPU_LARGE, views=views, shrink=2),
        *(Contest(MIXTRAL, rows, fp32, ("native", *CPU_STORED), views=views, shrink=4) for rows in (1, 16)),
    ]


def rehearsal() -> list[Contest]:
    """Return small contests that take a CPU seconds and hold every kind of case that it can run."""
    fp32, views = torch.float32, REHEARSED_VIEWS
    return [
        Contest(PAPER, 4, fp32, HEAD + CEILINGS, ("eager",), rotated=("eager",), views=views),
        Contest(OLMOE, 3, fp32, LARGE + OPTIONAL, skewed=SKEWED, views=views, shrink=32),
        Contest(OLMOE, 1, fp32, FEW_ROWS + STORED, views=views, shrink=32),
        Contest(PAPER, 2, fp32, ("triton", "masked", *COMPILED), ("eager", "compile_max"), views=views),
    ]


def measure_targets(
    contests: Sequence[Contest],
    suite: str,
    device: torch.device,
    statuses: Mapping[str, Status],
    seconds: float,
    seed: int,
    deadline: float,
    progress: Callable[[str, float], None],
    tell: Callable[[str], None],
) -> Iterator[Ceilings | tuple[Iterable[Outcome], Group | None]]:
    """Measure the contests of which `statuses`, by case id, lack a case, and yield each ceiling and group for a result.

    A contest is measured as a whole, because only cases measured together are compared; a try in which fewer cases get
    a time than have one already is dropped. `seconds` is the sampling time per case. A contest that is not expected to
    end before `deadline`, a value of `time.monotonic`, becomes skipped cases, which the next run tries again.
    `progress` gets the contest in words and the share of it that is done, `tell` a line on each contest.
    """
    ceilings: dict[torch.dtype, Ceilings] = {}
    timed = {case_id for case_id, status in statuses.items() if status is Status.MEASURED}
    for contest, cases in _open(contests, statuses, device):
        late = "no time left" if time.monotonic() >= deadline else ""
        if not late and contest.dtype not in ceilings:
            ceilings[contest.dtype] = measure_ceilings(device, contest.dtype)
            yield ceilings[contest.dtype]
        if not late:
            expected = estimated_seconds([cases], seconds, list(ceilings.values()), steps=False)
            left = deadline - time.monotonic()
            late = f"no time left: about {expected:.0f} s needed, {max(left, 0):.0f} s left" if expected > left else ""
        if late:
            yield skipped([(case, late) for case in cases if case.id not in timed], suite), None
            tell(f"{contest}: {late}")
            continue
        start = time.monotonic()
        outcomes, group = measure_group(
            cases, suite, seconds, seed, partial(progress, str(contest)), steps=False, traces=False, deadline=deadline
        )
        timed_now = {outcome.record.case_id for outcome in outcomes if outcome.record.status is Status.MEASURED}
        timed_before = timed & {case.id for case in cases}
        if len(timed_now) >= len(timed_before):
            timed = timed - timed_before | timed_now
            yield outcomes, group
        taken = time.monotonic() - start
        tell(f"{contest}: {len(timed_now)} of {len(outcomes)} cases timed in {taken:.1f} s")
        for subject in {case.subject for case in cases}:
            subject.runners.clear()  # no other contest can use them
        del cases, subject  # so that no two large layers are in memory at a time


def _open(
    contests: Sequence[Contest], statuses: Mapping[str, Status], device: torch.device
) -> Iterator[tuple[Contest, list[Case]]]:
    """Yield the contests that lack a case, the never measured ones first, with one layer in memory at a time."""
    tried: list[Contest] = []
    for contest in contests:
        _free_memory(device)
        cases = contest.cases(_subjects(contest, device), device)
        known = [statuses.get(case.id) for case in cases]
        if not any(known):
            yield contest, cases
        elif any(status in (None, Status.SKIPPED, Status.FAILED) for status in known):
            tried.append(contest)
        del cases
    for contest in tried:
        _free_memory(device)
        yield contest, contest.cases(_subjects(contest, device), device)


def _free_memory(device: torch.device) -> None:
    """Free the memory of the last contest."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()


def _subjects(contest: Contest, device: torch.device) -> list[Subject]:
    """Return the sparse and the dense head of a contest's layer."""
    return next(public_layers.subjects(device, contest.dtype, contest.shrink, [contest.layer]))
