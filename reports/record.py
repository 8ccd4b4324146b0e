"""The result record: what one measured (or unmeasurable) case says of itself, flat and versioned.

A result is a pytest-benchmark JSON file. Each benchmark's `extra_info` is a `CaseRecord`; its `stats.data` holds the
raw samples in seconds, in the order taken, and `CaseRecord.blocks` the block of each sample. Cases without a time
(they cannot run here, or gave wrong logits) have no benchmark entry: they stand as records in the file's top-level
list `moegap_not_measured`. Nothing here is derived: speed-ups, intervals and verdicts are computed from it.

Letters: N rows, D input width, H hidden width of one expert, E experts, C output width, M assignments of a row to an
expert.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

SCHEMA_VERSION = 1
NOT_MEASURED_KEY = "moegap_not_measured"
COMMAND_KEY = "moegap_command"  # beside it, optional: the command line that measured, shown so that it can be repeated

Count = Annotated[int, Field(ge=0)]
Seconds = Annotated[float, Field(ge=0, allow_inf_nan=False)]


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

    schema_version: Literal[1] = 1
    case_id: str  # unique in a result: head-form-part-n<rows>-dtype-device-clock, prefixed by the checkpoint's name
    group_id: str  # cases measured interleaved in one go share it; only these are paired by block
    suite: str
    status: Status
    reason: str = ""  # one sentence, for every status but measured

    checkpoint: str  # its folder's name; `paper-dense` and the like for freshly initialised heads
    weights: Literal["trained", "initialised"]
    weights_sha256: str = ""  # of a checkpoint's model.safetensors; "" for initialised heads
    data: str  # what the head was trained on; "" when initialised
    test_accuracy: Annotated[float, Field(ge=0, le=1)] | None = None
    head: Literal["dense", "soft", "sparse"]
    policy: str = ""  # by which a sparse head routes; "" for other heads, and in results of top_k heads from before it
    form: str
    part: Literal["head", "classifier"]  # the head alone, or backbone and head
    backbone: str
    rows: Count  # N
    features: Count  # D
    hidden: Count  # H
    experts: Count  # E; 1 for dense
    k: Count  # experts run per row, at most where a policy lets it vary: 1 dense, E soft, k sparse
    classes: Count  # C
    activation: str
    dtype: Literal["float32", "float16", "bfloat16"]
    device: Literal["cpu", "cuda"]
    clock: Literal["wall", "device"]

    routing: str  # where the rows come from: "features" (real ones, kept with the checkpoint) or "noise" (drawn)
    rows_per_expert: list[int] = []  # (E,) assignments of these N rows; empty for dense
    assignments: Count | None = None  # M of these N rows, all of which `flops` counts; None for dense or not counted

    parameters: Count  # of the part measured
    flops: Count  # of the part measured, for N rows, counted, padding not included; a bound where M was not counted
    least_bytes: Count | None  # that the head must move for N rows; None for a whole classifier

    launches: Count | None = None  # kernels one call starts; this and the next two only where a form counts its work
    executed_flops: Count | None = None  # padding of tiles included
    requested_bytes: Count | None = None  # read and written by all programs, whichever memory serves them

    error: float | None = None  # greatest relative deviation from the float64 reference
    tolerance: float | None = None
    ambiguous_rows: Count = 0  # rows of which float32 cannot decide two or more assignments; left out of `error`

    cold_start: Seconds | None = None  # preparing the form and its first call: compilation, export, loading
    peak_memory: Count | None = None  # bytes above the resting level in one call, from a pass of its own
    blocks: list[int] = []  # block of each sample
    stopped_by: Literal["", "blocks", "time"] = ""  # what ended the sampling
    runs_on: dict[str, str] = {}  # what the runner says it ran on: device, provider, library version, kernel options

    measured_at: str  # ISO 8601, UTC
    device_name: str  # the GPU's name, or the CPU's
    cpu: str
    threads: Count
    thread_wait: str = ""  # OMP_WAIT_POLICY: PASSIVE threads sleep between products, ACTIVE ones spin
    load_1m: float | None = None  # the machine's load average when the group began
    gpu_clock_mhz: float | None = None
    gpu_temperature_c: float | None = None
    driver: str = ""
    versions: dict[str, str] = {}  # python, torch, triton, onnxruntime, numpy, moegap
    commit: str = ""
    dirty: bool | None = None
