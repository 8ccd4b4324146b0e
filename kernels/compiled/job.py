"""One kernel to compile ahead of time, as a launch specialises it.

N rows, D input width, H hidden width of one expert, E experts, k experts per row, C output width.
"""

import importlib
import math
import re
from dataclasses import dataclass
from typing import Any

import torch
import triton
from torch import Tensor
from triton.compiler import ASTSource
from triton.experimental.gluon._runtime import GluonASTSource

from kernels.compiled.targets import gpu_target
from kernels.launch.descriptors import is_descriptor
from kernels.launch.launch import Launch
from kernels.ops.parts import at_once

DTYPES = {torch.float32: "fp32", torch.float16: "fp16", torch.bfloat16: "bf16", torch.int32: "i32", torch.int64: "i64"}
DTYPES |= {torch.uint8: "u8", torch.float8_e4m3fn: "fp8e4nv"}

SIZES = {"N", "M", "D", "H", "E", "C", "k", "steps", "parts", "slices", "blocks", "group", "chained"}
"""Constants that change a kernel's numbers, or how it starts, but not the rest of its code."""

TILES = ("tile_rows", "columns", "depth", "hidden")
"""Constants, beside those named `block_`, that are sizes of a tile."""

SWITCHES = ("activation", "persistent", "swapped", "rows_axis")
"""Constants that change how tensor cores are fed: column blocks, the loop over tiles, which operand has the rows."""

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
    def precision(self) -> str | None:
        """How fp32 operands are multiplied, or None if it multiplies nothing."""
        return dict(self.constants).get("precision")

    @property
    def switches(self) -> tuple[tuple[str, Any], ...]:
        """The constants that change how tensor cores are fed."""
        return tuple((name, value) for name, value in self.constants if name in SWITCHES)

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
        return rows < 64 and not (values.get("rows_axis") or values.get("swapped") or self.stored)

    @property
    def deep(self) -> bool:
        """Whether it multiplies, a block of some depth at a time."""
        return "depth" in dict(self.constants)

    @property
    def stored(self) -> bool:
        """Whether its weights are stored in 8 or 4 bits: threads that unpack them take longer than tensor cores."""
        return "scheme" in dict(self.constants)

    @property
    def summed(self) -> int:
        """Parts of a sum that the last program can load at once, all of them if they are few."""
        values = dict(self.constants)
        parts = int(values.get("parts") or values.get("splits") or 1) if self.kernel in ADDS else 1
        rows = values.get("block_n", values.get("tile_rows", 1))
        return min(parts, at_once(rows * values.get("block_c", values.get("block_e", 1)))) if parts > 1 else 1

    @property
    def buffers(self) -> int:
        """Steps whose tiles lie in shared memory together."""
        return int(dict(self.constants).get("ring", self.stages))

    @property
    def rows_aligned(self) -> bool:
        """Whether every stride that is not 1 is a multiple of 16 elements."""
        return all(name in self.aligned for name, kind in self.signature if "stride" in name and kind != "constexpr")

    def compile(self) -> Any:
        """Return what Triton's compiler returns; raises whatever it raises."""
        kernel = getattr(importlib.import_module(self.module), self.kernel)
        names = [name for name, _ in self.signature]
        language = GluonASTSource if kernel.is_gluon() else ASTSource
        source = language(
            kernel,
            dict(self.signature),
            dict(self.constants),
            {(names.index(name),): [["tt.divisibility", 16]] for name in self.aligned},
        )
        options = {"num_warps": self.warps, "num_stages": self.stages, "enable_fp_fusion": True}
        return triton.compile(source, target=gpu_target(self.target), options=options)


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
