"""What is read off an AMD GPU's assembly, and that AMD's tiles ask for nothing that it lacks."""

import pytest

from kernels.choice.choice import reachable
from kernels.choice.tuning import LANGUAGE, PAPER
from kernels.compiled.targets import FASTEST, TARGETS, AmdCode, gpu_target
from kernels.cost.machine import MI300X, MI355X, RTX_5090, Machine
from kernels.paths.fused_tiles import FusedTiles
from kernels.paths.grouped import Grouped
from kernels.problem.problem import Problem
from tests.kernels.process import run_compiled

ASSEMBLY = """
	buffer_load_ushort v3, v5, s[0:3], 0 offen
	{load}
	{product} a[0:3], v[0:1], v[2:3], a[0:3]
    .private_segment_fixed_size: {scratch}
    .sgpr_count:     40
    .sgpr_spill_count: {scalars}
    .vgpr_count:     137
    .vgpr_spill_count: {vectors}
"""


def code(
    load: str = "global_load_dwordx2 v[2:3], v[0:1], off",
    product: str = "v_mfma_f32_32x32x8_bf16",
    scratch: int = 0,
    scalars: int = 0,
    vectors: int = 0,
) -> AmdCode:
    text = ASSEMBLY.format(load=load, product=product, scratch=scratch, scalars=scalars, vectors=vectors)
    return AmdCode.of(text)


def test_registers_loads_and_products_are_read_off() -> None:
    assert code() == AmdCode(registers=137, spill_bytes=0, multiplies=True, direct=False, widest_load=8)
    assert code(load="global_load_lds_dwordx4 v[0:1], off").direct
    assert code(load="global_load_lds_dwordx4 v[0:1], off").widest_load == 16
    assert code(load="buffer_load_dwordx4 v1, s[0:3], 0 offen lds").direct
    assert not code(product="v_fma_f32").multiplies


@pytest.mark.parametrize(
    ("spills", "size"), [({"scalars": 3}, 12), ({"vectors": 2, "scalars": 1}, 12), ({"scratch": 64, "vectors": 2}, 64)]
)
def test_every_kind_of_spill_counts(spills: dict[str, int], size: int) -> None:
    assert code(**spills).spill_bytes == size


def test_an_assembly_without_metadata_is_no_kernel() -> None:
    with pytest.raises(ValueError, match=r"^the assembly says no \.vgpr_spill_count$"):
        AmdCode.of("s_endpgm")


def test_every_target_has_an_instruction_and_a_warp() -> None:
    assert TARGETS.keys() == FASTEST.keys()
    warps = {name: gpu_target(name).warp_size for name in TARGETS}
    assert warps == {name: 64 if TARGETS[name].amd else 32 for name in TARGETS}
    assert (gpu_target("gfx950").arch, gpu_target("sm_120").arch) == ("gfx950", 120)


@pytest.mark.parametrize("machine", [MI300X, MI355X, RTX_5090], ids=lambda machine: machine.name)
@pytest.mark.parametrize("layer", [PAPER, LANGUAGE], ids=["paper", "language"])
def test_tiles_ask_for_nothing_that_a_machine_lacks(machine: Machine, layer: Problem) -> None:
    for _, options in reachable(layer, machine):
        if isinstance(options, Grouped):
            for part in (options.first, options.second):
                assert not part.swapped
                assert not (machine.amd and (part.described or part.persistent))
        if isinstance(options, FusedTiles):
            assert not (machine.amd and options.tile_rows == 32)


def test_a_sort_of_experts_compiles_for_amd_without_spills() -> None:
    script = (
        "from kernels.choice.choice import choose\n"
        "from kernels.choice.tuning import LANGUAGE\n"
        "from dataclasses import replace\n"
        "from kernels.cost.machine import assuming\n"
        "from kernels.compiled.job import specialise\n"
        "from kernels.compiled.jobs import launches\n"
        "from kernels.compiled.row import inspect\n"
        "from kernels.compiled.targets import TARGETS\n"
        "layer = replace(LANGUAGE, N=4096, M=8 * 4096)\n"
        "with assuming(TARGETS['gfx942']):\n"
        "    todo = launches(layer, choose(layer, TARGETS['gfx942']))\n"
        "rows = inspect([specialise(launch, 'gfx942') for launch in todo])\n"
        "print([(row.kernel, row.good, row.tensor_cores) for row in rows])\n"
    )
    done = run_compiled("-c", script)
    products = [("_grouped_gemm_kernel", True, "mfma")] * 2
    names = [("_route_kernel", True, "mfma"), ("_dispatch_kernel", True, "none"), *products]
    assert done.stdout == f"{[*names, ('_combine_kernel', True, 'none')]}\n", done.stderr
