"""The counted work of a call against its kernels under the interpreter, and against its launches."""

from dataclasses import replace
from itertools import product

import pytest
import torch

from kernels.cost.work import LaunchWork, balanced, histogram, spread
from kernels.launch.launch import recording
from kernels.ops.dispatch import count, dispatch
from kernels.paths.fused_rows import FusedRows
from kernels.paths.fused_tiles import FusedTiles
from kernels.paths.grouped import Grouped
from kernels.paths.options import Options
from kernels.problem.options import Product, Router
from kernels.problem.problem import Problem
from kernels.problem.stored import SCHEMES, Scheme, matrix_bytes
from tests.kernels.calls import Call, new_call
from tests.kernels.counting import counting

ROUTER = Router(tile_rows=16, depth=16, warps=4, stages=1)
TILE = Product(columns=16, depth=16, warps=4, stages=1)
WIDE = Product(columns=64, depth=32, warps=4, stages=1, swapped=True)
PATHS: dict[str, Options] = {
    "grouped": Grouped(16, ROUTER, TILE, TILE),
    "grouped, gate in parts": Grouped(16, replace(ROUTER, splits=2), TILE, TILE),
    "grouped, second product in parts": Grouped(16, ROUTER, TILE, replace(TILE, splits=2)),
    "grouped, swapped": Grouped(32, ROUTER, WIDE, WIDE),
    "fused tiles": FusedTiles(tile_rows=16, experts=4, slices=1, hidden=16, depth=16, warps=4, stages=1),
    "fused tiles, two experts each": FusedTiles(
        tile_rows=16, experts=2, slices=1, hidden=16, depth=16, warps=4, stages=1
    ),
    "fused tiles, experts in slices": FusedTiles(
        tile_rows=32, experts=1, slices=2, hidden=16, depth=16, warps=4, stages=1
    ),
    "fused tiles, transposed": FusedTiles(
        tile_rows=16, experts=2, slices=1, hidden=16, depth=16, warps=4, stages=1, swapped=True
    ),
    "fused rows": FusedRows(slices=1, hidden=16, depth=16, warps=4),
    "fused rows, experts in slices": FusedRows(slices=2, hidden=8, depth=32, warps=4),
}
CALLS = {
    # N, D, H, E, C, kind, k, activation, dtype
    "gate": (20, 33, 24, 4, 5, "gate", 4, "swiglu", torch.float16),
    "top_k": (20, 32, 40, 4, 9, "top_k", 4, "relu", torch.float32),
}


def problem_of(call: Call, kind: str, k: int) -> Problem:
    (N, D), (E, H, C) = call.x.shape, call.w2.shape
    return Problem(N, D, H, E, C, k, N * k, call.x.dtype, call.activation, kind)  # type: ignore[arg-type]


def flops(works: tuple[LaunchWork, ...]) -> int:
    return sum(work.flops for work in works)


@pytest.mark.parametrize("name", PATHS)
@pytest.mark.parametrize("which", CALLS)
def test_works_are_what_the_kernels_do(name: str, which: str) -> None:
    N, D, H, E, C, kind, k, activation, dtype = CALLS[which]
    options = PATHS[name]
    if isinstance(options, FusedRows):
        N, k = 2, 2
    elif isinstance(options, Grouped):
        k = 2  # fused tiles are taken to use every expert in every tile, which 4 of 4 do
    call = new_call(N, D, H, E, C, dtype, kind=kind, k=k, activation=activation)
    rows = [0] * E
    for _, expert, _ in call.assignments():
        rows[expert] += 1
    works = options.works(problem_of(call, kind, k), rows)
    read, written = sum(work.read for work in works), sum(work.written for work in works)
    with counting() as counted:
        call.run(options.run)
    if isinstance(options, FusedRows):  # vectors are multiplied without a dot; so are the weights of the experts
        assert flops(works) <= 2 * counted.multiplications <= 1.2 * flops(works)
    else:
        assert flops(works) == counted.dots
    if isinstance(options, Grouped):
        integers = sum(work.read for work in works if work.stage == "dispatch")
        assert read - integers == counted.read["f"]
    else:
        assert read == sum(counted.read.values())
    tickets = 0 if isinstance(options, Grouped) else counted.written["i"]
    if isinstance(options, Grouped) and options.router.splits > 1 and kind == "gate":
        tickets = 4 * works[0].programs // options.router.splits
    assert written == sum(counted.written.values()) - tickets


@pytest.mark.parametrize(("scheme", "splits"), [*zip(SCHEMES, (1, 2, 1, 2), strict=True), ("fp8_blocks", 2)])
def test_the_bytes_of_stored_weights(scheme: Scheme, splits: int) -> None:
    """Both kernels read the same integers of a dispatch, so the other integers are stored weights."""
    call = new_call(20, 128, 160, 4, 9, torch.float16, kind="top_k", k=2, activation="swiglu")
    options = replace(PATHS["grouped, swapped"], second=replace(WIDE, splits=splits))
    problem = problem_of(call, "top_k", 2)
    rows = [sum(expert == e for _, expert, _ in call.assignments()) for e in range(4)]
    with counting() as full:
        call.run(options.run)
    with counting() as counted:
        options.run(call.x, call.routing, call.experts.stored(scheme))
    works = options.works(replace(problem, stored=(scheme, scheme)), rows)
    wholes = options.works(problem, rows)
    read = sum(counted.read.values()) - full.read["i"]
    assert read == sum(work.read for work in works if work.stage != "dispatch")
    assert counted.written == full.written
    assert flops(works) == counted.dots == full.dots
    less = [whole.touched - work.touched for whole, work in zip(wholes, works, strict=True) if work.passing]
    sizes = [(128, 320), (160, 9)]
    assert less == [4 * (2 * D * H - matrix_bytes(scheme, D, H, 2)) for D, H in sizes]


@pytest.mark.parametrize(
    ("name", "kind"), [*product(["grouped", "fused tiles", "fused rows"], ["gate", "top_k"]), ("grouped", "flat")]
)
def test_works_name_every_launch(name: str, kind: str) -> None:
    call = new_call(20, 16, 16, 4, 5, kind=kind, k=2)
    options = PATHS[name]
    with recording() as records:
        call.run(options.run)
    works = options.works(problem_of(call, kind, 2))
    ours = [work for work in works if not work.kernel.startswith("torch.")]
    assert [(work.stage, work.kernel) for work in ours] == [
        (launch.stage, launch.kernel.__name__) for launch in records
    ]
    for work, launch in zip(ours, records, strict=True):
        grid = torch.Size(launch.grid).numel()
        assert work.programs <= grid
        if work.stage != "experts":
            assert work.programs == grid
    assert len(works) == (1 if name != "grouped" else 8 if kind == "flat" else 5)


@pytest.mark.parametrize("M", [1, 600, 5000])
def test_the_bytes_of_the_dispatch(M: int) -> None:
    ids = torch.arange(M, dtype=torch.int32) % 5
    problem = Problem(M, 8, 8, 5, 8, 1, M, torch.float32, routing="top_k")
    works = PATHS["grouped"].works(problem)
    with counting() as counted:
        counts, block = count(ids, 5)
    assert (works[0].read, works[0].written) == (counted.read["i"], counted.written["i"])
    with counting() as counted:
        dispatch(ids, counts, block, tile_rows=16, k=1)
    assert (works[1].read, works[1].written) == (counted.read["i"], counted.written["i"])


@pytest.mark.parametrize("E", [5, 200])
def test_the_dispatch_waits_once_for_each_part_of_its_loops(E: int) -> None:
    M = 300_000
    problem = Problem(M, 8, 8, E, 8, 1, M, torch.float32, routing="top_k")
    with recording() as records:
        counts, block = count(torch.empty(M, dtype=torch.int32, device="meta"), E)
        dispatch(torch.empty(M, dtype=torch.int32, device="meta"), counts, block, tile_rows=16, k=1)
    arguments = records[1].arguments
    counted = -(-counts.shape[0] // arguments["block_b"])
    placed = arguments["blocks"] * block // arguments["chunk"]
    assert PATHS["grouped"].works(problem)[1].fillings == counted + placed


@pytest.mark.parametrize("name", ["fused tiles", "fused rows"])
def test_a_fused_launch_touches_everything_once(name: str) -> None:
    problem = Problem(N=1, D=16, H=32, E=8, C=4, k=2, M=2, dtype=torch.bfloat16, activation="swiglu")
    weights = 2 * (16 * 64 + 64 + 32 * 4 + 4)
    assert PATHS[name].works(problem)[0].touched == 2 * (16 + 4 + weights + 8 * 16 + 8)
    without_gate = replace(problem, routing="top_k")
    assert PATHS[name].works(without_gate)[0].touched == 2 * (16 + 4 + weights) + 8 * 2


def test_works_without_padding_are_the_products() -> None:
    problem = Problem(N=64, D=32, H=16, E=2, C=16, k=1, M=64, dtype=torch.float32, routing="top_k")
    assert flops(PATHS["grouped"].works(problem)) == 2 * 64 * (32 * 16 + 16 * 16)


def test_one_hot_expert_pads_less_and_one_row_each_pads_most() -> None:
    problem = Problem(N=64, D=32, H=32, E=64, C=16, k=1, M=64, dtype=torch.float32)
    hot, even = (PATHS["grouped"].works(problem, rows) for rows in ([64] + [0] * 63, [1] * 64))
    assert flops(hot) < flops(even)
    assert hot[2].touched < even[2].touched
    assert PATHS["grouped"].works(problem) == even


def test_no_rows_launch_nothing() -> None:
    assert PATHS["grouped"].works(Problem(0, 8, 8, 4, 8, 2, 0, torch.float32)) == ()


def test_rows_must_sum_to_the_assignments() -> None:
    with pytest.raises(ValueError, match="must sum to the M = 4 assignments"):
        PATHS["grouped"].works(Problem(2, 8, 8, 4, 8, 2, 4, torch.float32), [1, 2])


def test_histograms() -> None:
    problem = Problem(5, 8, 8, 4, 8, 2, 10, torch.float32)
    assert balanced(problem) == ((3, 2), (2, 2)) == histogram([3, 2, 2, 3])
    assert balanced(replace(problem, M=3)) == ((1, 3),) == histogram([0, 1, 1, 1])
    assert balanced(replace(problem, M=8)) == ((2, 4),)


def test_rows_that_choose_at_random_are_spread_as_in_a_simulation() -> None:
    problem = Problem(1024, 8, 8, 128, 8, 8, 8192, torch.float32)
    generator = torch.Generator().manual_seed(0)
    ids = torch.rand(problem.N, problem.E, generator=generator).topk(problem.k, dim=1).indices
    simulated = torch.bincount(ids.flatten(), minlength=problem.E).double()
    rows = torch.tensor([size for size, number in spread(problem) for _ in range(number)]).double()
    assert rows.sum() == problem.M
    assert rows.std() == pytest.approx(simulated.std().item(), rel=0.2)
    assert rows.max() == pytest.approx(simulated.max().item(), rel=0.2)
    assert spread(problem) == spread(problem)


@pytest.mark.parametrize(("N", "E", "k"), [(1, 128, 8), (16, 8, 8), (2**20, 5000, 8), (3, 4, 1)])
def test_a_row_chooses_an_expert_at_most_once(N: int, E: int, k: int) -> None:
    rows = spread(Problem(N, 8, 8, E, 8, k, N * k, torch.float32))
    assert sum(size * number for size, number in rows) == N * k
    assert max(size for size, _ in rows) <= N
    assert sum(number for _, number in rows) <= E
