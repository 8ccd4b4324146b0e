"""What the machine code of a kernel for an NVIDIA GPU says about it, and what ptxas remarks on it.

A step is one turn of the loop that multiplies on tensor cores. wgmma runs beside the code that follows it, until a wait
that names how many may still run: none for a full wait.
"""

import re
import subprocess
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import triton
from triton.backends.nvidia.compiler import get_ptxas

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
        found = re.findall(r"/\*([0-9a-f]{4,})\*/\s+(\S[^;]*?)\s*;", sass)
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


def dump(cubin: bytes, *what: str) -> str:
    """Return what cuobjdump prints of machine code, such as "-sass"."""
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        command = [triton.knobs.nvidia.cuobjdump.path, *what, file.name]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout  # noqa: S603 - Triton's tool


def remarks(ptx: str) -> tuple[str, ...]:
    """Return the codes of what ptxas remarks on wgmma, such as "C7515" if it serialises them; HARMLESS ones aside."""
    target = re.search(r"^\.target sm_(\d+)(\w*)", ptx, re.MULTILINE)
    if target is None:
        raise ValueError("the PTX names no target")
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder, "kernel.ptx")
        source.write_text(ptx)
        name = f"--gpu-name=sm_{target[1]}{target[2]}"
        command = [get_ptxas(int(target[1])).path, "-v", name, str(source), "-o", f"{folder}/code"]
        done = subprocess.run(command, check=True, capture_output=True, text=True)  # noqa: S603 - Triton's tool
    return tuple(sorted({*re.findall(r"\bC75\d\d\b", done.stderr + done.stdout)} - HARMLESS))
