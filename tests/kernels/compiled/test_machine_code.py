"""What is read off machine code, and that what is wrong in it shows."""

import json
from collections.abc import Sequence
from typing import Any

import pytest

from kernels.compiled.machine_code import MachineCode, Step
from tests.kernels.process import run_compiled

ARRIVE = "WARPGROUP.ARRIVE"
PRODUCT = "HGMMA.64x256x16.F32.BF16 R24, gdesc[UR4].tnspB, R24"
DEFERRED = "WARPGROUP.DEPBAR.LE gsb0, 0x1"
FULL = "WARPGROUP.DEPBAR.LE gsb0, 0x0"
BARRIER = "BAR.SYNC.DEFER_BLOCKING 0x0"
LOAD, ADD = "LDG.E R4, desc[UR4][R2.64]", "FADD R5, R5, R4"
END = ("EXIT", "BRA 0x{here}", "NOP")
STEP = (BARRIER, ARRIVE, PRODUCT, PRODUCT, DEFERRED)


def sass(*lines: str) -> str:
    """Return `lines` as cuobjdump prints them; {here} is a line's own address, {n} that of line n."""
    addresses = [f"{16 * place:04x}" for place in range(len(lines))]
    return "\n".join(
        f"        /*{address}*/    {line.format(*addresses, here=address)} ;    /* 0x79c5 */\n    /* 0x000fe2 */"
        for address, line in zip(addresses, lines, strict=True)
    )


def code(*lines: str) -> MachineCode:
    return MachineCode.of(sass(*lines, *END))


def test_a_step_is_the_loop_that_multiplies() -> None:
    product = code("MOV R1, c[0x0][0x28]", *STEP, "@P0 BRA 0x{1}", FULL)
    assert product.step == Step(instructions=6, barriers=1, wgmmas=("64x256x16",) * 2)
    assert (product.instructions, product.barriers, product.full_waits) == (10, 1, 1)
    assert product.wgmmas == ("64x256x16",) * 2


def test_a_persistent_product_has_its_step_inside() -> None:
    product = code(BARRIER, *STEP, "@P0 BRA 0x{1}", FULL, BARRIER, "@!P1 BRA 0x{0}")
    assert product.loops == ((1, 6), (0, 9))
    assert product.step == Step(instructions=6, barriers=1, wgmmas=("64x256x16",) * 2)


def test_a_warp_that_waits_out_of_line_makes_no_loop() -> None:
    product = code(*STEP, "@!P0 BRA 0x{7}", "EXIT", "@!P0 BRA 0x{7}", "BRA 0x{6}")
    assert product.loops == ()
    assert product.step is None


def test_a_wait_for_each_wgmma_shows() -> None:
    product = code(*(BARRIER, ARRIVE, PRODUCT, FULL) * 2, "@P0 BRA 0x{0}")
    assert product.full_waits == len(product.wgmmas) == 2


@pytest.mark.parametrize(
    ("turn", "loads"),
    [
        ((LOAD, ADD), 1),
        ((LOAD, LOAD, LOAD, ADD, ADD, ADD), 3),
        ((LOAD, "HMMA.16816.F32.BF16 R4, R8, R12, R4", ADD), None),
        ((LOAD, "FFMA R4, R8, R12, R4", ADD), None),
        (("LDS R4, [R2]", ADD), None),
    ],
    ids=["one by one", "together", "product", "exact product", "shared memory"],
)
def test_a_sum_that_loads_its_parts_shows(turn: Sequence[str], loads: int | None) -> None:
    assert code(*turn, "@P0 BRA 0x{0}").loads_of_a_sum == loads


@pytest.mark.parametrize("line", ["STL [R1], R2", "@P0 LDL.64 R2, [R1+0x8]"])
def test_spilled_registers_show(line: str) -> None:
    assert code(line).local
    assert not code(LOAD).local


PTX = """
.version 8.4
.target {target}
.address_size 64
.visible .entry kernel(.param .u64 out) {{
    .reg .b32 %r<4>; .reg .b64 %rd<4>; .reg .f32 %f<8>;
    ld.param.u64 %rd1, [out];
    mov.u64 %rd2, 0;
    wgmma.fence.sync.aligned;
    {first}
    {between}
    {second}
    wgmma.commit_group.sync.aligned;
    wgmma.wait_group.sync.aligned 0;
    st.global.f32 [%rd1], %f0;
    ret;
}}
"""
WGMMA = "wgmma.mma_async.sync.aligned.m64n8k16.f32.bf16.bf16 {%f0, %f1, %f2, %f3}, %rd2, %rd2, 1, 1, 1, 0, 0;"
SCRIPT = """
import json
import sys
from dataclasses import replace
from kernels.choice.tuning import LANGUAGE
from kernels.compiled.job import specialise
from kernels.compiled.jobs import launches
from kernels.compiled.machine_code import MachineCode, _run, disassembled, logged, ptxas, remarks
from kernels.paths.grouped import Grouped
from kernels.problem.options import Product, Router
from triton import knobs

options = Grouped(64, Router(16, 64, 4, 2), Product(64, 64, 4, 2), Product(64, 64, 4, 2))
_, _, *products, _ = launches(replace(LANGUAGE, N=64, M=512), options)
looped, straight = (specialise(launch, "sm_90") for launch in products)
with logged() as log:
    kernels = [straight.compile(), looped.compile()]
with logged() as again:
    looped.compile()
alone = [MachineCode.of(_run(knobs.nvidia.cuobjdump.path, kernel.asm["cubin"], "-sass")) for kernel in kernels]
together = disassembled(kernels)
print(json.dumps({
    "remarks": [remarks(ptxas(ptx)) for ptx in sys.argv[1:]],
    "logs": [log.getvalue().count("Compiling entry function"), again.getvalue()],
    "loops": [[code.loops for code in codes] for codes in (alone, together)],
    "steps": [[str(code.step) for code in codes] for codes in (alone, together)],
    "names": [[[line.split()[0] for line in code.lines] for code in codes] for codes in (alone, together)],
}))
"""


@pytest.fixture(scope="module")
def said(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Return what Triton's tools say of the two kernels of PTX, and of two of ours, compiled with an empty cache."""
    read = "add.f32 %f4, %f0, %f1; st.global.f32 [%rd1+8], %f4;"
    good, bad = (PTX.format(target="sm_90a", first=WGMMA, between=between, second=WGMMA) for between in ("", read))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRITON_CACHE_DIR", str(tmp_path_factory.mktemp("cache")))
        done = run_compiled("-c", SCRIPT, good, bad)
    assert done.returncode == 0, done.stderr
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def test_ptxas_says_that_it_serialises_wgmma(said: dict[str, Any]) -> None:
    good, bad = said["remarks"]
    assert good == []
    assert bad[0].startswith("C75")


def test_what_ptxas_says_is_kept_when_it_compiles(said: dict[str, Any]) -> None:
    assert said["logs"] == [2, ""]


@pytest.mark.parametrize("what", ["loops", "steps", "names"])
def test_code_read_beside_that_of_another_kernel_is_the_same(what: str, said: dict[str, Any]) -> None:
    alone, together = said[what]
    assert alone == together
    assert alone[1] != alone[0]
    assert alone[1] not in ([], "None")
