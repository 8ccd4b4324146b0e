"""The numbers of a GPU that turn the work of a launch into seconds.

Sources. The H100 SXM was measured once, with torch 2.11: 798 TFLOP/s in a bf16 product of 8192^3 on random data, and
3.0 TB/s read and written in a copy. Its multiprocessors, shared memory, L2 size and fp32 rate are the data sheet's. The
two measured rates are 0.81 and 0.90 of the data sheet's, so tf32 and the other machines, which nobody measured, get the
data sheet's rates times these shares. L2: NVIDIA's 5120 bytes per clock of the A100, at the boost clock of the machine;
for the B200 the same per multiprocessor. One multiprocessor reads 64 bytes per clock from L2, times 0.7. The seconds of
a launch and of a wait (some 270 clocks of latency, and as many for the steps of the program) are estimates, the same
for all machines; `python -m kernels.tune` measures the launch.
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
        name: A word of the name that CUDA gives it.
        capability: Compute capability times 10: 90 for sm_90.
        multiprocessors: Their number.
        shared_bytes: The most shared memory of one program.
        l2_bytes: Size of the L2 cache.
        dram_rate: Bytes per second, read and written.
        l2_rate: Bytes per second from L2 to all multiprocessors together.
        multiprocessor_rate: Bytes per second from L2 to one multiprocessor.
        half_rate: FLOP/s of fp16 and bf16 on tensor cores.
        tf32_rate: FLOP/s of tf32 on tensor cores.
        fp32_rate: FLOP/s of fp32 without tensor cores.
        launch_seconds: From one launch in a CUDA graph to the next, if both are empty.
        wait_seconds: From a load that L2 answers to the next step that needs its value.
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
"""An H100 with the 4.8 TB/s of its data sheet."""

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
    """Treat every device as `machine` inside, to compile ahead of time and for tests."""
    token = _assumed.set(machine)
    try:
        yield
    finally:
        _assumed.reset(token)


def assumed() -> Machine | None:
    """Return the machine that every device is treated as, or None."""
    return _assumed.get()


def machine_of(device: torch.device) -> Machine:
    """Return the machine of a CUDA device, known or scaled from the nearest known one; for other devices the H100.

    It asks CUDA once per device, and does not wait for the device.
    """
    machine = assumed()
    if machine is not None:
        return machine
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
    """Return the known machine that `name` contains as a word, or else the nearest one scaled by multiprocessors."""
    words = re.findall(r"\w+", name)
    distance = {
        known: (known.name not in words, known.capability > capability, abs(capability - known.capability))
        for known in KNOWN
    }
    nearest = min(KNOWN, key=distance.__getitem__)
    if nearest.name in words and nearest.multiprocessors == multiprocessors:
        return nearest
    scale = multiprocessors / nearest.multiprocessors
    rates = ("dram_rate", "l2_rate", "half_rate", "tf32_rate", "fp32_rate")
    return replace(
        nearest,
        name=name,
        capability=capability,
        multiprocessors=multiprocessors,
        shared_bytes=shared_bytes,
        l2_bytes=l2_bytes,
        **{rate: getattr(nearest, rate) * scale for rate in rates},
    )
