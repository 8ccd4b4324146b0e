"""The result record: what one measured (or unmeasurable) case says of itself, flat and versioned.

A result is a pytest-benchmark JSON file. Each benchmark's `extra_info` is a `CaseRecord`; its `stats.data` holds the
raw samples in seconds, in the order taken, and `CaseRecord.blocks` the block of each sample. Cases without a time
(they cannot run here, or gave wrong logits) have no benchmark entry: they stand as records in the file's top-level
list `moegap_not_measured`. The lists `moegap_ceilings` and `moegap_groups` say what the machine can do and how each
group of cases was sampled. Nothing here is derived: speed-ups, floors, waterfalls, intervals and verdicts are computed
from it.

A form that can be split is also measured in `step`s, counterfactuals that do a growing part of the call:

    balanced    the experts' products alone, their rows ready and spread evenly over the experts
    products    the same with the rows that each expert really has
    dispatched  and the sorting and gathering of rows for a routing that is given
    given       and the weighted sum: all but routing, of forms that cannot do it apart from the dispatch
    gated       and the gate's scores
    routed      and the choice of experts and their weights
    combined    and the weighted sum: all of the form's own work
    graph       the whole call replayed as a CUDA graph
    replay      a CUDA graph of one empty kernel: what replaying costs, whatever the graph holds

Letters: N rows, D input width, H hidden width of one expert, E experts, C output width, M assignments of a row to an
expert.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

SCHEMA_VERSION = 2  # version 1 had no steps, ceilings, groups, caches nor made routings; it is still read
NOT_MEASURED_KEY = "moegap_not_measured"
CEILINGS_KEY = "moegap_ceilings"
GROUPS_KEY = "moegap_groups"
COMMAND_KEY = "moegap_command"  # beside it, optional: the command line that measured, shown so that it can be repeated

MOST = 10**24
SHORTEST, LONGEST = 1e-12, 1e9
"""Bounds of a timed call in seconds: an account counts whole picoseconds, and no call takes thirty years."""

Count = Annotated[int, Field(ge=0, le=MOST)]
Block = Annotated[int, Field(ge=0, le=10**9)]
Seconds = Annotated[float, Field(ge=0, le=LONGEST, allow_inf_nan=False)]
Rate = Annotated[float, Field(ge=1, le=1e24, allow_inf_nan=False)]
Number = Annotated[float, Field(ge=-1e15, le=1e15, allow_inf_nan=False)]
Deviation = Annotated[float, Field(ge=0, allow_inf_nan=False)]
NotNegative = Annotated[float, Field(ge=0, le=1e15, allow_inf_nan=False)]
Name = Annotated[str, Field(max_length=300, pattern=r"^\P{C}*$")]  # of characters that can be seen
Id = Annotated[str, Field(max_length=1_000, pattern=r"^\P{C}*$")]
Step = Literal["", "balanced", "products", "dispatched", "given", "gated", "routed", "combined", "graph", "replay"]
ClockName = Literal["wall", "device", "graph"]
"""A call as its caller waits, events on the GPU, events around the replay of a CUDA graph that holds the call."""
RowSource = Literal["features", "noise", "balanced", "uniform", "zipf1", "zipf2", "hot", "one"]
Cache = Literal["warm", "cold"]


class Status(StrEnum):
    """What became of a case."""

    MEASURED = "measured"
    WRONG = "wrong"  # the logits missed their tolerance: it has no time
    UNAVAILABLE = "unavailable"  # this form cannot run this head here; `reason` says why
    SKIPPED = "skipped"  # it could run, and was not measured: no memory, no time left; `reason` says why
    FAILED = "failed"  # it raised; `reason` holds the message


class CaseRecord(BaseModel):
    """One case: a head in a form, at a shape, dtype, device, routing and clock. Times in seconds, sizes in bytes."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    schema_version: Literal[1, 2] = 2
    case_id: Id  # unique in a result: checkpoint, head, form, part, rows, dtype, device, routing, cache, clock, step
    group_id: Id  # cases measured interleaved in one go share it; only these are paired by block
    suite: Name
    status: Status
    reason: str = ""  # one sentence, for every status but measured

    checkpoint: Name  # its folder's name; `paper-dense` and the like for freshly initialised heads
    weights: Literal["trained", "initialised"]
    weights_sha256: Name = ""  # of a checkpoint's model.safetensors; "" for initialised heads
    data: str  # what the head was trained on; "" when initialised
    test_accuracy: Annotated[float, Field(ge=0, le=1)] | None = None
    head: Literal["dense", "soft", "sparse"]
    policy: Name = ""  # by which a sparse head routes; "" for other heads, and in results of top_k heads from before it
    form: Name
    computes: Literal["head", "products", "nothing"] = "head"  # "products": of the experts alone; "nothing": an anchor
    step: Step = ""  # "" for the whole call
    part: Literal["head", "classifier"]  # the head alone, or backbone and head
    backbone: Name
    rows: Count  # N
    features: Count  # D
    hidden: Count  # H
    experts: Count  # E; 1 for dense
    k: Count  # experts run per row, at most where a policy lets it vary: 1 dense, E soft, k sparse
    classes: Count  # C
    activation: Name
    source: str = ""  # where the sizes of a public model's layer stand
    shrunk: str = ""  # by which factor its widths were divided to fit this machine, in words; "" for none
    dtype: Literal["float32", "float16", "bfloat16"]
    device: Literal["cpu", "cuda"]
    clock: ClockName
    cache: Cache = "warm"  # "cold": what the call reads was driven from the caches before every sample

    # Where the rows come from: "features" (real ones, kept with the checkpoint), "noise" (drawn), or rows made so that
    # the gate sends them to all experts in turn ("balanced"), to experts drawn evenly ("uniform") or by 1 / rank or
    # 1 / rank^2 ("zipf1", "zipf2"), to one expert and others in turn ("hot"), or to the same k experts ("one"); dense
    # and soft heads measured beside such a sparse head say the same and keep their own rows.
    routing: RowSource
    rows_per_expert: list[Count] = []  # (E,) assignments of these N rows; empty for dense
    load_cv: NotNegative | None = None  # of it: standard deviation / mean
    distinct_experts: Count | None = None  # of it: how many serve any row
    assignments: Count | None = None  # M of these N rows, all of which `flops` counts; None for dense or not counted

    parameters: Count  # of the part measured
    flops: Count  # of the part measured, for N rows, counted, padding not included; a bound where M was not counted
    least_bytes: Count | None  # that the head must move for N rows; None for a whole classifier

    launches: Count | None = None  # kernels one call starts; this and the next two only where a form counts its work
    executed_flops: Count | None = None  # padding of tiles included
    requested_bytes: Count | None = None  # read and written by all programs, whichever memory serves them
    operators: Count | None = None  # eager operators that one call runs, views not counted; None for compiled forms
    # Seconds per call by stage (route, dispatch, experts, combine, fused, other) as the profiler or the engine's own
    # profile sees them in a pass of its own, which is slower than a timed call.
    traced: dict[Name, Seconds] = {}
    # "ranges": by the form's own named stages; "names": by names of operators, where a gate counts among the experts.
    traced_by: Literal["", "ranges", "names"] = ""

    error: Deviation | None = None  # greatest relative deviation from the float64 reference
    tolerance: Deviation | None = None
    checked_rows: Count | None = None  # rows compared with the reference, where they are not all N
    ambiguous_rows: Count = 0  # rows of which float32 cannot decide two or more assignments; left out of `error`

    cold_start: Seconds | None = None  # preparing the form and its first call: compilation, export, loading
    peak_memory: Count | None = None  # bytes above the resting level in one call, from a pass of its own
    blocks: list[Block] = []  # block of each sample
    stopped_by: Literal["", "interval", "blocks", "time"] = ""  # what ended the sampling
    joules_per_thousand_rows: NotNegative | None = None  # of a GPU's board
    runs_on: dict[Name, str] = {}  # what the runner says it ran on: device, provider, library version, kernel options

    measured_at: str  # ISO 8601, UTC
    device_name: Name  # the GPU's name, or the CPU's
    cpu: Name
    threads: Count
    thread_wait: Name = ""  # OMP_WAIT_POLICY: PASSIVE threads sleep between products, ACTIVE ones spin
    load_1m: Number | None = None  # the machine's load average when the group began
    gpu_clock_mhz: Number | None = None
    gpu_temperature_c: Number | None = None
    gpu_power_w: Number | None = None
    driver: Name = ""
    versions: dict[Name, str] = {}  # python, torch, triton, onnxruntime, numpy, moegap
    commit: Name = ""
    dirty: bool | None = None


class Copy(BaseModel):
    """A copy between two buffers: the bytes of both together, and how many of them were read or written a second."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    working_set: Annotated[int, Field(gt=0, le=MOST)]
    bytes_per_s: Rate


class Ceilings(BaseModel):
    """What this machine can do, measured in the run itself: the least time of many, for one device and dtype."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    device: Literal["cpu", "cuda"]
    device_name: Name
    cpu: Name
    threads: Count
    thread_wait: Name = ""
    dtype: Literal["float32", "float16", "bfloat16"]
    measured_at: str  # ISO 8601, UTC
    versions: dict[Name, str] = {}
    samples: Count  # timings behind each number, at least

    flops_per_s: Rate  # of the best large product
    product: Name  # its sizes, as `M x K x N`
    copies: list[Copy]  # smallest working set first, the last one far beyond the caches
    launch: Seconds  # one empty kernel on a GPU; the cheapest eager operator on a CPU
    operator: Seconds  # of host work per eager operator, on one element
    parallel: Seconds | None = None  # beyond `operator`, of the smallest operator that a CPU splits over its threads
    graph_replay: Seconds | None = None  # a CUDA graph of one empty kernel


class Group(BaseModel):
    """How one group of cases was sampled."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    group_id: Id
    anchor: list[Seconds]  # an unchanged piece of work, measured in each block: what moves it is the machine
    throttled: list[int] = []  # blocks in which a GPU lowered its clock; their samples are kept
    clock_mhz: list[Number] = []  # of a GPU, after each block
    power_w: list[Number] = []
    wall: Seconds  # from the group's beginning to its end
    sampling: Seconds  # of it inside timed calls
    cold_start: Seconds  # of it preparing forms, which is measured too
