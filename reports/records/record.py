"""The result record: everything that is known of one case, measured or not, flat and versioned.

A result is a pytest-benchmark JSON file. Each benchmark's `extra_info` is a `CaseRecord`; its `stats.data` holds the
raw samples in seconds, in the order taken, and `CaseRecord.blocks` the block of each sample. Cases without a time
(they cannot run here, or gave wrong logits) have no benchmark entry; their records are in the file's top-level list
`moegap_not_measured`. The lists `moegap_ceilings` and `moegap_groups` say what the machine can do and how each group
of cases was sampled. Nothing here is derived: speed-ups, floors, waterfalls, intervals and verdicts are computed from
it.

A form that can be split is also measured in `step`s: counterfactuals, each of which does more of the call. They stand
in the top-level list `moegap_steps`, written as benchmarks are, or among the benchmarks in files of older versions:

    balanced    the experts' products alone, on prepared rows spread evenly over the experts
    products    the same with the rows that each expert really has
    dispatched  plus sorting and gathering rows for a given routing
    given       plus the weighted sum: all but routing, for forms that cannot route apart from the dispatch
    gated       plus the gate's scores
    routed      plus the choice of experts and their weights
    combined    plus the weighted sum: all of the form's work
    graph       the whole call replayed as a CUDA graph
    replay      a CUDA graph of one empty kernel: the cost of a replay, whatever the graph holds

Letters: N rows, D input width, H hidden width of one expert, E experts, C output width, M assignments of a row to an
expert.
"""

from __future__ import annotations

from collections import Counter
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BaseModel, BeforeValidator, Field, model_validator

from reports.records.fields import LONGEST, MOST, Count, Label, Schema, check_moment, moment, no_newer_than
from reports.records.summary import Summary

SCHEMA_VERSION = 2  # version 1 had no steps, ceilings, groups, caches nor made routings; it is still read
NOT_MEASURED_KEY = "moegap_not_measured"
STEPS_KEY = "moegap_steps"
CEILINGS_KEY = "moegap_ceilings"
GROUPS_KEY = "moegap_groups"
COMMAND_KEY = "moegap_command"  # optional: the command line that measured, shown so that it can be repeated

SHORTEST = 1e-12
"""The shortest timed call in seconds: an account counts whole picoseconds."""

BlockNumber = Annotated[int, Field(ge=0, le=10**9)]
Seconds = Annotated[float, Field(ge=0, le=LONGEST, allow_inf_nan=False)]
Rate = Annotated[float, Field(ge=1, le=1e24, allow_inf_nan=False)]
Reading = Annotated[float, Field(ge=-1e15, le=1e15, allow_inf_nan=False)]
RelativeError = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Amount = Annotated[float, Field(ge=0, le=1e15, allow_inf_nan=False)]
Id = Annotated[str, Field(max_length=1_000, pattern=r"^\P{C}*$")]
Step = Literal["", "balanced", "products", "dispatched", "given", "gated", "routed", "combined", "graph", "replay"]
ClockName = Literal["wall", "device", "graph"]
"""The time that a caller waits; between GPU events around the call; the same around replays of CUDA graphs."""
RowSource = Literal["features", "noise", "balanced", "uniform", "zipf1", "zipf2", "hot", "one"]
Cache = Literal["warm", "cold", "rotated"]
Passes = Literal["forward", "training"]
"""A forward pass for inference; or forward and backward, with the gradients of the rows and of all parameters."""


class Status(StrEnum):
    """What became of a case."""

    MEASURED = "measured"
    WRONG = "wrong"  # the logits missed their tolerance: it has no time
    UNAVAILABLE = "unavailable"  # this form cannot run this head here; `reason` says why
    SKIPPED = "skipped"  # it could run, and was not measured: no memory, no time left; `reason` says why
    FAILED = "failed"  # it raised; `reason` holds the message


class CaseRecord(BaseModel, extra="forbid", frozen=True):
    """One case: a head in a form, at a shape, dtype, device, routing and clock. Times in seconds, sizes in bytes."""

    schema_version: Annotated[Literal[1, 2], no_newer_than(SCHEMA_VERSION)] = 2
    # unique in a result: checkpoint, head, form, part, rows, dtype, device, passes, routing, cache, clock, step
    case_id: Id
    group_id: Id  # cases measured interleaved in one go share it; only these are paired by block
    suite: Label
    status: Status
    reason: str = ""  # one sentence, for every status but measured

    checkpoint: Label  # its folder's name; `paper-dense` and the like for freshly initialised heads
    weights: Literal["trained", "initialised"]
    weights_sha256: Label = ""  # of a checkpoint's model.safetensors; "" for initialised heads
    data: str  # what the head was trained on; "" when initialised
    test_accuracy: Annotated[float, Field(ge=0, le=1)] | None = None
    head: Literal["dense", "soft", "sparse"]
    policy: Label = ""  # of a sparse head; "" for other heads, and for top_k heads in old results
    form: Label
    computes: Literal["head", "products", "nothing"] = "head"  # "products": of the experts alone; "nothing": an anchor
    scheme: Label = ""  # how the form stores the experts' weights in fewer bits than `dtype`; "" for full weights
    step: Step = ""  # "" for the whole call
    part: Literal["head", "classifier"]  # the head alone, or backbone and head
    backbone: Label
    rows: Count  # N
    features: Count  # D
    hidden: Count  # H
    experts: Count  # E; 1 for dense
    k: Count  # experts per row, the most if a policy lets it vary: 1 dense, E soft, k sparse
    classes: Count  # C
    activation: Label
    source: str = ""  # where the sizes of a public model's layer are published
    shrunk: str = ""  # by which factor its widths were divided to fit this machine, in words; "" for none
    dtype: Literal["float32", "float16", "bfloat16"]
    device: Literal["cpu", "cuda"]
    clock: ClockName
    # "cold": the caches were flushed before every sample, by a write whose lines are written back in the timed call;
    # "rotated": each call has its own copy of rows and weights, and all together exceed the caches, so none is written
    cache: Cache = "warm"
    passes: Passes = "forward"

    # Where the rows come from: "features" (real ones, kept with the checkpoint), "noise" (drawn), or made so that the
    # gate sends them to all experts in turn ("balanced"), to experts drawn evenly ("uniform") or by 1 / rank or
    # 1 / rank^2 ("zipf1", "zipf2"), to one expert and others in turn ("hot"), or to the same k experts ("one"). Dense
    # and soft heads beside such a sparse head carry the same word but are measured on ordinary rows.
    routing: RowSource
    rows_per_expert: list[Count] = []  # (E,) assignments of these N rows; empty for dense
    load_cv: Amount | None = None  # of rows_per_expert: standard deviation / mean
    distinct_experts: Count | None = None  # how many experts serve any row
    assignments: Count | None = None  # M of these N rows, which `flops` counts; None for dense, or if not counted

    parameters: Count  # of the part measured
    flops: Count  # of the part and passes measured, for N rows, without padding; a bound if M was not counted
    least_bytes: Count | None  # the least that the head must move for N rows; None for a whole classifier

    launches: Count | None = None  # kernels per call; this and the next two only if a form counts its work
    executed_flops: Count | None = None  # with the padding of tiles
    requested_bytes: Count | None = None  # read and written by all programs, from whatever memory
    operators: Count | None = None  # eager operators per call, without views; None for compiled forms
    # Seconds per call by stage (route, dispatch, experts, combine, fused, other), by the profiler or the engine's
    # profile, in a separate pass that is slower than a timed call.
    traced: dict[Label, Seconds] = {}
    # "ranges": stages that the form names; "names": by names of operators, so that a gate counts among the experts.
    traced_by: Literal["", "ranges", "names"] = ""

    error: RelativeError | None = None  # greatest relative deviation from the float64 reference
    tolerance: RelativeError | None = None
    # What a `scheme` costs: the norm of the outputs' error over that of the outputs, in float64 with rounded and with
    # full weights. Of a form that stores weights, `error` is the deviation from outputs with rounded weights.
    storage_error: RelativeError | None = None
    gradient_error: RelativeError | None = None  # of the worst gradient, by root mean squares; in training only
    gradient_tolerance: RelativeError | None = None
    checked_rows: Count | None = None  # rows compared with the reference, if not all N
    ambiguous_rows: Count = 0  # rows with two or more assignments that float32 cannot decide; not in `error`

    cold_start: Seconds | None = None  # preparing the form, and its first call: compilation, export, loading
    peak_memory: Count | None = None  # bytes above the resting level during one call, from a separate pass
    blocks: list[BlockNumber] = []  # block of each sample
    # On the clock "graph", calls by which the longer of two graphs exceeds the other: a sample is their share of the
    # difference. 0 if a sample is the replay of one call, as with a flush and in older files.
    further_calls: Count = 0
    replay_offsets: list[Reading] = []  # of each sample: seconds of a replay beside its calls
    stopped_by: Literal["", "interval", "blocks", "time"] = ""  # what ended the sampling
    joules_per_thousand_rows: Amount | None = None  # of the GPU's board
    runs_on: dict[Label, str] = {}  # as the runner reports it: device, provider, library version, kernel options

    measured_at: str  # ISO 8601, UTC
    device_name: Label  # the GPU's name, or the CPU's
    cpu: Label
    threads: Count
    thread_wait: Label = ""  # OMP_WAIT_POLICY: PASSIVE threads sleep between products, ACTIVE ones spin
    load_1m: Reading | None = None  # the machine's load average when the group began
    gpu_clock_mhz: Reading | None = None
    gpu_temperature_c: Reading | None = None
    gpu_power_w: Reading | None = None
    driver: Label = ""
    versions: dict[Label, str] = {}  # python, torch, triton, onnxruntime, numpy, moegap
    commit: Label = ""
    dirty: bool | None = None

    @property
    def identity(self) -> tuple[str, str, str, int]:
        """What makes it the same case in another file: its id, and its machine with its threads."""
        return (self.case_id, self.device_name, self.cpu, self.threads)

    @property
    def moment(self) -> datetime:
        """When it was measured; a time without a zone counts as UTC."""
        return moment(self.measured_at)


class Copy(BaseModel, extra="forbid", frozen=True):
    """A copy between two buffers: the bytes of both together, and how many were read or written per second."""

    working_set: Annotated[int, Field(gt=0, le=MOST)]
    bytes_per_s: Rate


class Ceilings(BaseModel, extra="forbid", frozen=True):
    """What this machine can do on one device in one dtype, measured during the run; each number is the best of many."""

    device: Literal["cpu", "cuda"]
    device_name: Label
    cpu: Label
    threads: Count
    thread_wait: Label = ""
    dtype: Literal["float32", "float16", "bfloat16"]
    measured_at: str  # ISO 8601, UTC
    versions: dict[Label, str] = {}
    samples: Count  # timings behind each number, at least

    flops_per_s: Rate  # of the best large product
    product: Label  # its sizes, as `M x K x N`
    copies: list[Copy]  # smallest working set first, the last one far beyond the caches
    read: Rate | None = None  # bytes/s of only reading, far beyond the caches
    launch: Seconds  # one empty kernel on a GPU; the cheapest eager operator on a CPU
    operator: Seconds  # of host work per eager operator, on one element
    parallel: Seconds | None = None  # extra time of the smallest operator that a CPU splits over its threads
    graph_replay: Seconds | None = None  # a CUDA graph of one empty kernel

    @property
    def moment(self) -> datetime:
        """When it was measured; a time without a zone counts as UTC."""
        return moment(self.measured_at)


class Group(BaseModel, extra="forbid", frozen=True):
    """How one group of cases was sampled."""

    group_id: Id
    anchor: list[Seconds]  # the same work in each block: if its time moves, the machine changed
    throttled: list[int] = []  # blocks in which the GPU lowered its clock; their samples are kept
    clock_mhz: list[Reading] = []  # of a GPU, after each block
    power_w: list[Reading] = []
    wall: Seconds  # from the group's beginning to its end
    sampling: Seconds  # of that inside timed calls
    cold_start: Seconds  # of that preparing forms, which is measured too


def is_record(entry: object) -> bool:
    """Return whether a benchmark is a case of moegap."""
    extra_info = entry.get("extra_info") if isinstance(entry, dict) else None
    return isinstance(extra_info, dict) and "case_id" in extra_info


def _check_record(record: CaseRecord) -> CaseRecord:
    check_moment(record.measured_at)
    if record.rows_per_expert and len(record.rows_per_expert) != record.experts:
        counts = f"{len(record.rows_per_expert)} numbers of rows for {record.experts} experts"
        raise ValueError(f"{counts}, one for each is needed")
    if record.replay_offsets and len(record.replay_offsets) != len(record.blocks):
        raise ValueError(f"{len(record.replay_offsets)} offsets of {len(record.blocks)} samples")
    return record


def _check_without_time(record: CaseRecord) -> CaseRecord:
    if record.status is Status.MEASURED:
        raise ValueError("it is called measured but has no samples")
    return record


def _check_ceilings(ceilings: Ceilings) -> Ceilings:
    check_moment(ceilings.measured_at)
    sizes = [copy.working_set for copy in ceilings.copies]
    if not sizes or sizes != sorted(set(sizes)):
        raise ValueError("it needs copies of growing working sets")
    return ceilings


def _check_group(group: Group) -> Group:
    if not all(0 <= block < len(group.anchor) for block in group.throttled):
        raise ValueError("it marks a block it has not")
    return group


Record = Annotated[CaseRecord, AfterValidator(_check_record)]
Samples = Annotated[tuple[Annotated[Seconds, Field(ge=SHORTEST)], ...], Field(min_length=1)]


class Statistics(Schema):
    """What is read of pytest-benchmark's statistics: the samples, or their `summary` if the file was saved without."""

    data: Samples = ()
    summary: Summary | None = None

    @model_validator(mode="before")
    @classmethod
    def _summarise(cls, stats: object) -> object:
        return {"summary": stats} if isinstance(stats, dict) and "data" not in stats else stats

    @property
    def rounds(self) -> int:
        """How many samples there are or were."""
        return self.summary.rounds if self.summary else len(self.data)


class TimedCase(Schema):
    """A benchmark of a case."""

    extra_info: Record
    stats: Statistics

    @model_validator(mode="after")
    def _check_samples(self) -> Self:
        record, samples = self.extra_info, self.stats.rounds
        if record.status is not Status.MEASURED:
            raise ValueError(f"it has samples though it is {record.status}")
        if samples != len(record.blocks):
            raise ValueError(f"{samples} samples and {len(record.blocks)} block numbers, one for each is needed")
        return self


class BenchmarkFile(Schema):
    """A whole result; benchmarks of others are passed over, and files of version 1 have no ceilings and no groups."""

    benchmarks: list[Annotated[TimedCase | None, BeforeValidator(lambda entry: entry if is_record(entry) else None)]]
    not_measured: list[Annotated[Record, AfterValidator(_check_without_time)]] = Field(
        [], validation_alias=NOT_MEASURED_KEY
    )
    steps: list[TimedCase] = Field([], validation_alias=STEPS_KEY)
    ceilings: list[Annotated[Ceilings, AfterValidator(_check_ceilings)]] = Field([], validation_alias=CEILINGS_KEY)
    groups: list[Annotated[Group, AfterValidator(_check_group)]] = Field([], validation_alias=GROUPS_KEY)
    command: str = Field("", validation_alias=COMMAND_KEY, max_length=100_000, pattern=r"^[^\p{C}\p{Zl}\p{Zp}]*$")

    @property
    def timed(self) -> list[TimedCase]:
        """The cases and steps that have a time; older files list steps among the benchmarks."""
        return [*(entry for entry in self.benchmarks if entry is not None), *self.steps]

    @model_validator(mode="after")
    def _check_once(self) -> Self:
        records = [*(entry.extra_info for entry in self.timed), *self.not_measured]
        cases = Counter(record.identity for record in records)
        groups = Counter(group.group_id for group in self.groups)
        twice = [f"the case {identity[0]}" for identity, times in cases.items() if times > 1]
        twice += [f"the group {name}" for name, times in groups.items() if times > 1]
        if twice:
            raise ValueError(f"it holds {twice[0]} twice")
        return self
