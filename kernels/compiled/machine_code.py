"""What the machine code of a kernel for an NVIDIA GPU says about it, and what ptxas remarks on it.

A step is one turn of the loop that multiplies on tensor cores. wgmma runs beside the code that follows it, until a wait
that names how many may still run: none for a full wait.
"""

import re
import struct
import subprocess
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from functools import cached_property
from io import StringIO
from itertools import islice
from pathlib import Path
from typing import Any

from triton import knobs
from triton.backends.nvidia.compiler import get_ptxas

INSTRUCTION = re.compile(r"/\*([0-9a-f]{4,})\*/\s+(\S[^;]*?)\s*;")
"""The address and the text of an instruction in a listing."""

BYTES = 16
"""Length of an instruction."""

TENSOR_CORE = re.compile(r"\b(HGMMA|HMMA|IMMA|UTC\w*MMA)\b")
MULTIPLIES = re.compile(r"\b(HGMMA|HMMA|IMMA|UTC\w*MMA|FFMA\d*)\b")
LOADS = re.compile(r"\bLDG\b")
BARRIER = r"\bBAR\.SYNC\b"

HARMLESS = {"C7519"}
"""Remarks that report no loss: ptxas added the one instruction before a wgmma that reads rows from registers."""


@dataclass(frozen=True)
class Step:
    """One turn of the loop that multiplies.

    Attributes:
        instructions: Those of one warp.
        barriers: How often all warps wait for each other.
        wgmmas: Rows x columns x depth of each.
    """

    instructions: int
    barriers: int
    wgmmas: tuple[str, ...]


@dataclass(frozen=True)
class MachineCode:
    """The instructions of a kernel, one line each, with the places that backward branches go to.

    Attributes:
        lines: Instructions in the order of their addresses.
        loops: First and last instruction of each loop.
    """

    lines: tuple[str, ...]
    loops: tuple[tuple[int, int], ...]

    @classmethod
    def of(cls, sass: str) -> "MachineCode":
        """Read it off what `cuobjdump -sass` prints."""
        return cls._of(INSTRUCTION.findall(sass))

    @classmethod
    def _of(cls, found: Sequence[tuple[str, str]]) -> "MachineCode":
        addresses = {int(address, 16): place for place, (address, _) in enumerate(found)}
        lines = [line for _, line in found]
        targets = [re.search(r"\bBRA\S*\s(?:.*\s)?0x([0-9a-f]+)", line) for line in lines]
        begins = [addresses.get(int(target[1], 16)) if target else None for target in targets]
        loops = [
            (begin, end)
            for end, begin in enumerate(begins)
            # a warp that waits at a barrier turns at the end of the code, and returns from there
            if begin is not None and begin < end and begins[end - 1] != end - 1
        ]
        return cls(tuple(lines), tuple(loops))

    @cached_property
    def instructions(self) -> int:
        """The length of the code, padding aside."""
        return sum("NOP" not in line for line in self.lines)

    @cached_property
    def barriers(self) -> int:
        """How often all warps wait for each other, each place in the code counted once."""
        return _number(BARRIER, self.lines)

    @cached_property
    def step(self) -> Step | None:
        """The shortest loop that multiplies on tensor cores."""
        bodies = [self.lines[begin : end + 1] for begin, end in self.loops]
        multiplying = [body for body in bodies if any(map(TENSOR_CORE.search, body))]
        if not multiplying:
            return None
        body = min(multiplying, key=len)
        return Step(len(body), _number(BARRIER, body), _wgmmas(body))

    @cached_property
    def wgmmas(self) -> tuple[str, ...]:
        """Rows x columns x depth of each wgmma."""
        return _wgmmas(self.lines)

    @cached_property
    def full_waits(self) -> int:
        """Waits after which no wgmma runs: one for each, if ptxas cannot keep two in flight."""
        return _number(r"\bWARPGROUP\.DEPBAR\.LE gsb0, 0x0\b", self.lines)

    @cached_property
    def local(self) -> bool:
        """Whether it touches the stack, where spilled registers go."""
        return _number(r"\b(STL|LDL)\b", self.lines) > 0

    @cached_property
    def loads_of_a_sum(self) -> int | None:
        """The fewest loads in one turn of a loop that loads and adds but does not multiply; None without one."""
        bodies = (self.lines[begin : end + 1] for begin, end in self.loops)
        sums = [
            _number(LOADS.pattern, body)
            for body in bodies
            if _number(r"\bFADD\d*\b", body) and _number(LOADS.pattern, body) and not any(map(MULTIPLIES.search, body))
        ]
        return min(sums, default=None)


def _wgmmas(lines: Iterable[str]) -> tuple[str, ...]:
    return tuple(match[1] for line in lines if (match := re.search(r"\bHGMMA\.(\d+x\d+x\d+)", line)))


def _number(pattern: str, lines: Iterable[str]) -> int:
    return sum(re.search(pattern, line) is not None for line in lines)


def disassembled(kernels: Sequence[Any]) -> list[MachineCode]:
    """Return the code of each of some kernels that Triton compiled for the same NVIDIA GPU.

    nvdisasm takes half a second to start, so it reads the code of all as that of one.
    """
    codes = [_instructions(kernel.asm["cubin"]) for kernel in kernels]
    if not codes:
        return []
    architecture = _architecture(kernels[0].asm["ptx"]).replace("sm_", "SM")
    printed = _run(knobs.nvidia.nvdisasm.path, b"".join(codes), "--no-dataflow", "--binary", architecture)
    found = iter(INSTRUCTION.findall(printed))
    return [MachineCode._of(list(islice(found, len(code) // BYTES))) for code in codes]


def usage(cubin: bytes) -> dict[str, int]:
    """Return the resources of a kernel by what cuobjdump calls them, such as "REG"."""
    printed = _run(knobs.nvidia.cuobjdump.path, cubin, "-res-usage")
    return {name: int(number) for name, number in re.findall(r"(\w+):(\d+)", printed)}


def _instructions(cubin: bytes) -> bytes:
    """Return the section of an ELF file that holds the code of its kernel."""
    (table,) = struct.unpack_from("<Q", cubin, 0x28)
    size, number, names = struct.unpack_from("<HHH", cubin, 0x3A)
    heads = [struct.unpack_from("<IIQQQQ", cubin, table + place * size) for place in range(number)]
    (code,) = [
        cubin[start : start + length]
        for name, _, _, _, start, length in heads
        if cubin.startswith(b".text.", heads[names][4] + name)
    ]
    return code


def _run(tool: str, contents: bytes, *arguments: str) -> str:
    """Return what one of Triton's tools prints of a file with these contents."""
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(contents)
        file.flush()
        done = subprocess.run([tool, *arguments, file.name], check=True, capture_output=True, text=True)  # noqa: S603
    return done.stdout


@contextmanager
def logged() -> Iterator[StringIO]:
    """Collect what ptxas says while Triton compiles: nothing of a kernel that Triton's cache holds."""
    with knobs.nvidia.scope(), redirect_stdout(StringIO()) as log:
        knobs.nvidia.dump_ptxas_log = True
        yield log


def ptxas(ptx: str) -> str:
    """Return what ptxas says of this PTX."""
    architecture = _architecture(ptx)
    number = re.search(r"\d+", architecture)
    assert number is not None
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder, "kernel.ptx")
        source.write_text(ptx)
        command = [
            get_ptxas(int(number[0])).path,
            "-v",
            f"--gpu-name={architecture}",
            str(source),
            "-o",
            f"{folder}/code",
        ]
        done = subprocess.run(command, check=True, capture_output=True, text=True)  # noqa: S603 - Triton's tool
    return done.stderr + done.stdout


def remarks(log: str) -> tuple[str, ...]:
    """Return the codes of what ptxas remarks on wgmma, such as "C7515" if it serialises them; HARMLESS ones aside."""
    return tuple(sorted({*re.findall(r"\bC75\d\d\b", log)} - HARMLESS))


def _architecture(ptx: str) -> str:
    """Return what ptxas calls the GPU that this PTX is for, such as "sm_90a"."""
    target = re.search(r"^\.target (sm_\w+)", ptx, re.MULTILINE)
    if target is None:
        raise ValueError("the PTX names no target")
    return target[1]
