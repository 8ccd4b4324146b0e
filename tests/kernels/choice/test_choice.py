"""The choice of path and tiles: stable, cheap, possible, and as the cost model says."""

from dataclasses import replace
from itertools import pairwise

import pytest
import torch

from kernels.choice.choice import LADDER, choose, options_of, reachable
from kernels.choice.tuning import LANGUAGE, PAPER
from kernels.compiled.jobs import launches
from kernels.cost.machine import A100, B200, H100, H200, Machine, derived
from kernels.cost.seconds import total_seconds
from kernels.cost.work import spread
from kernels.launch.tickets import MOST
from kernels.ops.fused import MOST_COLUMNS
from kernels.ops.grouped_gemm import grouped_gemm_work
from kernels.paths.fused_rows import FusedRows
from kernels.paths.fused_tiles import FusedTiles
from kernels.paths.grouped import Grouped
from kernels.paths.options import Options
from kernels.problem.options import Product
from kernels.problem.problem import Problem

LAYERS = {
    "paper": PAPER,
    "paper, fp32": replace(PAPER, dtype=torch.float32),
    "paper, soft": replace(PAPER, k=8),
    "paper, ids given": replace(PAPER, routing="top_k"),
    "odd": replace(PAPER, D=577, H=859, described=(False, False)),
    "odd, fp32, swiglu": replace(PAPER, D=97, H=47, E=7, dtype=torch.float32, activation="swiglu"),
    "tiny": replace(PAPER, D=1, H=1, E=1, C=1, k=1, M=1),
    "384 experts": replace(PAPER, E=384, k=8, M=8),
    "512 experts, soft": replace(PAPER, E=512, k=512, M=512),
    "512 experts, fp32": replace(PAPER, E=512, k=8, M=8, dtype=torch.float32),
    "5000 experts, ids given": replace(PAPER, E=5000, k=8, M=8, routing="top_k"),
    "language": LANGUAGE,
    "few experts": replace(LANGUAGE, D=4096, H=14336, E=8, C=4096, k=2),
    "language, tf32": replace(LANGUAGE, dtype=torch.float32, precision="tf32"),
    "language, flat": replace(LANGUAGE, dtype=torch.float32, routing="flat"),
    "language, mxfp4": replace(LANGUAGE, stored=("mxfp4", "mxfp4")),
    "paper, fp8 and mxfp4, fp32": replace(PAPER, stored=("fp8_blocks", "mxfp4"), dtype=torch.float32),
}


SMALL = [
    derived(name, capability=capability, multiprocessors=multiprocessors, l2_bytes=l2 * 2**20, shared_bytes=99 * 1024)
    for name, capability, multiprocessors, l2 in (
        ("NVIDIA L40S", 89, 142, 96),
        ("NVIDIA GeForce RTX 5090", 120, 170, 96),
    )
]
"""Machines with less shared memory than those that are known."""


def at(layer: Problem, N: int) -> Problem:
    return replace(layer, N=N, M=N if layer.routing == "flat" else N * layer.k)


def parts(options: Options) -> list[Product]:
    return [options.first, options.second] if isinstance(options, Grouped) else []


@pytest.mark.parametrize("name", LAYERS)
def test_a_layer_needs_few_options_whatever_the_number_of_rows(name: str) -> None:
    layer = LAYERS[name]
    listed = reachable(layer, H100)
    assert len(listed) <= 12
    chosen = {choose(at(layer, N), H100) for N in (*LADDER, 5, 100, 999, 2**20 + 1, 2**31)}
    assert chosen <= {options for _, options in listed}
    assert [N for N, _ in listed] == sorted({N for N, _ in listed})
    assert listed[0] == (1, choose(at(layer, 1), H100))
    for N, options in listed:
        assert choose(at(layer, N), H100) == options


def test_all_rows_between_two_steps_have_the_options_of_the_upper() -> None:
    for low, high in pairwise(LADDER):
        upper = choose(at(PAPER, high), H100)
        assert choose(at(PAPER, low + 1), H100) is upper


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("machine", [A100, H100, B200], ids=lambda machine: machine.name)
def test_what_is_chosen_is_possible(name: str, machine: Machine) -> None:
    layer = LAYERS[name]
    for _, options in reachable(layer, machine):
        for allowed, part in zip(layer.described, parts(options), strict=False):
            assert not part.described or (allowed and machine.capability >= 90)
            assert not part.swapped or machine.capability >= 90 or layer.is_stored
            assert not part.persistent or part.described
        if isinstance(options, FusedTiles | FusedRows):
            assert layer.routing != "flat"
            assert not layer.is_stored
            assert layer.C <= MOST_COLUMNS
        if not isinstance(options, FusedRows):
            assert options.precision == layer.precision
    for N in (1, 100, 10_000, 2**24):
        problem = at(layer, N)
        options = choose(problem, machine)
        assert options.most_rows(problem) >= N
        for work in options.works(problem):
            assert work.shared <= machine.shared_bytes


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("machine", SMALL, ids=lambda machine: machine.name)
def test_what_is_chosen_fits_a_small_shared_memory(name: str, machine: Machine) -> None:
    for N, options in reachable(LAYERS[name], machine):
        problem = at(LAYERS[name], N)
        assert all(work.shared < machine.shared_bytes for work in options.works(problem))


@pytest.mark.parametrize("name", LAYERS)
def test_something_fits_the_least_shared_memory(name: str) -> None:
    machine = replace(A100, shared_bytes=48 * 1024)
    for N in (1, 100, 10_000):
        problem = at(LAYERS[name], N)
        for options in (choose(problem, machine), *options_of(problem, machine)):
            assert all(work.shared <= machine.shared_bytes for work in options.works(problem))


@pytest.mark.parametrize("layer", [replace(PAPER, E=512, k=512, H=8192), replace(PAPER, H=2**21, k=1)])
def test_no_grid_is_too_long(layer: Problem) -> None:
    problem = at(layer, 2)
    fused = [options for options in options_of(problem, H100) if isinstance(options, FusedTiles | FusedRows)]
    longest = {launch.grid[1] for options in fused for launch in launches(problem, options)}
    assert 2**14 < max(longest) < 2**16


@pytest.mark.parametrize(("E", "tile_rows"), [(8, 128), (128, 128), (256, 64), (512, 32)])
def test_many_rows_take_tall_router_tiles_so_that_the_counts_are_few(E: int, tile_rows: int) -> None:
    options = choose(at(replace(LANGUAGE, E=E), 2**20), H100)
    assert isinstance(options, Grouped)
    assert (options.router.tile_rows, options.router.splits) == (tile_rows, 1)


def test_narrow_tiles_use_wgmma_by_swapping() -> None:
    for N in LADDER[:20]:
        options = choose(at(LANGUAGE, N), H100)
        assert isinstance(options, Grouped)
        for part in parts(options):
            assert part.swapped == (options.tile_rows < 64)
            assert not part.swapped or part.columns >= 64


def test_tile_height_follows_the_rows_per_expert() -> None:
    def height(N: int) -> int:
        options = choose(at(LANGUAGE, N), H100)
        assert isinstance(options, Grouped)
        return options.tile_rows

    heights = [height(N) for N in LADDER]
    assert heights == sorted(heights)
    assert heights[0] == 16
    assert height(8192) == 128  # 512 rows per expert


GEMMA = replace(LANGUAGE, D=2816, H=704, C=2816)
"""The layer of vLLM's tuned table."""


@pytest.mark.parametrize("layer", [GEMMA, LANGUAGE], ids=["gemma", "language"])
@pytest.mark.parametrize("N", [1024, 2048, 4096, 8192, 32768])
def test_many_rows_multiply_128_rows_by_256_columns(layer: Problem, N: int) -> None:
    problem = at(layer, N)
    first, _ = (work for work in choose(problem, H200).works(problem) if work.stage == "experts")
    assert first.tile[0] == 128
    assert first.tile[1] * first.dots == 256


@pytest.mark.parametrize("layer", [GEMMA, LANGUAGE], ids=["gemma", "language"])
@pytest.mark.parametrize("persistent", [False, True])
def test_wide_tiles_are_estimated_to_be_quicker(layer: Problem, persistent: bool) -> None:
    problem = at(layer, 8192)

    def seconds(columns: int) -> float:
        part = Product(columns, 64, 8, 3, described=True, persistent=persistent)
        sizes = {"tile_rows": 128, "precision": "ieee", "out_size": 2}
        work = grouped_gemm_work(problem, "second", part, spread(problem), **sizes)  # type: ignore[arg-type]
        return total_seconds((work,), H200)

    assert seconds(256) < seconds(128) < seconds(64)


def test_few_rows_of_a_small_head_are_fused_and_many_are_grouped() -> None:
    assert isinstance(choose(at(PAPER, 64), H100), FusedTiles | FusedRows)
    assert isinstance(choose(at(PAPER, 65536), H100), Grouped)
    assert isinstance(choose(at(LANGUAGE, 64), H100), Grouped)


def test_the_options_chosen_are_hardly_slower_than_the_best() -> None:
    for layer in (PAPER, LANGUAGE):
        for N in (1, 48, 700, 20_000):
            problem = at(layer, next(step for step in LADDER if step >= N))
            best = min(options.seconds(problem, H100) for options in options_of(problem, H100))
            assert choose(problem, H100).seconds(problem, H100) <= 1.05 * best


def test_a_flat_list_is_chosen_for_by_its_length() -> None:
    flat = LAYERS["language, flat"]
    same = [replace(flat, N=N, k=k, M=4096) for N, k in ((4096, 1), (100, 41), (512, 8))]
    assert len({choose(problem, H100) for problem in same}) == 1


def test_a_choice_is_made_once() -> None:
    choose(at(PAPER, 300), H100)
    known = choose.cache_info().hits
    choose(at(PAPER, 300), H100)
    assert choose.cache_info().hits == known + 1


def test_more_rows_are_never_estimated_to_be_much_faster() -> None:
    for name in ("paper", "language", "odd"):
        times = [choose(at(LAYERS[name], N), H100).seconds(at(LAYERS[name], N), H100) for N in LADDER]
        for fewer, more in pairwise(times):
            assert more >= 0.9 * fewer


def test_a_cold_cache_costs_the_time_to_read_what_is_touched() -> None:
    problem = at(PAPER, 256)
    options = choose(problem, H100)
    warm, cold = options.seconds(problem, H100), options.seconds(problem, H100, cold=True)
    assert warm < cold < 3 * warm
    large = at(LANGUAGE, 64)
    options = choose(large, H100)
    assert options.seconds(large, H100) == pytest.approx(options.seconds(large, H100, cold=True), rel=0.1)


def test_weights_of_a_large_layer_take_the_time_of_reading_them() -> None:
    problem = at(LANGUAGE, 128)
    weights = 2 * 128 * 3 * 2048 * 768
    time = choose(problem, H100).seconds(problem, H100)
    assert weights / H100.dram_rate < time < 1.3 * weights / H100.dram_rate


def test_many_rows_of_a_large_layer_take_the_time_of_multiplying() -> None:
    problem = at(LANGUAGE, 32768)
    time = choose(problem, H100).seconds(problem, H100)
    arithmetic = 2 * problem.M * 3 * 2048 * 768 / H100.half_rate
    assert arithmetic < time < 2 * arithmetic


def test_sums_that_programs_share_have_tickets() -> None:
    tiles = FusedTiles(tile_rows=64, experts=1, slices=1, hidden=64, depth=64, warps=4, stages=3)
    rows = FusedRows(slices=1, hidden=64, depth=64, warps=4)
    assert tiles.most_rows(PAPER) == 64 * MOST
    assert replace(tiles, experts=8).most_rows(PAPER) == float("inf")
    assert rows.most_rows(PAPER) == MOST
    assert rows.most_rows(replace(PAPER, k=1)) == float("inf")
    assert all(options.most_rows(at(PAPER, 2**20)) >= 2**20 for options in options_of(at(PAPER, 2**20), H100))
