"""The account of a call against what its kernels really do under the interpreter, and against what is launched."""

import json
from dataclasses import replace

import pytest
import torch

from kernels.choice.account import Account, account
from kernels.choice.work import balanced, histogram
from kernels.launch.launch import recording
from kernels.ops.dispatch import count, dispatch
from kernels.ops.fused_rows import fused_rows
from kernels.ops.fused_tiles import fused_tiles
from kernels.ops.grouped import grouped
from kernels.problem.options import FusedRows, FusedTiles, Grouped, Options, Product, Router
from kernels.problem.problem import Problem
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
    "fused rows": FusedRows(slices=1, hidden=16, depth=16, warps=4),
    "fused rows, experts in slices": FusedRows(slices=2, hidden=8, depth=32, warps=4),
}
CALLS = {
    # N, D, H, E, C, kind, k, activation, dtype
    "gate": (20, 33, 24, 4, 5, "gate", 4, "swiglu", torch.float16),
    "given": (20, 32, 40, 4, 9, "top_k", 4, "relu", torch.float32),
}


def problem_of(call: Call, kind: str, k: int) -> Problem:
    (N, D), (E, H, C) = call.x.shape, call.w2.shape
    return Problem(N, D, H, E, C, k, N * k, call.x.dtype, call.activation, kind)  # type: ignore[arg-type]


def execute(call: Call, options: Options) -> None:
    functions = {Grouped: grouped, FusedTiles: fused_tiles, FusedRows: fused_rows}
    call.run(functions[type(options)], options=options)


def integers(found: Account) -> int:
    """Return the bytes of integers that the account of the grouped path counts as read: those of the dispatch."""
    return sum(work.read for work in found.works if work.stage == "dispatch")


@pytest.mark.parametrize("name", PATHS)
@pytest.mark.parametrize("which", CALLS)
def test_the_account_is_what_the_kernels_do(name: str, which: str) -> None:
    N, D, H, E, C, kind, k, activation, dtype = CALLS[which]
    options = PATHS[name]
    if isinstance(options, FusedRows):
        N, k = 2, 2
    elif isinstance(options, Grouped):
        k = 2  # the fused tiles' account takes every tile to use every expert, which 4 of 4 do
    call = new_call(N, D, H, E, C, dtype, kind=kind, k=k, activation=activation)
    rows = [0] * E
    for _, expert, _ in call.assignments():
        rows[expert] += 1
    expected = account(problem_of(call, kind, k), options, rows)
    with counting() as found:
        execute(call, options)
    if isinstance(options, FusedRows):  # vectors are multiplied without a dot; so are the weights of the experts
        assert expected.flops <= 2 * found.multiplications <= 1.2 * expected.flops
    else:
        assert expected.flops == found.dots
    if isinstance(options, Grouped):
        assert expected.read - integers(expected) == found.read["f"]
    else:
        assert expected.read == sum(found.read.values())
    tickets = 0 if isinstance(options, Grouped) else found.written["i"]
    if isinstance(options, Grouped) and options.router.splits > 1 and kind == "gate":
        tickets = 4 * expected.works[0].programs // options.router.splits
    assert expected.written == sum(found.written.values()) - tickets


@pytest.mark.parametrize("kind", ["gate", "top_k", "flat"])
@pytest.mark.parametrize("name", ["grouped", "fused tiles", "fused rows"])
def test_the_account_names_every_launch(kind: str, name: str) -> None:
    if kind == "flat" and name != "grouped":
        pytest.skip("a flat list has no fused path")
    call = new_call(20, 16, 16, 4, 5, kind=kind, k=2)
    options = PATHS[name]
    with recording() as records:
        execute(call, options)
    found = account(problem_of(call, kind, 2), options)
    ours = [work for work in found.works if not work.kernel.startswith("torch.")]
    assert [(work.stage, work.kernel) for work in ours] == [
        (launch.stage, launch.kernel.__name__) for launch in records
    ]
    for work, launch in zip(ours, records, strict=True):
        grid = torch.Size(launch.grid).numel()
        assert work.programs <= grid
        if work.stage != "experts":
            assert work.programs == grid
    assert found.launches == (1 if name != "grouped" else 8 if kind == "flat" else 5)


@pytest.mark.parametrize("M", [1, 600, 5000])
def test_the_bytes_of_the_dispatch(M: int) -> None:
    ids = torch.arange(M, dtype=torch.int32) % 5
    problem = Problem(M, 8, 8, 5, 8, 1, M, torch.float32, routing="top_k")
    works = account(problem, PATHS["grouped"]).works
    with counting() as found:
        counts, block = count(ids, 5)
    assert (works[0].read, works[0].written) == (found.read["i"], found.written["i"])
    with counting() as found:
        dispatch(ids, counts, block, tile_rows=16, k=1)
    assert (works[1].read, works[1].written) == (found.read["i"], found.written["i"])


def test_the_least_possible() -> None:
    problem = Problem(N=10, D=16, H=32, E=8, C=4, k=2, M=20, dtype=torch.bfloat16, activation="swiglu")
    found = account(problem, PATHS["grouped"], [15, 5, 0, 0, 0, 0, 0, 0])
    assert found.least_flops == 2 * 20 * (16 * 64 + 32 * 4) + 2 * 10 * 16 * 8
    weights = 2 * (16 * 64 + 64 + 32 * 4 + 4)
    assert found.least_bytes == 2 * (10 * 16 + 10 * 4 + weights + 8 * 16 + 8)
    given = replace(problem, routing="top_k")
    assert account(given, PATHS["grouped"]).least_flops == 2 * 20 * (16 * 64 + 32 * 4)
    assert found.flops > found.least_flops
    assert found.padding == pytest.approx(1 - found.least_flops / found.flops)


def test_an_account_without_padding_has_none() -> None:
    problem = Problem(N=64, D=32, H=16, E=2, C=16, k=1, M=64, dtype=torch.float32, routing="top_k")
    found = account(problem, PATHS["grouped"])
    assert found.flops == found.least_flops
    assert found.padding == 0


def test_one_hot_expert_pads_less_and_one_row_each_pads_most() -> None:
    problem = Problem(N=64, D=32, H=32, E=64, C=16, k=1, M=64, dtype=torch.float32)
    hot, even = (account(problem, PATHS["grouped"], rows) for rows in ([64] + [0] * 63, [1] * 64))
    assert hot.padding < even.padding
    assert hot.least_bytes < even.least_bytes
    assert account(problem, PATHS["grouped"]) == even


def test_no_rows_launch_nothing() -> None:
    found = account(Problem(0, 8, 8, 4, 8, 2, 0, torch.float32), PATHS["grouped"])
    assert (found.launches, found.flops, found.padding) == (0, 0, 0)


def test_rows_must_sum_to_the_assignments() -> None:
    with pytest.raises(ValueError, match="must sum to the M = 4 assignments"):
        account(Problem(2, 8, 8, 4, 8, 2, 4, torch.float32), PATHS["grouped"], [1, 2])


def test_histograms() -> None:
    problem = Problem(5, 8, 8, 4, 8, 2, 10, torch.float32)
    assert balanced(problem) == ((3, 2), (2, 2)) == histogram([3, 2, 2, 3])
    assert balanced(replace(problem, M=3)) == ((1, 3),) == histogram([0, 1, 1, 1])
    assert balanced(replace(problem, M=8)) == ((2, 4),)


def test_the_record_is_flat_json() -> None:
    problem = Problem(8, 16, 16, 4, 8, 2, 16, torch.float32)
    record = account(problem, PATHS["grouped"]).as_record()
    assert json.loads(json.dumps(record)) == record
    assert record["launches"] == 5
    assert str(record["kernels"]).split()[0] == "_route_kernel"
