"""What the compiler makes of every kernel, without a GPU: `make kernels`, or `python -m kernels.inspect --sample`.

It records the launches of `moe` under every option that `kernels.choice.choice` can pick for the layers below, compiles
each ahead of time for every target, and reports registers, spills, shared memory, the tensor-core instruction, how
often it waits for wgmma, and how memory is read. The exit status is 1 if anything spills, needs too much shared memory,
misses the target's tensor core, waits for every single wgmma or fails to compile.

N rows, D input width, H hidden width of one expert, E experts, k experts per row, C output width.
"""

import argparse
import importlib
import json
import math
import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch
import triton
from rich.console import Console
from rich.progress import track
from rich.table import Table
from torch import Tensor
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from triton.tools.tensor_descriptor import TensorDescriptor

from kernels.choice.choice import reachable
from kernels.choice.tuning import LANGUAGE, PAPER
from kernels.cost.machine import A100, B200, H100, Machine, assuming
from kernels.launch.launch import Launch, recording
from kernels.paths.options import Options
from kernels.problem.experts import Experts
from kernels.problem.problem import Problem
from kernels.problem.routes import SOURCES
from kernels.problem.stored import Stored

TARGETS: dict[str, Machine] = {"sm_80": A100, "sm_90": H100, "sm_100": B200}
"""The machine whose options are compiled for each target."""

TENSOR_CORES = {"wgmma": "wgmma.mma_async", "tcgen05": "tcgen05.mma", "mma": "mma.sync"}
"""The tensor-core instructions and their names in PTX."""

FASTEST = {"sm_80": "mma", "sm_90": "wgmma", "sm_100": "tcgen05"}
"""The fastest tensor-core instruction of each target."""

COPIES = {"tma": "cp.async.bulk.tensor", "cp.async": "cp.async.c"}
"""Asynchronous copies to shared memory and their names in PTX: whole tiles by descriptor, or 4 to 16 bytes a thread."""

DTYPES = {torch.float32: "fp32", torch.float16: "fp16", torch.bfloat16: "bf16", torch.int32: "i32", torch.int64: "i64"}
DTYPES |= {torch.uint8: "u8", torch.float8_e4m3fn: "fp8e4nv"}

LAYERS = (
    replace(PAPER, dtype=torch.float16),
    replace(PAPER, dtype=torch.float32),
    replace(PAPER, k=8),
    replace(PAPER, D=577, H=859, described=(False, False)),
    LANGUAGE,
    replace(LANGUAGE, activation="swiglu"),
    replace(LANGUAGE, D=4096, H=14336, E=8, C=4096, k=2),
    replace(LANGUAGE, E=64, H=1024, activation="gelu", routing="top_k"),
    replace(LANGUAGE, E=64, H=1024, activation="gelu", routing="flat", dtype=torch.float32),
    replace(LANGUAGE, E=64, H=1024, activation="gelu", dtype=torch.float32, precision="tf32"),
    replace(PAPER, E=256, k=8),
    replace(PAPER, E=384, k=8, D=1024),
    replace(PAPER, E=512, k=512),
    replace(PAPER, E=512, k=8, dtype=torch.float32),
    replace(LANGUAGE, stored=("mxfp4", "mxfp4")),
    replace(LANGUAGE, stored=("fp8_blocks", "fp8_blocks"), activation="swiglu"),
    replace(LANGUAGE, stored=("fp8_channels", "fp8")),
    replace(LANGUAGE, stored=("fp8_channels", "mxfp4"), E=64, activation="gelu", dtype=torch.float32),
)
"""The paper's head, sparse and soft, odd widths, layers of language models, and many experts.

fp16 and bf16 take the same options and give the same code, so a configuration is compiled in only one of them. Most
layers use gelu, which needs more registers than the other activations.
"""

SIZES = {"N", "M", "D", "H", "E", "C", "k", "steps", "parts", "slices", "blocks", "group"}
"""Constants that change a kernel's numbers but not its code."""

TILES = ("tile_rows", "columns", "depth", "hidden")
"""Constants, beside those named `block_`, that are sizes of a tile."""

FEW_EXPERTS = ("_grouped_gemm_kernel", "_stored_gemm_kernel")
"""Kernels in which the number of experts only changes how a program looks up its expert."""


@dataclass(frozen=True)
class Job:
    """One kernel, specialised as a launch specialises it, and the target to compile it for."""

    module: str
    kernel: str
    signature: tuple[tuple[str, str], ...]
    constants: tuple[tuple[str, Any], ...]
    aligned: tuple[str, ...]
    warps: int
    stages: int
    target: str

    @property
    def configuration(self) -> str:
        """What decides the code: tiles, switches, warps and stages, without sizes and strides."""
        left_out = SIZES | {"block_e"} if self.kernel in FEW_EXPERTS else SIZES
        shown = [
            f"{name}={value}"
            for name, value in self.constants
            if value is not None and not name.startswith("stride_") and name not in left_out
        ]
        return " ".join([*shown, f"warps={self.warps}", f"stages={self.stages}"])

    @property
    def dtype(self) -> str:
        """Dtype of the kernel's first tensor."""
        first = next(kind for _, kind in self.signature if kind.startswith(("*", "tensordesc")))
        return re.split(r"[*<\[]", first)[1]

    @property
    def width(self) -> str:
        """Dtype, fp16 and bf16 being one: they give the same code."""
        return "half" if self.dtype in ("fp16", "bf16") else self.dtype

    @property
    def switches(self) -> tuple[tuple[str, Any], ...]:
        """The constants that choose among pieces of code, such as activation, precision and a described tensor."""
        return tuple((n, value) for n, value in self.constants if isinstance(value, bool | str) or n == "rows_axis")

    @property
    def tile(self) -> int:
        """Product of all sizes of the tile and the stages: the more, the more registers and shared memory it needs."""
        sizes = [int(value) for name, value in self.constants if name.startswith("block_") or name in TILES]
        return math.prod(sizes) * self.stages

    @property
    def rows_aligned(self) -> bool:
        """Whether every stride that is not 1 is a multiple of 16 elements."""
        return all(name in self.aligned for name, kind in self.signature if "stride" in name and kind != "constexpr")


@dataclass(frozen=True)
class Compiled:
    """What the compiler made of one job; memory in bytes, registers and spills per thread.

    Attributes:
        aligned: Whether every row of every tensor starts at a multiple of 16 elements.
        products: Whether the kernel multiplies 16-bit matrices, which belongs on the target's fastest tensor core.
        tensor_cores: The tensor-core instructions in the code, or "none".
        wgmmas: The wgmma instructions in the machine code.
        full_waits: How often that code waits for all of them. If ptxas cannot keep two in flight, it waits after each.
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
    tensor_cores: str = "none"
    wgmmas: int = 0
    full_waits: int = 0
    copies: str = "none"
    widest_load: int = 0
    error: str | None = None

    @property
    def good(self) -> bool:
        """Whether it compiled, spills nothing, fits shared memory, and keeps the right unit for its products busy."""
        if self.error or self.shared_bytes is None or self.shared_limit is None:
            return False
        right_unit = not self.products or self.target == "sm_100" or self.tensor_cores == FASTEST[self.target]
        busy = self.wgmmas < 2 or self.full_waits < self.wgmmas
        return self.spill_bytes == 0 and self.shared_bytes <= self.shared_limit and right_unit and busy


def launches(problem: Problem, options: Options) -> list[Launch]:
    """Return the launches of a call, made with tensors on the meta device."""

    def new(*shape: int, dtype: torch.dtype = problem.dtype) -> Tensor:
        return torch.empty(shape, dtype=dtype, device="meta")

    N, D, H, E, C, _ = problem.sizes
    wide = problem.halves * H
    w1, w2 = (
        new(*shape) if scheme is None else Stored.empty(scheme, *shape, new)
        for scheme, shape in zip(problem.stored, ((E, D, wide), (E, H, C)), strict=True)
    )
    experts = Experts(w1, new(E, wide), w2, new(E, C), problem.activation)
    with recording() as records:
        options.run(new(N, D), SOURCES[problem.routing].of(problem, new), experts)
    return records


def specialise(launch: Launch, target: str) -> Job:
    """Return the job of a launch, with what Triton reads off its arguments: type, value 1, divisibility by 16."""
    signature: list[tuple[str, str]] = []
    constants: list[tuple[str, Any]] = []
    aligned: list[str] = []
    for parameter in launch.kernel.params:
        name = parameter.name
        value = launch.arguments[name]
        fixed = not parameter.do_not_specialize and isinstance(value, int)
        if parameter.is_constexpr or value is None or (fixed and value == 1):
            signature.append((name, "constexpr"))
            constants.append((name, value))
            continue
        if isinstance(value, TensorDescriptor):
            block = ",".join(map(str, value.block_shape))
            signature.append((name, f"tensordesc<{DTYPES[value.base.dtype]}[{block}]>"))
        elif isinstance(value, Tensor):
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


def inspect(job: Job) -> Compiled:
    """Compile one job and return the result; a failure to compile is a row with an error."""
    row = Compiled(job.kernel, job.configuration, job.dtype, job.target)
    try:
        compiled = _compile(job)
    except Exception as error:  # whatever the compiler raises belongs in the table
        return replace(row, error=f"{type(error).__name__}: {error}".splitlines()[0])
    usage, sass = (_dump(compiled.asm["cubin"], what) for what in ("-res-usage", "-sass"))
    registers, spill_bytes = _registers_and_spills(usage, sass)
    ptx = compiled.asm["ptx"]
    return replace(
        row,
        registers=registers,
        spill_bytes=spill_bytes,
        shared_bytes=compiled.metadata.shared,
        shared_limit=TARGETS[job.target].shared_bytes,
        aligned=job.rows_aligned,
        products="tt.dot" in compiled.asm["ttir"] and job.width == "half",
        tensor_cores=_named(TENSOR_CORES, ptx),
        wgmmas=len(re.findall(r"\bHGMMA\b", sass)),
        full_waits=len(re.findall(r"WARPGROUP\.DEPBAR\.LE gsb0, 0x0\b", sass)),
        copies=_named(COPIES, ptx),
        widest_load=_widest_load(ptx),
    )


def _named(names: dict[str, str], ptx: str) -> str:
    return " ".join(name for name, text in names.items() if text in ptx) or "none"


def _widest_load(ptx: str) -> int:
    """Return the most bytes that a thread reads from global memory at once, to registers or to shared memory."""
    loads = re.findall(r"ld\.global\S*?(?:\.v(\d))?\.[bufs](\d+)", ptx)
    copied = re.findall(r"cp\.async\.c[ag]\.shared\.global[^;]*\], *(?:0x)?([0-9a-f]+)", ptx)
    sizes = [int(count or 1) * int(bits) // 8 for count, bits in loads]
    return max([*sizes, *(int(size, 16) for size in copied)], default=0)


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


def _dump(cubin: bytes, what: str) -> str:
    """Return `what` cuobjdump prints of machine code."""
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        command = [triton.knobs.nvidia.cuobjdump.path, what, file.name]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout  # noqa: S603 - Triton's tool


def _registers_and_spills(usage: str, sass: str) -> tuple[int, int]:
    """Return the registers of a thread and the bytes it spills: a stack that the code leaves alone is no spill."""
    sizes = {name: int(value) for name, value in re.findall(r"(REG|STACK|LOCAL):(\d+)", usage)}
    stack = sizes["STACK"] + sizes["LOCAL"]
    used = stack > 0 and re.search(r"\b(STL|LDL)\b", sass)  # instructions on local memory
    return sizes["REG"], stack if used else 0


def jobs(targets: Sequence[str] = tuple(TARGETS)) -> list[Job]:
    """Return one job for each kernel, configuration, width of values, target and alignment among all launches."""
    distinct: dict[tuple[object, ...], Job] = {}
    for target in targets:
        machine = TARGETS[target]
        with assuming(machine):
            for layer in LAYERS:
                for N, options in reachable(layer, machine):
                    for launch in launches(replace(layer, N=N, M=N * layer.k), options):
                        job = specialise(launch, target)
                        distinct.setdefault((job.kernel, job.configuration, job.width, target, job.rows_aligned), job)
    return list(distinct.values())


def sample(among: Sequence[Job]) -> list[Job]:
    """Return the job with the largest tile for each kernel, target and width of values, and on sm_90 each switch."""
    largest: dict[tuple[object, ...], Job] = {}
    for job in sorted(among, key=lambda job: job.tile):
        largest[job.kernel, job.target, job.width, job.switches if job.target == "sm_90" else ()] = job
    return list(largest.values())


def inspect_all(todo: Sequence[Job]) -> list[Compiled]:
    """Compile the jobs in two processes and return the rows; progress goes to standard error."""
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        results = pool.map(inspect, todo)
        return list(track(results, "Compiling", total=len(todo), console=Console(stderr=True), transient=True))


COLUMNS = (
    *("kernel", "configuration", "dtype", "target", "registers", "spill", "shared"),
    *("tensor core", "wgmmas", "full waits", "copies", "widest load"),
)


def cells(row: Compiled) -> list[str]:
    """Return the cells of a row of the table; an error takes the place of the numbers."""
    identity = [row.kernel.strip("_").removesuffix("_kernel"), row.configuration, row.dtype, row.target]
    if row.error is not None:
        return [*identity, row.error]
    numbers = [str(value) for value in (row.registers, row.spill_bytes, row.shared_bytes)]
    waits = [str(row.wgmmas), str(row.full_waits)]
    return [*identity, *numbers, row.tensor_cores, *waits, row.copies, str(row.widest_load)]


def table(rows: Sequence[Compiled]) -> Table:
    """Return `rows` as a table with the bad ones in red."""
    view = Table(*COLUMNS, title="Kernels compiled ahead of time")
    for row in rows:
        view.add_row(*cells(row), style=None if row.good else "bold red")
    return view


def markdown(rows: Sequence[Compiled]) -> str:
    """Return `rows` as a Markdown table."""
    lines = [COLUMNS, ["---"] * len(COLUMNS), *(cells(row) for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Compile, print and save; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m kernels.inspect", description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, metavar="PATH", help="also write the rows to this file")
    parser.add_argument("--target", action="append", choices=list(TARGETS), help="repeat for several; default: all")
    parser.add_argument("--sample", action="store_true", help="compile only the largest tiles")
    parser.add_argument("--markdown", action="store_true", help="print a Markdown table")
    chosen = parser.parse_args(arguments)
    path: Path | None = chosen.json
    if triton.knobs.runtime.interpret:
        Console(stderr=True).print("kernels.inspect compiles for a GPU, so run it with TRITON_INTERPRET unset.")
        return 2
    todo = jobs(chosen.target or list(TARGETS))
    rows = inspect_all(sample(todo) if chosen.sample else todo)
    if chosen.markdown:
        sys.stdout.write(markdown(rows) + "\n")
    else:
        Console(width=None if sys.stdout.isatty() else 260).print(table(rows))
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps([{**asdict(row), "good": row.good} for row in rows], indent=2) + "\n")
    return 0 if all(row.good for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
