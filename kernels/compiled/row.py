"""What the compiler made of one kernel, and what is wrong with it."""

import math
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from kernels.compiled.job import Job
from kernels.compiled.machine_code import MachineCode, Step, disassembled, logged, ptxas, remarks, usage
from kernels.compiled.targets import FASTEST, TARGETS, AmdCode

TENSOR_CORES = {"wgmma": "wgmma.mma_async", "tcgen05": "tcgen05.mma", "mma": "mma.sync"}
"""The tensor-core instructions and their names in PTX."""

COPIES = {"tma": "cp.async.bulk.tensor", "cp.async": "cp.async.c"}
"""Asynchronous copies to shared memory and their names in PTX: whole tiles by descriptor, or 4 to 16 bytes a thread."""

LONGEST = 8192
"""Instructions, of 16 bytes each, that 128 KiB of an instruction cache hold."""

RATE = {"half": 2048, "fp32": 1024}
"""Multiplications with additions of the tensor cores of one H100 multiprocessor in a cycle; fp32 as tf32."""

NARROW = 128
"""Columns of a wgmma below which a step is too short for its copies to be issued meanwhile."""

MOST_BARRIERS = 6
"""Barriers in a step: tiles copied and free again, of two operands, and a row of indices."""


@dataclass(frozen=True)
class Compiled:
    """What the compiler made of one job; memory in bytes, registers and spills per thread.

    Attributes:
        aligned: Whether every row of every tensor starts at a multiple of 16 elements.
        products: Whether the kernel multiplies 16-bit matrices, which belongs on the target's fastest tensor core.
        short: Whether it multiplies tiles of 16 or 32 rows as they are: too few for wgmma.
        summed: Parts of a sum that the last program can load at once.
        instructions: Length of the code.
        step_instructions, step_barriers: Those of one turn of the loop that multiplies; None without a loop.
        step_bytes: Shared memory that one turn fills.
        step_cycles: Cycles that the wgmmas of one turn take, of one warp group alone; None if weights are stored.
        tensor_cores: The tensor-core instructions in the code, or "none".
        wgmmas: The wgmma instructions in the machine code, by their rows x columns x depth.
        full_waits: How often that code waits for all of them.
        serialised: Whether it waits for each, because ptxas cannot keep two in flight.
        remarks: Codes of what ptxas says about that.
        loads_of_a_sum: The fewest loads in one turn of a loop that only loads and adds; None without such a loop.
        copies: The asynchronous copies in the code, or "none".
        widest_load: The most bytes that one thread reads at once.
        error: Why it did not compile, or None.
    """

    kernel: str
    configuration: str
    dtype: str
    target: str
    registers: int | None = None
    spill_bytes: int | None = None
    shared_bytes: int | None = None
    shared_limit: int | None = None
    aligned: bool = False
    products: bool = False
    short: bool = False
    summed: int = 1
    instructions: int | None = None
    step_instructions: int | None = None
    step_barriers: int | None = None
    step_bytes: int | None = None
    step_cycles: int | None = None
    tensor_cores: str = "none"
    wgmmas: str = ""
    full_waits: int | None = None
    serialised: bool = False
    remarks: tuple[str, ...] = ()
    loads_of_a_sum: int | None = None
    copies: str = "none"
    widest_load: int = 0
    error: str | None = None

    @property
    def faults(self) -> list[str]:
        """What is wrong with it, in words."""
        if self.error or self.shared_bytes is None or self.shared_limit is None:
            return [self.error or "not compiled"]
        unit = "mma" if self.short and self.target == "sm_90" else FASTEST[self.target]
        cycles = self.step_cycles or math.inf
        checks = {
            "spills": self.spill_bytes != 0,
            "needs too much shared memory": self.shared_bytes > self.shared_limit,
            f"multiplies by {self.tensor_cores}, not {unit}": self.products
            and self.target != "sm_100"
            and self.tensor_cores != unit,
            "waits for each wgmma": self.serialised,
            f"ptxas remarks {' '.join(self.remarks)}": bool(self.remarks),
            "is longer than the instruction cache": (self.instructions or 0) > LONGEST,
            "issues a step for longer than it multiplies": (self.step_instructions or 0) > cycles,
            "has too many barriers in a step": cycles < math.inf and (self.step_barriers or 0) > MOST_BARRIERS,
            "has room for one step only": 2 * (self.step_bytes or 0) > self.shared_limit,
            "adds parts one by one": self.loads_of_a_sum is not None and self.loads_of_a_sum < self.summed,
        }
        return [fault for fault, holds in checks.items() if holds]

    @property
    def good(self) -> bool:
        """Whether nothing is wrong with it."""
        return not self.faults


def inspect(jobs: Sequence[Job]) -> list[Compiled]:
    """Compile jobs for one target and return the results; a failure to compile is a row with an error."""
    attempts = [_attempt(job) for job in jobs]
    kernels = [kernel for kernel, _ in attempts if not isinstance(kernel, Exception)]
    amd = TARGETS[jobs[0].target].amd
    codes: Iterator[MachineCode | AmdCode]
    codes = (AmdCode.of(kernel.asm["amdgcn"]) for kernel in kernels) if amd else iter(disassembled(kernels))
    return [
        _failed(job, kernel) if isinstance(kernel, Exception) else _row(job, kernel, next(codes), log)
        for job, (kernel, log) in zip(jobs, attempts, strict=True)
    ]


def _attempt(job: Job) -> tuple[Any, str]:
    """Return the kernel of a job, or why it did not compile, and what ptxas said."""
    with logged() as log:
        try:
            return job.compile(), log.getvalue()
        except Exception as error:  # whatever the compiler raises belongs in the table
            return error, ""


def _failed(job: Job, error: Exception) -> Compiled:
    reason = f"{type(error).__name__}: {error}".splitlines()[0]
    return Compiled(job.kernel, job.configuration, job.dtype, job.target, error=reason)


def _row(job: Job, compiled: Any, code: MachineCode | AmdCode, log: str) -> Compiled:
    row = Compiled(
        job.kernel,
        job.configuration,
        job.dtype,
        job.target,
        shared_bytes=compiled.metadata.shared,
        shared_limit=TARGETS[job.target].shared_bytes,
        aligned=job.rows_aligned,
        products=_multiplies(compiled.asm) and job.width == "half",
        short=job.short,
        summed=job.summed,
    )
    return _amd(row, code) if isinstance(code, AmdCode) else _nvidia(row, compiled, job, code, log)


def _multiplies(code: dict[str, Any]) -> bool:
    """Return whether a kernel multiplies matrices; Gluon's has no "ttir"."""
    return "tt.dot" in code["ttir"] if "ttir" in code else "warp_group_dot" in code["ttgir"]


def _nvidia(row: Compiled, compiled: Any, job: Job, code: MachineCode, log: str) -> Compiled:
    """Return `row` with what the machine code for an NVIDIA GPU says."""
    resources, ptx = usage(compiled.asm["cubin"]), compiled.asm["ptx"]
    return replace(
        row,
        registers=resources["REG"],
        spill_bytes=(resources["STACK"] + resources["LOCAL"]) * code.local,  # a stack may lie idle
        instructions=code.instructions,
        step_instructions=code.step.instructions if code.step else None,
        step_barriers=code.step.barriers if code.step else None,
        step_bytes=compiled.metadata.shared // job.buffers if code.step else None,
        step_cycles=_cycles(code.step, job.width) if code.step and not job.stored else None,
        tensor_cores=_named(TENSOR_CORES, ptx),
        wgmmas=" ".join(f"{number} of {shape}" for shape, number in sorted(Counter(code.wgmmas).items())),
        full_waits=code.full_waits if code.wgmmas else None,
        serialised=code.full_waits >= len(code.wgmmas) > 1,
        remarks=remarks(log or ptxas(ptx)) if code.wgmmas else (),
        loads_of_a_sum=code.loads_of_a_sum,
        copies=_named(COPIES, ptx),
        widest_load=_widest_load(ptx),
    )


def _cycles(step: Step, width: str) -> int | None:
    """Return the cycles of the wgmmas of a step, or None if it has none or narrow ones."""
    shapes = [tuple(map(int, shape.split("x"))) for shape in step.wgmmas]
    if not shapes or min(columns for _, columns, _ in shapes) < NARROW:
        return None
    return sum(map(math.prod, shapes)) // RATE[width]


def _amd(row: Compiled, code: AmdCode) -> Compiled:
    """Return `row` with what the assembly for an AMD GPU says."""
    return replace(
        row,
        registers=code.registers,
        spill_bytes=code.spill_bytes,
        tensor_cores="mfma" if code.multiplies else "none",
        copies="direct" if code.direct else "none",
        widest_load=code.widest_load,
    )


def _named(names: dict[str, str], ptx: str) -> str:
    return " ".join(name for name, text in names.items() if text in ptx) or "none"


def _widest_load(ptx: str) -> int:
    """Return the most bytes that a thread reads from global memory at once, to registers or to shared memory."""
    loads = re.findall(r"ld\.global\S*?(?:\.v(\d))?\.[bufs](\d+)", ptx)
    copied = re.findall(r"cp\.async\.c[ag]\.shared\.global[^;]*\], *(?:0x)?([0-9a-f]+)", ptx)
    sizes = [int(count or 1) * int(bits) // 8 for count, bits in loads]
    return max([*sizes, *(int(size, 16) for size in copied)], default=0)
