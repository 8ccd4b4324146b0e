"""What the compiler makes of every kernel, without a GPU: `make kernels`, or `python -m kernels.inspect --sample`.

It records the launches of `moe` under every option that `kernels.choice.choice` can pick for the layers below, compiles
each ahead of time for every target, and reports registers, spills, shared memory, the length of the code and of a step
of its loop, the tensor-core instructions, how often it waits for wgmma, and how memory is read. The exit status is 1 if
a kernel has a fault (`Compiled.faults`).

N rows, D input width, H hidden width of one expert, E experts, k experts per row, C output width.
"""

import argparse
import importlib
import json
import math
import os
import re
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, fields, replace
from itertools import chain
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch
import triton
from rich.console import Console
from rich.progress import track
from rich.table import Table
from torch import Tensor
from triton.compiler import ASTSource
from triton.experimental.gluon._runtime import GluonASTSource

from kernels.choice.choice import reachable
from kernels.choice.tuning import LANGUAGE, PAPER
from kernels.cost.machine import assuming
from kernels.launch.descriptors import is_descriptor
from kernels.launch.launch import Launch, recording
from kernels.machine_code import MachineCode, dump, remarks
from kernels.ops.parts import at_once
from kernels.ops.specialised import TILE_ROWS, kernel
from kernels.paths.grouped import Grouped
from kernels.paths.options import Options
from kernels.problem.experts import Experts
from kernels.problem.options import Product
from kernels.problem.problem import Problem
from kernels.problem.routes import SOURCES
from kernels.problem.stored import Stored
from kernels.targets import FASTEST, TARGETS, WITHOUT_TF32, AmdCode, gpu_target

TENSOR_CORES = {"wgmma": "wgmma.mma_async", "tcgen05": "tcgen05.mma", "mma": "mma.sync"}
"""The tensor-core instructions and their names in PTX."""

COPIES = {"tma": "cp.async.bulk.tensor", "cp.async": "cp.async.c"}
"""Asynchronous copies to shared memory and their names in PTX: whole tiles by descriptor, or 4 to 16 bytes a thread."""

DTYPES = {torch.float32: "fp32", torch.float16: "fp16", torch.bfloat16: "bf16", torch.int32: "i32", torch.int64: "i64"}
DTYPES |= {torch.uint8: "u8", torch.float8_e4m3fn: "fp8e4nv"}

STORED = (
    replace(LANGUAGE, stored=("mxfp4", "mxfp4")),
    replace(LANGUAGE, stored=("fp8_blocks", "fp8_blocks"), activation="swiglu"),
    replace(LANGUAGE, stored=("fp8_channels", "fp8")),
    replace(LANGUAGE, stored=("fp8_channels", "mxfp4"), E=64, activation="gelu", dtype=torch.float32),
)
"""A layer of a language model whose weights are stored in 8 or 4 bits; compiled for NVIDIA GPUs alone."""

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
)
"""The paper's head, sparse and soft, odd widths, layers of language models, and many experts.

fp16 and bf16 take the same options and give the same code, so a configuration is compiled in only one of them. Most
layers use gelu, which needs more registers than the other activations.
"""

LONGEST = 8192
"""Instructions, of 16 bytes each, that 128 KiB of an instruction cache hold."""

SPECIALISED = Product(256, 64, 8, 4, described=True, persistent=True, specialised=True)
"""The second product by specialised warps, compiled for each layer whose tiles are tall enough."""

SIZES = {"N", "M", "D", "H", "E", "C", "k", "steps", "parts", "slices", "blocks", "group"}
"""Constants that change a kernel's numbers but not its code."""

TILES = ("tile_rows", "columns", "depth", "hidden")
"""Constants, beside those named `block_`, that are sizes of a tile."""

ADDS = ("_route_kernel", "_fused_tiles_kernel", "_fused_rows_kernel")
"""Kernels whose last program adds up the parts of all."""

FEW_EXPERTS = ("_grouped_gemm_kernel", "_stored_gemm_kernel", "specialised_gemm_kernel")
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
    def short(self) -> bool:
        """Whether the rows of its tiles are too few for wgmma, and not the columns of a transposed product."""
        values = dict(self.constants)
        rows = values.get("block_n", values.get("tile_rows", 64))
        return rows < 64 and not (values.get("rows_axis") or values.get("swapped") or values.get("scheme"))

    @property
    def summed(self) -> int:
        """Parts of a sum that the last program can load at once, all of them if they are few."""
        values = dict(self.constants)
        parts = int(values.get("parts") or values.get("splits") or 1) if self.kernel in ADDS else 1
        rows = values.get("block_n", values.get("tile_rows", 1))
        return min(parts, at_once(rows * values.get("block_c", values["block_e"]))) if parts > 1 else 1

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
        short: Whether it multiplies tiles of 16 or 32 rows as they are: too few for wgmma.
        summed: Parts of a sum that the last program can load at once.
        instructions: Length of the code.
        step_instructions, step_barriers: Those of one turn of the loop that multiplies; None without a loop.
        step_bytes: Shared memory that one turn fills.
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
        checks = {
            "spills": self.spill_bytes != 0,
            "needs too much shared memory": self.shared_bytes > self.shared_limit,
            f"multiplies by {self.tensor_cores}, not {unit}": self.products
            and self.target != "sm_100"
            and self.tensor_cores != unit,
            "waits for each wgmma": self.serialised,
            f"ptxas remarks {' '.join(self.remarks)}": bool(self.remarks),
            "is longer than the instruction cache": (self.instructions or 0) > LONGEST,
            "adds parts one by one": self.loads_of_a_sum is not None and self.loads_of_a_sum < self.summed,
        }
        return [fault for fault, holds in checks.items() if holds]

    @property
    def good(self) -> bool:
        """Whether nothing is wrong with it."""
        return not self.faults


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
        if is_descriptor(value):
            block = ",".join(map(str, value.block_shape))
            layout = f",{value.layout!r}" if hasattr(value, "layout") else ""
            signature.append((name, f"tensordesc<{DTYPES[value.base.dtype]}[{block}]{layout}>"))
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
    row = replace(
        row,
        shared_bytes=compiled.metadata.shared,
        shared_limit=TARGETS[job.target].shared_bytes,
        aligned=job.rows_aligned,
        products=_multiplies(compiled.asm) and job.width == "half",
        short=job.short,
        summed=job.summed,
        step_bytes=compiled.metadata.shared // job.stages if _multiplies(compiled.asm) else None,
    )
    return _amd(row, compiled) if TARGETS[job.target].amd else _nvidia(row, compiled)


def _multiplies(code: dict[str, Any]) -> bool:
    """Return whether a kernel multiplies matrices; Gluon's has no "ttir"."""
    return "tt.dot" in code["ttir"] if "ttir" in code else "warp_group_dot" in code["ttgir"]


def _nvidia(row: Compiled, compiled: Any) -> Compiled:
    """Return `row` with what the machine code for an NVIDIA GPU says."""
    usage = dict(re.findall(r"(REG|STACK|LOCAL):(\d+)", dump(compiled.asm["cubin"], "-res-usage")))
    code, ptx = MachineCode.of(dump(compiled.asm["cubin"], "-sass")), compiled.asm["ptx"]
    return replace(
        row,
        registers=int(usage["REG"]),
        spill_bytes=(int(usage["STACK"]) + int(usage["LOCAL"])) * code.local,  # a stack may lie idle
        instructions=code.instructions,
        step_instructions=code.step.instructions if code.step else None,
        step_barriers=code.step.barriers if code.step else None,
        tensor_cores=_named(TENSOR_CORES, ptx),
        wgmmas=" ".join(f"{number} of {shape}" for shape, number in sorted(Counter(code.wgmmas).items())),
        full_waits=code.full_waits if code.wgmmas else None,
        serialised=code.full_waits >= len(code.wgmmas) > 1,
        remarks=remarks(ptx) if code.wgmmas else (),
        loads_of_a_sum=code.loads_of_a_sum,
        copies=_named(COPIES, ptx),
        widest_load=_widest_load(ptx),
    )


def _amd(row: Compiled, compiled: Any) -> Compiled:
    """Return `row` with what the assembly for an AMD GPU says."""
    code = AmdCode.of(compiled.asm["amdgcn"])
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


def _compile(job: Job) -> Any:
    kernel = getattr(importlib.import_module(job.module), job.kernel)
    names = [name for name, _ in job.signature]
    language = GluonASTSource if kernel.is_gluon() else ASTSource
    source = language(
        kernel,
        dict(job.signature),
        dict(job.constants),
        {(names.index(name),): [["tt.divisibility", 16]] for name in job.aligned},
    )
    options = {"num_warps": job.warps, "num_stages": job.stages, "enable_fp_fusion": True}
    return triton.compile(source, target=gpu_target(job.target), options=options)


def jobs(targets: Sequence[str] = tuple(TARGETS), layers: Sequence[Problem] = LAYERS) -> list[Job]:
    """Return one job for each kernel, configuration, width of values, target and alignment among all launches."""
    distinct: dict[tuple[object, ...], Job] = {}
    for target in targets:
        machine = TARGETS[target]
        with assuming(machine):
            for layer in layers:
                if (layer.precision == "tf32" and target in WITHOUT_TF32) or (layer.is_stored and machine.amd):
                    continue
                for N, options in with_specialised(reachable(layer, machine)):
                    for launch in launches(replace(layer, N=N, M=N * layer.k), options):
                        job = specialise(launch, target)
                        distinct.setdefault((job.kernel, job.configuration, job.width, target, job.rows_aligned), job)
    return list(distinct.values())


def with_specialised(chosen: Sequence[tuple[int, Options]]) -> list[tuple[int, Options]]:
    """Return options, each with its least N, and beside them those of the specialised product, which none has."""
    asked = [
        (N, replace(options, second=SPECIALISED))
        for N, options in chosen
        if isinstance(options, Grouped) and options.tile_rows == TILE_ROWS and options.second.described
    ]
    return [*chosen, *asked] if kernel() is not None else [*chosen]


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


COLUMNS: dict[str, Callable[[Compiled], Any]] = {
    "registers": lambda row: row.registers,
    "spill": lambda row: row.spill_bytes,
    "shared": lambda row: row.shared_bytes,
    "code": lambda row: row.instructions,
    "step": lambda row: row.step_instructions,
    "barriers": lambda row: row.step_barriers,
    "bytes": lambda row: row.step_bytes,
    "tensor core": lambda row: row.tensor_cores,
    "wgmmas": lambda row: row.wgmmas or None,
    "full waits": lambda row: row.full_waits,
    "copies": lambda row: row.copies,
    "widest load": lambda row: row.widest_load,
    "faults": lambda row: ", ".join(row.faults) or None,
}
"""The columns of the table after the first four, which say what was compiled."""

TITLES = ("kernel", "configuration", "dtype", "target", *COLUMNS)


def cells(rows: Sequence[Compiled]) -> list[str]:
    """Return the cells of one kernel compiled by each version of Triton: its numbers side by side if they differ."""
    first = rows[0]
    values = [[_shown(column(row)) for row in rows] for column in COLUMNS.values()]
    numbers = [" / ".join(each) if len(set(each)) > 1 else each[0] for each in values]
    return [first.kernel.strip("_").removesuffix("_kernel"), first.configuration, first.dtype, first.target, *numbers]


def _shown(value: Any) -> str:
    return "-" if value is None else str(value)


def together(tables: Sequence[Sequence[Compiled]]) -> list[list[Compiled]]:
    """Return the rows of each kernel in all tables of one version each; a version may lack a kernel."""
    kernels: dict[tuple[str, ...], list[Compiled]] = {}
    for row in chain.from_iterable(tables):
        kernels.setdefault((row.kernel, row.configuration, row.dtype, row.target, str(row.aligned)), []).append(row)
    return list(kernels.values())


def table(kernels: Sequence[Sequence[Compiled]], versions: Sequence[str]) -> Table:
    """Return `kernels` as a table with the bad ones in red."""
    view = Table(*TITLES, title=f"Kernels compiled ahead of time by Triton {' / '.join(versions)}")
    for rows in kernels:
        view.add_row(*cells(rows), style=None if all(row.good for row in rows) else "bold red")
    return view


def markdown(kernels: Sequence[Sequence[Compiled]]) -> str:
    """Return `kernels` as a Markdown table."""
    lines = [TITLES, ["---"] * len(TITLES), *(cells(rows) for rows in kernels)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def elsewhere(folder: Path, arguments: Sequence[str]) -> tuple[str, list[Compiled]]:
    """Return the version of another Triton, unpacked in `folder`, and what it makes of the same kernels."""
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch, "rows.json")
        command = [sys.executable, "-m", "kernels.inspect", "--json", str(path), *arguments]
        paths = os.pathsep.join([str(folder.resolve()), str(Path.cwd())])
        subprocess.run(command, env={**os.environ, "PYTHONPATH": paths}, stdout=subprocess.DEVNULL)  # noqa: S603
        if not path.exists():
            raise ValueError(f"{folder} holds no Triton that compiles: `make kernels` installs one")
        written = json.loads(path.read_text())
    return written["triton"], [restored(row) for row in written["kernels"]]


def restored(row: dict[str, Any]) -> Compiled:
    """Return a row as it was before it was written to JSON."""
    names = {field.name for field in fields(Compiled)}
    return Compiled(**{**{name: row[name] for name in names}, "remarks": tuple(row["remarks"])})


def main(arguments: Sequence[str] | None = None) -> int:
    """Compile, print and save; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m kernels.inspect", description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, metavar="PATH", help="also write the rows to this file")
    parser.add_argument("--target", action="append", choices=list(TARGETS), help="repeat for several; default: all")
    parser.add_argument("--sample", action="store_true", help="compile only the largest tiles")
    parser.add_argument("--markdown", action="store_true", help="print a Markdown table")
    parser.add_argument("--beside", type=Path, metavar="FOLDER", help="compile by the Triton in this folder too")
    chosen = parser.parse_args(arguments)
    if triton.knobs.runtime.interpret:
        Console(stderr=True).print("kernels.inspect compiles for a GPU, so run it with TRITON_INTERPRET unset.")
        return 2
    targets: list[str] = chosen.target or list(TARGETS)
    todo = jobs(targets) if chosen.sample else jobs(targets, (*LAYERS, *STORED))
    tables = {triton.__version__: inspect_all(sample(todo) if chosen.sample else todo)}
    if chosen.beside:
        same = [*(f"--target={target}" for target in targets), *(["--sample"] if chosen.sample else [])]
        try:
            version, rows = elsewhere(chosen.beside, same)
        except ValueError as error:
            Console(stderr=True).print(f"{error}.")
            return 2
        tables[version] = rows
    kernels = together(list(tables.values()))
    if chosen.markdown:
        sys.stdout.write(markdown(kernels) + "\n")
    else:
        Console(width=None if sys.stdout.isatty() else 320).print(table(kernels, list(tables)))
    if chosen.json:
        _write(chosen.json, tables[triton.__version__])
    return 0 if all(row.good for rows in tables.values() for row in rows) else 1


def _write(path: Path, rows: Sequence[Compiled]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    written = [{**asdict(row), "faults": row.faults} for row in rows]
    path.write_text(json.dumps({"triton": triton.__version__, "kernels": written}, indent=2) + "\n")


if __name__ == "__main__":
    sys.exit(main())
