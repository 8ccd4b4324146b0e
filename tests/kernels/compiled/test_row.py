"""What is wrong with a compiled kernel, in words."""

from dataclasses import replace

import pytest

from kernels.compiled.job import Job
from kernels.compiled.machine_code import Step
from kernels.compiled.row import MOST_BARRIERS, Compiled, _cycles, _widest_load, inspect

GOOD = Compiled(
    *("_k_kernel", "", "bf16", "sm_90"),
    registers=64,
    spill_bytes=0,
    shared_bytes=40,
    shared_limit=40,
    products=True,
    instructions=500,
    step_instructions=128,
    step_barriers=4,
    step_bytes=20,
    step_cycles=128,
    tensor_cores="wgmma",
    full_waits=1,
    summed=4,
    loads_of_a_sum=4,
)
FAULTS = {
    "spills": {"spill_bytes": 8},
    "needs too much shared memory": {"shared_bytes": 41},
    "multiplies by mma, not wgmma": {"tensor_cores": "mma"},
    "multiplies by wgmma mma, not wgmma": {"tensor_cores": "wgmma mma"},
    "multiplies by wgmma, not mma": {"short": True},
    "waits for each wgmma": {"serialised": True},
    "ptxas remarks C7514 C7515": {"remarks": ("C7514", "C7515")},
    "is longer than the instruction cache": {"instructions": 8193},
    "issues a step for longer than it multiplies": {"step_instructions": 129},
    "has too many barriers in a step": {"step_barriers": MOST_BARRIERS + 1},
    "has room for one step only": {"step_bytes": 21},
    "adds parts one by one": {"loads_of_a_sum": 1},
    "ValueError: no": {"error": "ValueError: no"},
    "not compiled": {"shared_bytes": None},
}


def test_a_good_kernel_has_no_faults() -> None:
    assert GOOD.faults == []
    assert GOOD.good


@pytest.mark.parametrize("fault", FAULTS)
def test_every_fault_has_words(fault: str) -> None:
    bad = replace(GOOD, **FAULTS[fault])  # type: ignore[arg-type]
    assert bad.faults == [fault]
    assert not bad.good


@pytest.mark.parametrize(
    "allowed",
    [
        {"short": True, "tensor_cores": "mma"},
        {"target": "sm_80", "tensor_cores": "mma"},
        {"products": False, "tensor_cores": "none"},
        {"step_cycles": None, "step_instructions": 900, "step_barriers": 40},
        {"step_instructions": None, "step_barriers": None, "step_bytes": None, "step_cycles": None},
        {"loads_of_a_sum": None},
        {"summed": 1, "loads_of_a_sum": 1},
    ],
)
def test_what_is_no_fault(allowed: dict[str, object]) -> None:
    assert replace(GOOD, **allowed).faults == []  # type: ignore[arg-type]


def test_the_cycles_of_a_step() -> None:
    assert _cycles(Step(100, 4, ("64x256x16",) * 4), "half") == 4 * 128
    assert _cycles(Step(100, 4, ("64x128x8",) * 4), "fp32") == 4 * 64
    assert _cycles(Step(100, 4, ("64x256x16", "64x64x16")), "half") is None
    assert _cycles(Step(100, 4, ()), "half") is None


def test_a_failure_to_compile_is_a_row() -> None:
    job = Job("kernels.ops.combine", "no_such_kernel", (("y", "*bf16"),), (), (), 4, 1, "sm_90")
    (row,) = inspect([job])
    assert row.error is not None
    assert row.error.startswith("AttributeError")
    assert not row.good


@pytest.mark.parametrize(
    ("ptx", "width"),
    [
        ("ld.global.v4.b32 {%r1, %r2, %r3, %r4}, [ %rd1 + 0 ];", 16),
        ("@%p1 ld.global.L1::evict_last.v2.b64 { %rd3, %rd4 }, [ %rd1 ];", 16),
        ("ld.global.b16 %rs1, [ %rd1 ];", 2),
        ("cp.async.cg.shared.global [ %r1 + 0 ], [ %rd1 + 0 ], 0x10, %r2;", 16),
        ("cp.async.ca.shared.global [ %r1 + 0 ], [ %rd1 + 0 ], 0x4, %r2;", 4),
        ("st.global.v4.b32 [ %rd1 ], { %r1, %r2, %r3, %r4 };", 0),
    ],
)
def test_the_widest_load_is_found(ptx: str, width: int) -> None:
    assert _widest_load(ptx) == width
