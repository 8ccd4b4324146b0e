"""The numbers of a GPU that turn the work of a launch into seconds.

Sources. Products: the H100 SXM and the H200 were measured once each, with torch 2.11: 798 TFLOP/s in a bf16 product of
8192^3 on random data. That is 0.81 of the data sheet's rate, so tf32 and the machines that nobody measured get 0.81 of
their data sheets. Memory: copies read and write 3.0 TB/s on the H100 and 4.3 on the H200, each 0.90 of the data sheet,
so other machines get 0.90. Multiprocessors, shared memory, L2 size and fp32 rate are the data sheet's.

L2: 5120 bytes per clock for the A100 (NVIDIA's white paper) and assumed for the H100, times the clock under load: 1.41
GHz for the A100; 1.5 for the H100 and the H200, whose power limit keeps long products at 1.4 to 1.5 GHz (TileOPs#1567).
The B200 gets the same per multiprocessor at 1.8 GHz. One multiprocessor reads 64 bytes per clock from L2, times 0.7, at
the boost clock. FLOPs per cycle of a multiprocessor's tensor cores: 312, 989 and 2250 TFLOP/s of the data sheets over
multiprocessors and boost clock.

The RTX 5090, the MI300X and the MI355X are data sheets alone, and their estimates are only good enough to choose which
tiles to compile. On AMD a multiprocessor is a compute unit, and L2 stands for the Infinity Cache, of 17.2 TB/s.

The seconds of a launch and of a wait (some 270 clocks of latency, and as many for the steps of the program) are
estimates, the same for all machines; `python -m kernels.tune` measures the launch.
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
        capability: Compute capability times 10: 90 for sm_90; 0 for an AMD GPU.
        multiprocessors: Their number.
        shared_bytes: The most shared memory of one program.
        l2_bytes: Size of the L2 cache.
        dram_rate: Bytes per second, read and written.
        l2_rate: Bytes per second from L2 to all multiprocessors together.
        multiprocessor_rate: Bytes per second from L2 to one multiprocessor.
        half_rate: FLOP/s of fp16 and bf16 on tensor cores.
        tf32_rate: FLOP/s of tf32 on tensor cores.
        fp32_rate: FLOP/s of fp32 without tensor cores.
        cycle_flops: FLOPs of one multiprocessor's tensor cores in one cycle, on fp16 and bf16.
        boost_clock: The highest clock in Hz, as the device reports it.
        launch_seconds: From one launch in a CUDA graph to the next, if both are empty.
        wait_seconds: From a load that L2 answers to the next step that needs its value.
        register_stages: Stages of a loop that wait in registers, if no copy goes to shared memory on its own.
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
    cycle_flops: int
    boost_clock: float
    launch_seconds: float = 1.3e-6
    wait_seconds: float = 0.35e-6
    register_stages: int = 0

    @property
    def amd(self) -> bool:
        """Whether AMD made it: there are no tensor descriptors, and mfma multiplies."""
        return self.capability == 0

    @property
    def asynchronous(self) -> bool:
        """Whether products of tiles in shared memory run beside the program: wgmma and tcgen05, unlike mma.sync."""
        return 90 <= self.capability < 120

    @property
    def chains(self) -> bool:
        """Whether a launch can wait on the device for the one before it (`kernels.launch.chain`)."""
        return self.capability >= 90


H100 = Machine(
    name="H100",
    capability=90,
    multiprocessors=132,
    shared_bytes=227 * 1024,
    l2_bytes=50 * 2**20,
    dram_rate=3.0e12,
    l2_rate=7.7e12,
    multiprocessor_rate=79e9,
    half_rate=798e12,
    tf32_rate=399e12,
    fp32_rate=67e12,
    cycle_flops=4096,
    boost_clock=1.98e9,
)

H200 = replace(H100, name="H200", l2_bytes=60 * 2**20, dram_rate=4.3e12)
"""An H100 with more and faster memory, of 4.8 TB/s, and 10 of its 60 MB of L2 not switched off."""

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
    cycle_flops=2048,
    boost_clock=1.41e9,
)
"""The data sheet of 80 GB SXM: 2.04 TB/s, 312 TFLOP/s, 156 in tf32."""

B200 = Machine(
    name="B200",
    capability=100,
    multiprocessors=148,
    shared_bytes=227 * 1024,
    l2_bytes=126 * 2**20,
    dram_rate=7.2e12,
    l2_rate=10.3e12,
    multiprocessor_rate=83e9,
    half_rate=1820e12,
    tf32_rate=910e12,
    fp32_rate=75e12,
    cycle_flops=8192,
    boost_clock=1.965e9,
)
"""The data sheet: 8 TB/s, 2.25 PFLOP/s dense, 1.12 in tf32."""

RTX_5090 = Machine(
    name="5090",
    capability=120,
    multiprocessors=170,
    shared_bytes=99 * 1024,
    l2_bytes=96 * 2**20,
    dram_rate=1.6e12,
    l2_rate=14.5e12,
    multiprocessor_rate=108e9,
    half_rate=170e12,
    tf32_rate=85e12,
    fp32_rate=105e12,
    cycle_flops=512,
    boost_clock=2.41e9,
)
"""The data sheet: 1.79 TB/s, 209.5 TFLOP/s dense with fp32 sums, 104.8 in tf32; L2 as the B200's at 2.2 GHz."""

MI300X = Machine(
    name="MI300X",
    capability=0,
    multiprocessors=304,
    shared_bytes=64 * 1024,
    l2_bytes=256 * 2**20,
    dram_rate=4.8e12,
    l2_rate=12.0e12,
    multiprocessor_rate=94e9,
    half_rate=1059e12,
    tf32_rate=530e12,
    fp32_rate=163e12,
    cycle_flops=2048,
    boost_clock=2.1e9,
    register_stages=1,
)
"""gfx942. The data sheet: 5.3 TB/s, 1307 TFLOP/s dense, 654 in tf32."""

MI355X = replace(
    MI300X,
    name="MI355X",
    multiprocessors=256,
    shared_bytes=160 * 1024,
    dram_rate=7.2e12,
    multiprocessor_rate=108e9,
    half_rate=2038e12,
    tf32_rate=157e12,
    fp32_rate=157e12,
    cycle_flops=4096,
    boost_clock=2.4e9,
    register_stages=0,
)
"""gfx950. The data sheet: 8 TB/s, 2517 TFLOP/s dense; it has no tf32."""

COPIED = 0.88
"""The share of the memory bus that a copy reaches: 3.0 of 3.35 TB/s on the H100, 4.3 of 4.92 on the H200."""

CLOSE = 0.05
"""A device whose rates differ from a known machine's by less is that machine: its kernels were compiled in advance."""

NVIDIA_ONLY = "the Triton kernels know tiles for NVIDIA GPUs only, and this is an AMD GPU"
"""The capability that ROCm reports, such as 9.4 of gfx942, says nothing about wgmma or tensor descriptors."""

KNOWN = (H100, H200, A100, B200, RTX_5090)
"""The machines that a device can be."""

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
    if torch.version.hip:
        raise ValueError(f"{properties.name} ({properties.gcnArchName}): {NVIDIA_ONLY}")
    return derived(
        properties.name,
        capability=10 * properties.major + properties.minor,
        multiprocessors=properties.multi_processor_count,
        l2_bytes=properties.L2_cache_size,
        shared_bytes=properties.shared_memory_per_block_optin,
        clock=1e3 * getattr(properties, "clock_rate", 0),
        memory=2e3 * getattr(properties, "memory_clock_rate", 0) * getattr(properties, "memory_bus_width", 0) / 8,
    )


def derived(
    name: str,
    *,
    capability: int,
    multiprocessors: int,
    l2_bytes: int,
    shared_bytes: int,
    clock: float = 0.0,
    memory: float = 0.0,
) -> Machine:
    """Return the machine with these numbers; they count more than those of the known machine that it resembles.

    That is the one that `name` contains as a word, or else the one of the nearest capability.

    Args:
        name: As CUDA gives it.
        capability: Compute capability times 10.
        multiprocessors: Their number; rates of the whole device are proportional to it.
        l2_bytes: Size of the L2 cache.
        shared_bytes: The most shared memory of one program.
        clock: Highest clock in Hz, to which rates are proportional too; 0 if the device does not say.
        memory: Bytes per second of the memory bus at its clock; 0 if the device does not say.
    """
    words = re.findall(r"\w+", name)
    distance = {
        known: (known.name not in words, known.capability > capability, abs(capability - known.capability))
        for known in KNOWN
    }
    nearest = min(KNOWN, key=distance.__getitem__)
    faster = clock / nearest.boost_clock if clock else 1.0
    share = multiprocessors / nearest.multiprocessors
    dram_rate = COPIED * memory if memory else nearest.dram_rate * share
    sized = replace(nearest, multiprocessors=multiprocessors, shared_bytes=shared_bytes, l2_bytes=l2_bytes)
    known = nearest.name in words and sized == nearest
    if known and abs(faster - 1) < CLOSE and abs(dram_rate / nearest.dram_rate - 1) < CLOSE:
        return nearest
    rates = ("l2_rate", "half_rate", "tf32_rate", "fp32_rate")
    return replace(
        sized,
        name=name,
        capability=capability,
        dram_rate=dram_rate,
        multiprocessor_rate=nearest.multiprocessor_rate * faster,
        boost_clock=nearest.boost_clock * faster,
        **{rate: getattr(nearest, rate) * share * faster for rate in rates},
    )
