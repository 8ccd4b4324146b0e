"""What the compiler makes of every kernel, without a GPU: `python -m kernels.inspect [--json PATH]`.

Records the launches of `sparse_moe` under its default options, compiles each ahead of time for every target,
and tells registers, spills, shared memory and the tensor-core instruction. Exit status 1 if anything spills,
exceeds the target's shared memory or fails to compile.

N rows, D input width, H hidden width of one expert, E experts, k experts per row, C output width.
"""

import argparse
import importlib
import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch
import triton
from rich.console import Console
from rich.table import Table
from torch import Tensor
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from kernels.activation import Activation
from kernels.checks import FLOATS
from kernels.launch import Launch, recording
from kernels.moe import sparse_moe

SHARED_LIMITS = {"sm_80": 163 * 1024, "sm_90": 227 * 1024, "sm_100": 227 * 1024}
"""Bytes of shared memory one program may use, by target (CUDA C++ programming guide)."""

TENSOR_CORES = {"wgmma": "wgmma.mma_async", "tcgen05": "tcgen05.mma", "mma": "mma.sync"}
"""Name of each tensor-core instruction and how it reads in PTX."""

DTYPES = {
    torch.float32: "fp32",
    torch.float16: "fp16",
    torch.bfloat16: "bf16",
    torch.int32: "i32",
}


@dataclass(frozen=True)
class Case:
    """A sparse head whose launches are inspected."""

    N: int
    D: int
    H: int
    E: int
    k: int
    C: int
    activation: Activation
    dtypes: tuple[torch.dtype, ...]


CASES = (
    Case(N=256, D=512, H=64, E=8, k=2, C=10, activation="gelu", dtypes=FLOATS),
    Case(N=65536, D=512, H=64, E=8, k=2, C=10, activation="gelu", dtypes=FLOATS),
    Case(N=4096, D=577, H=859, E=8, k=2, C=10, activation="relu", dtypes=(torch.bfloat16,)),
    Case(N=128, D=2048, H=768, E=64, k=8, C=2048, activation="relu", dtypes=(torch.float32, torch.bfloat16)),
    Case(N=32768, D=2048, H=768, E=64, k=8, C=2048, activation="silu", dtypes=(torch.float32, torch.bfloat16)),
)
"""The paper's head, odd widths, and a language-model layer: narrow and wide tiles of every height in use.

The layer is spared fp16, which compiles as bf16 does: the whole set is to take less than a minute.
"""


@dataclass(frozen=True)
class Job:
    """One kernel specialised as a launch would specialise it, and the target to compile it for."""

    module: str
    kernel: str
    signature: tuple[tuple[str, str], ...]
    constants: tuple[tuple[str, Any], ...]
    aligned: tuple[str, ...]
    warps: int
    stages: int
    target: str


@dataclass(frozen=True)
class Row:
    """What became of one job; memory in bytes, registers and spills per thread."""

    kernel: str
    configuration: str
    dtype: str
    target: str
    registers: int | None = None
    spill_bytes: int | None = None
    shared_bytes: int | None = None
    shared_limit: int | None = None
    tensor_core: str | None = None
    error: str | None = None

    @property
    def good(self) -> bool:
        """Whether it compiled, nothing spills and shared memory suffices."""
        if self.error or self.shared_bytes is None or self.shared_limit is None:
            return False
        return self.spill_bytes == 0 and self.shared_bytes <= self.shared_limit


def launches(case: Case, dtype: torch.dtype) -> list[Launch]:
    """Return the launches of a case, made with tensors on the meta device."""
    N, D, H, E, C = case.N, case.D, case.H, case.E, case.C
    shapes = {"x": (N, D), "w1": (E, D, H), "b1": (E, H), "w2": (E, H, C), "b2": (E, C)}
    tensors: dict[str, Any] = {name: torch.empty(shape, dtype=dtype, device="meta") for name, shape in shapes.items()}
    with recording() as records:
        sparse_moe(
            **tensors,
            scores=torch.empty(N, E, device="meta"),
            k=case.k,
            activation=case.activation,
            temperature=1.0,
            standardise=True,
            weights_over="selected",
        )
    return records


def specialise(launch: Launch, target: str) -> Job:
    """Return the job of a launch, with what Triton reads off arguments: type, value 1, divisibility by 16."""
    signature: list[tuple[str, str]] = []
    constants: list[tuple[str, Any]] = []
    aligned: list[str] = []
    for parameter in launch.kernel.params:
        name = parameter.name
        value = launch.arguments[name]
        fixed = not parameter.do_not_specialize and isinstance(value, int)
        if parameter.is_constexpr or (fixed and value == 1):
            signature.append((name, "constexpr"))
            constants.append((name, value))
            continue
        if isinstance(value, Tensor):
            signature.append((name, f"*{DTYPES[value.dtype]}"))
        elif isinstance(value, float):
            signature.append((name, "fp32"))
        else:
            signature.append((name, "i32" if -(2**31) <= value < 2**31 else "i64"))
        if isinstance(value, Tensor) or (fixed and value % 16 == 0):
            aligned.append(name)
    return Job(
        module=launch.kernel.__module__,
        kernel=launch.kernel.__name__,
        signature=tuple(signature),
        constants=tuple(constants),
        aligned=tuple(aligned),
        warps=launch.warps,
        stages=launch.stages,
        target=target,
    )


def inspect(job: Job) -> Row:
    """Compile one job and return what came out; a failure to compile is a row with an error."""
    limit = SHARED_LIMITS[job.target]
    row: dict[str, Any] = {
        "kernel": job.kernel,
        "configuration": _configuration(job),
        "dtype": _dtype(job),
        "target": job.target,
    }
    try:
        compiled = _compile(job)
    except Exception as error:  # whatever the compiler raises belongs in the table
        return Row(**row, error=f"{type(error).__name__}: {error}".splitlines()[0])
    registers, spill = _resources(compiled.asm["cubin"])
    ptx = compiled.asm["ptx"]
    return Row(
        **row,
        registers=registers,
        spill_bytes=spill,
        shared_bytes=compiled.metadata.shared,
        shared_limit=limit,
        tensor_core=next((name for name, text in TENSOR_CORES.items() if text in ptx), "none"),
    )


def _compile(job: Job) -> Any:
    kernel = getattr(importlib.import_module(job.module), job.kernel)
    names = [name for name, _ in job.signature]
    source = ASTSource(
        kernel,
        dict(job.signature),
        dict(job.constants),
        {(names.index(name),): [["tt.divisibility", 16]] for name in job.aligned},
    )
    target = GPUTarget("cuda", int(job.target.removeprefix("sm_")), 32)
    options = {"num_warps": job.warps, "num_stages": job.stages, "enable_fp_fusion": True}
    return triton.compile(source, target=target, options=options)


def _resources(cubin: bytes) -> tuple[int, int]:
    """Return registers and bytes of stack and local memory per thread, which hold what spills."""
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        command = [triton.knobs.nvidia.cuobjdump.path, "-res-usage", file.name]
        text = subprocess.run(command, check=True, capture_output=True, text=True).stdout  # noqa: S603 - our own command
    usage = {name: int(value) for name, value in re.findall(r"(REG|STACK|LOCAL):(\d+)", text)}
    return usage["REG"], usage["STACK"] + usage["LOCAL"]


def _configuration(job: Job) -> str:
    shown = [f"{name}={value}" for name, value in job.constants if not name.startswith("stride_")]
    return " ".join([*shown, f"warps={job.warps}", f"stages={job.stages}"])


def _dtype(job: Job) -> str:
    """Return the dtype of the kernel's first tensor."""
    return next(kind for _, kind in job.signature if kind.startswith("*")).removeprefix("*")


def inspect_all() -> list[Row]:
    """Return the rows of every case, dtype and target, each distinct job compiled once, in two processes."""
    recorded = [launch for case in CASES for dtype in case.dtypes for launch in launches(case, dtype)]
    jobs = dict.fromkeys(specialise(launch, target) for target in SHARED_LIMITS for launch in recorded)
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        return list(pool.map(inspect, jobs))


def table(rows: Sequence[Row]) -> Table:
    """Return `rows` as a table, the wrong ones in red."""
    columns = (
        "kernel",
        "configuration",
        "dtype",
        "target",
        "registers",
        "spill",
        "shared",
        "limit",
        "tensor core",
    )
    view = Table(*columns, title="Kernels compiled ahead of time")
    for row in rows:
        memory = [str(value) for value in (row.registers, row.spill_bytes, row.shared_bytes, row.shared_limit)]
        result = [*memory, row.tensor_core] if row.error is None else [row.error]
        view.add_row(
            row.kernel,
            row.configuration,
            row.dtype,
            row.target,
            *result,
            style=None if row.good else "bold red",
        )
    return view


def main(arguments: Sequence[str] | None = None) -> int:
    """Compile, print and save; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m kernels.inspect", description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, metavar="PATH", help="also write the rows to this file")
    path: Path | None = parser.parse_args(arguments).json
    if triton.knobs.runtime.interpret:
        Console(stderr=True).print("kernels.inspect compiles for a GPU, so run it with TRITON_INTERPRET unset.")
        return 2
    rows = inspect_all()
    Console(width=None if sys.stdout.isatty() else 200).print(table(rows))
    if path is not None:
        path.write_text(json.dumps([asdict(row) for row in rows], indent=2) + "\n")
    return 0 if all(row.good for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
