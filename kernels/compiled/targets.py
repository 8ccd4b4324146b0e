"""The GPUs that kernels are compiled for ahead of time, and what the assembly for an AMD GPU says about a kernel.

sm_120, gfx942 and gfx950 are compiled, not run: their tiles come from data sheets, and at run time an AMD GPU is
refused (`kernels.cost.machine`).
"""

import re
from dataclasses import dataclass

from triton.backends.compiler import GPUTarget

from kernels.cost.machine import A100, B200, H100, MI300X, MI355X, RTX_5090, Machine

TARGETS: dict[str, Machine] = {
    "sm_80": A100,
    "sm_90": H100,
    "sm_100": B200,
    "sm_120": RTX_5090,
    "gfx942": MI300X,
    "gfx950": MI355X,
}
"""The machine whose options are compiled for each target."""

FASTEST = {
    "sm_80": "mma",
    "sm_90": "wgmma",
    "sm_100": "tcgen05",
    "sm_120": "mma",
    "gfx942": "mfma",
    "gfx950": "mfma",
}
"""The fastest tensor-core instruction of each target."""

WITHOUT_TF32 = {"gfx950"}
"""Targets that multiply fp32 only exactly; Triton refuses to compile tf32 for them."""

VALUE = 4
"""Bytes of one register of one thread."""


@dataclass(frozen=True)
class AmdCode:
    """What the assembly of a kernel for an AMD GPU says about it.

    Attributes:
        registers: Vector registers of a thread, accumulation registers included.
        spill_bytes: Memory of a thread for registers that spill; a scalar register spills into 4 bytes of one thread.
        multiplies: Whether mfma is in it.
        direct: Whether loads go to shared memory without passing registers.
        widest_load: The most bytes that a thread reads at once.
    """

    registers: int
    spill_bytes: int
    multiplies: bool
    direct: bool
    widest_load: int

    @classmethod
    def of(cls, assembly: str) -> "AmdCode":
        """Read it off `assembly`, as Triton's compiler writes it for gfx9."""
        vectors, scalars = (_count(assembly, f"{kind}_spill_count") for kind in ("vgpr", "sgpr"))
        widths = re.findall(r"\b(?:global|buffer)_load_(?:lds_)?(\w+)", assembly)
        return cls(
            registers=_count(assembly, "vgpr_count"),
            spill_bytes=max(VALUE * (vectors + scalars), _count(assembly, "private_segment_fixed_size")),
            multiplies=re.search(r"\bv_mfma_", assembly) is not None,
            direct=re.search(r"\b(?:global|buffer)_load_lds_|\b(?:global|buffer)_load_.* lds\b", assembly) is not None,
            widest_load=max((VALUE * int(width[-1]) if width[-1].isdigit() else VALUE for width in widths), default=0),
        )


def _count(assembly: str, name: str) -> int:
    """Return a number of the kernel's metadata."""
    match = re.search(rf"^\s*-?\s*\.{name}:\s+(\d+)", assembly, re.MULTILINE)
    if match is None:
        raise ValueError(f"the assembly says no .{name}")
    return int(match[1])


def gpu_target(name: str) -> GPUTarget:
    """Return what Triton calls the target `name`; a warp of an AMD GPU has 64 threads."""
    if name.startswith("gfx"):
        return GPUTarget("hip", name, 64)
    return GPUTarget("cuda", int(name.removeprefix("sm_")), 32)
