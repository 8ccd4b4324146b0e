"""What a GPU offers, in numbers: what turns the work of a launch into seconds.

Sources. H100 SXM: matrix product in bf16 and copy measured once, with torch 2.11 (8192^3 on random data, 798 TFLOP/s;
3.0 TB/s read and written); multiprocessors, shared memory, L2 size and fp32 from the data sheet. Those two figures are
0.81 and 0.90 of the data sheet's, so where nothing is measured (tf32, and the other machines) the data sheet's rates
are taken times these shares. L2: 5120 bytes per clock as NVIDIA gives for the A100, at the boost clock of the machine;
the same per multiprocessor for the B200. One multiprocessor's part: its 64 bytes per clock, times 0.7. Seconds of a
launch and of a wait (some 270 clocks of latency, as much again for the program's own steps): estimates, the same for
all; `python -m kernels.tune` measures the launch.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from functools import lru_cache

import torch


@dataclass(frozen=True)
class Machine:
    """One GPU.

    Attributes:
        name: As in the name that CUDA gives it.
        capability: Compute capability times 10: 90 for sm_90.
        multiprocessors: How many there are.
        shared_bytes: The most shared memory of one program.
        l2_bytes: Size of the L2 cache.
        dram_rate: Bytes per second, read and written.
        l2_rate: Bytes per second from L2 to all multiprocessors together.
        multiprocessor_rate: Bytes per second from L2 to one multiprocessor.
        half_rate: FLOP/s of fp16 and bf16 on tensor cores.
        tf32_rate: FLOP/s of tf32 on tensor cores.
        fp32_rate: FLOP/s of fp32 without tensor cores.
        launch_seconds: From one launch in a CUDA graph to the next, if both are empty.
        wait_seconds: From a load to the next step that depends on its value, answered by L2.
    """

    name: str
    capability: int
    multiprocessors: int
    shared_bytes: int
    l2_bytes: int
    dram_rate: float
    l2_rate: float
    multiprocessor_rate: float
    half_rate: float
    tf32_rate: float
    fp32_rate: float
    launch_seconds: float = 1.3e-6
    wait_seconds: float = 0.35e-6


H100 = Machine(
    name="H100",
    capability=90,
    multiprocessors=132,
    shared_bytes=227 * 1024,
    l2_bytes=50 * 2**20,
    dram_rate=3.0e12,
    l2_rate=9.0e12,
    multiprocessor_rate=79e9,
    half_rate=798e12,
    tf32_rate=399e12,
    fp32_rate=67e12,
)

H200 = replace(H100, name="H200", dram_rate=4.3e12)
"""The data sheet's 4.8 TB/s; everything else is an H100."""

A100 = Machine(
    name="A100",
    capability=80,
    multiprocessors=108,
    shared_bytes=163 * 1024,
    l2_bytes=40 * 2**20,
    dram_rate=1.8e12,
    l2_rate=7.2e12,
    multiprocessor_rate=63e9,
    half_rate=252e12,
    tf32_rate=126e12,
    fp32_rate=19.5e12,
)
"""The data sheet of 80 GB SXM: 2.04 TB/s, 312 TFLOP/s, 156 in tf32."""

B200 = Machine(
    name="B200",
    capability=100,
    multiprocessors=148,
    shared_bytes=227 * 1024,
    l2_bytes=126 * 2**20,
    dram_rate=7.2e12,
    l2_rate=10.6e12,
    multiprocessor_rate=83e9,
    half_rate=1820e12,
    tf32_rate=910e12,
    fp32_rate=75e12,
)
"""The data sheet: 8 TB/s, 2.25 PFLOP/s dense, 1.12 in tf32."""

KNOWN = (H100, H200, A100, B200)

_assumed: ContextVar[Machine | None] = ContextVar("assumed", default=None)


@contextmanager
def assuming(machine: Machine) -> Iterator[None]:
    """Let every device count as `machine` inside, for inspection ahead of time and for tests."""
    token = _assumed.set(machine)
    try:
        yield
    finally:
        _assumed.reset(token)


def machine_of(device: torch.device) -> Machine:
    """Return the machine of a CUDA device, known or scaled from the nearest known one; for any other device the H100.

    Asks for properties once per device, which does not wait for it.
    """
    assumed = _assumed.get()
    if assumed is not None:
        return assumed
    if device.type != "cuda":
        return H100
    return _machine(torch.cuda.current_device() if device.index is None else device.index)


@lru_cache
def _machine(index: int) -> Machine:
    properties = torch.cuda.get_device_properties(index)
    return derived(
        properties.name,
        capability=10 * properties.major + properties.minor,
        multiprocessors=properties.multi_processor_count,
        l2_bytes=properties.L2_cache_size,
        shared_bytes=properties.shared_memory_per_block_optin,
    )


def derived(name: str, *, capability: int, multiprocessors: int, l2_bytes: int, shared_bytes: int) -> Machine:
    """Return the known machine that `name` has as a word, or the nearest below, scaled by multiprocessors."""
    words = re.findall(r"\w+", name)
    distance = {
        known: (known.name not in words, known.capability > capability, abs(capability - known.capability))
        for known in KNOWN
    }
    nearest = min(KNOWN, key=distance.__getitem__)
    if nearest.name in words and nearest.multiprocessors == multiprocessors:
        return nearest
    scale = multiprocessors / nearest.multiprocessors
    return replace(
        nearest,
        name=name,
        capability=capability,
        multiprocessors=multiprocessors,
        shared_bytes=shared_bytes,
        l2_bytes=l2_bytes,
        dram_rate=nearest.dram_rate * scale,
        l2_rate=nearest.l2_rate * scale,
        half_rate=nearest.half_rate * scale,
        tf32_rate=nearest.tf32_rate * scale,
        fp32_rate=nearest.fp32_rate * scale,
    )
