"""The whole operation on every path against a float64 oracle, and properties that hold for any numbers."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kernels.call.operator import run
from kernels.moe import moe, moe_reference
from kernels.paths.fused_rows import FusedRows
from kernels.paths.fused_tiles import FusedTiles
from kernels.paths.grouped import EXACT_COLUMNS, Grouped
from kernels.paths.options import Options
from kernels.problem.options import Product, Router
from kernels.problem.routes import Flat, Gate, TopK
from tests.kernels.calls import (
    AWKWARD,
    KINDS,
    MUTANTS,
    Call,
    assert_right,
    new_call,
    padded,
    restricted,
    spoil,
    tied,
    turned,
)

NARROW = Product(columns=16, depth=32, warps=4, stages=2)
ROUTER = Router(tile_rows=16, depth=32, warps=4, stages=2)
GROUPED = Grouped(tile_rows=16, router=ROUTER, first=NARROW, second=replace(NARROW, persistent=True))
SWAPPED = Product(columns=64, depth=32, warps=4, stages=2, swapped=True)
PATHS: dict[str, Options] = {
    "grouped": GROUPED,
    "swapped": replace(GROUPED, first=SWAPPED, second=replace(SWAPPED, splits=2), router=replace(ROUTER, splits=2)),
    "fused tiles": FusedTiles(tile_rows=16, experts=2, slices=2, hidden=16, depth=32, warps=4, stages=2),
    "fused rows": FusedRows(slices=2, hidden=32, depth=128, warps=4),
}
PATHS_AND_KINDS = [
    (path, kind) for path in PATHS for kind in KINDS if not (path.startswith("fused") and kind == "flat")
]
on_every_path = pytest.mark.parametrize(("path", "kind"), PATHS_AND_KINDS)


def awkward_calls() -> list[Any]:
    """Return every awkward shape on every path; the kinds of routing that a path takes come in turn."""
    taken = {path: [kind for other, kind in PATHS_AND_KINDS if other == path] for path in PATHS}
    return [
        (*shape, path, kinds[(place + turn) % len(kinds)])
        for place, shape in enumerate(AWKWARD)
        for turn, (path, kinds) in enumerate(taken.items())
    ]


def solve(call: Call, path: str) -> torch.Tensor:
    """Run `call` on a path, or by the reference."""
    return call.run(moe_reference) if path == "reference" else call.run(moe, options=PATHS[path])


def mutants_on_paths() -> list[tuple[str, str, torch.dtype]]:
    """Return every mutant on two of the paths, once in float32 and once in float16."""
    paths = list(PATHS)
    result = []
    for place, mutant in enumerate(MUTANTS):
        other = place + 1 + place // len(paths) % (len(paths) - 1)
        result += [(mutant, paths[place % len(paths)], torch.float32)]
        result += [(mutant, paths[other % len(paths)], torch.float16)]
    return result


@pytest.mark.parametrize(("N", "D", "H", "E", "k", "C", "path", "kind"), awkward_calls())
def test_awkward_shapes(N: int, D: int, H: int, E: int, k: int, C: int, path: str, kind: str) -> None:
    dtype = torch.float16 if N % 2 else torch.float32
    call = new_call(N, D, H, E, C, dtype, k=k, kind=kind)
    assert_right(solve(call, path), call)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("N", "D", "H", "E", "k", "C"), AWKWARD)
def test_the_reference(N: int, D: int, H: int, E: int, k: int, C: int, dtype: torch.dtype, kind: str) -> None:
    call = new_call(N, D, H, E, C, dtype, k=k, kind=kind)
    assert_right(call.run(moe_reference), call)


@pytest.mark.parametrize("path", [*PATHS, "reference"])
@pytest.mark.parametrize(
    ("activation", "standardise", "weights_over"),
    [("relu", False, "selected"), ("gelu", True, "all"), ("silu", False, "all"), ("swiglu", True, "selected")],
)
def test_every_setting(activation: str, standardise: bool, weights_over: str, path: str) -> None:
    gate = {"temperature": 0.5, "standardise": standardise, "weights_over": weights_over}
    call = new_call(19, 24, 20, 5, 6, activation=activation, **gate)
    assert_right(solve(call, path), call)


@pytest.mark.parametrize("path", [*PATHS, "reference"])
@pytest.mark.parametrize("activation", ["gelu", "swiglu", "interleaved_swiglu"])
def test_no_biases(path: str, activation: str) -> None:
    call = new_call(9, 24, 20, 5, 6, torch.float16, activation=activation).but(b1=None, b2=None, bias=None)
    assert_right(solve(call, path), call)


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("activation", ["relu", "swiglu"])
def test_the_soft_mixture_takes_all_experts(path: str, activation: str) -> None:
    call = new_call(5, 20, 24, 6, 10, k=6, activation=activation)
    assert_right(solve(call, path), call)


@pytest.mark.parametrize("path", PATHS)
def test_a_gate_more_exact_than_the_features(path: str) -> None:
    call = new_call(9, 24, 20, 5, 6, torch.float16)
    assert isinstance(call.routing, Gate)
    assert call.routing.bias is not None
    exact = call.but(weight=call.routing.weight.float() + 1e-5, bias=call.routing.bias.float())
    assert_right(solve(exact, path), exact)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("N", [1, 3, 70])
def test_the_chosen_options_at_every_number_of_rows(N: int, kind: str, dtype: torch.dtype) -> None:
    call = new_call(N, 40, 24, 3, 10, dtype, kind=kind)
    assert_right(call.run(moe), call)


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("C", [EXACT_COLUMNS, EXACT_COLUMNS + 1])
def test_narrow_and_wide_outputs(C: int, path: str) -> None:
    call = new_call(5, 16, 16, 4, C, torch.float16)
    assert_right(solve(call, path), call)


@pytest.mark.parametrize(("path", "kind"), [pair for pair in PATHS_AND_KINDS if "gate" not in pair])
def test_some_rows_have_no_expert(path: str, kind: str) -> None:
    call = new_call(21, 16, 16, 5, 6, kind=kind)
    none = torch.arange(21) % 3 == 1
    outside = torch.tensor([-1, 5]).int()
    if isinstance(call.routing, Flat):
        call = call.but(experts=torch.where(none[call.routing.rows.long()], outside.repeat(21), call.routing.experts))
    else:
        assert isinstance(call.routing, TopK)
        call = call.but(ids=torch.where(none[:, None], outside, call.routing.ids))
    got = solve(call, path)
    assert_right(got, call)
    assert got[none].count_nonzero() == 0


@pytest.mark.parametrize("ordered", [False, True])
@pytest.mark.parametrize("integers", [torch.int32, torch.int64])
def test_a_flat_routing_in_any_order(ordered: bool, integers: torch.dtype) -> None:
    call = new_call(33, 16, 16, 5, 6, kind="flat", k=3)
    routing = call.routing
    assert isinstance(routing, Flat)
    order = torch.argsort(routing.rows, stable=True) if ordered else torch.randperm(99)
    rows, experts = routing.rows[order].to(integers), routing.experts[order].to(integers)
    call = call.but(rows=rows, experts=experts, weights=routing.weights[order].half(), ordered=ordered)
    assert_right(solve(call, "grouped"), call)


@pytest.mark.parametrize("path", ["grouped", "swapped"])
def test_a_flat_routing_of_nothing(path: str) -> None:
    call = new_call(4, 16, 16, 5, 6, kind="flat")
    nothing = call.but(rows=torch.zeros(0).int(), experts=torch.zeros(0).int(), weights=torch.zeros(0))
    assert torch.equal(solve(nothing, path), torch.zeros(4, 6))
    dropped = call.but(experts=torch.full((8,), -1).int())
    assert torch.equal(solve(dropped, path), torch.zeros(4, 6))


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("used", [[0], [3, 6]], ids=str)
def test_unused_experts_may_hold_anything(used: list[int], path: str) -> None:
    call, unused = restricted(new_call(20, 16, 16, 7, 4, k=1), used)
    expected = solve(call, path)
    assert_right(expected, call)
    spoil(call, unused)
    assert torch.equal(solve(call, path), expected)


@pytest.mark.parametrize("path", PATHS)
def test_a_broken_expert_spoils_only_its_rows(path: str) -> None:
    call = new_call(18, 16, 16, 5, 4)
    expected = solve(call, path)
    hit = torch.zeros(18, dtype=torch.bool)
    hit[[n for n, e, _ in call.assignments() if e == 2]] = True
    call.w1[2, 3] = float("inf")
    call.w2[2] = float("nan")
    got = solve(call, path)
    assert got[hit].isnan().all()
    assert torch.equal(got[~hit], expected[~hit])


@on_every_path
def test_any_strides(path: str, kind: str) -> None:
    call = new_call(9, 17, 12, 5, 7, torch.float16, kind=kind)
    assert_right(solve(padded(call), path), call)
    assert_right(solve(turned(call), path), call)
    assert call.b2 is not None
    shared = call.but(x=call.x[:1].expand(9, 17), w1=call.w1[:1].expand(5, 17, 12), b2=call.b2[0].expand(5, 7))
    assert_right(solve(shared, path), shared)


@settings(max_examples=16, deadline=None, derandomize=True)
@given(
    path=st.sampled_from(PATHS_AND_KINDS),
    N=st.integers(0, 20),
    D=st.integers(1, 30),
    H=st.integers(1, 20),
    E=st.integers(1, 9),
    C=st.integers(1, 20),
    skew=st.sampled_from([0.0, 1.0, 100.0]),
    data=st.data(),
)
def test_any_shape_and_skew(
    path: tuple[str, str], N: int, D: int, H: int, E: int, C: int, skew: float, data: st.DataObject
) -> None:
    k = data.draw(st.integers(1, E))
    activation = data.draw(st.sampled_from(["relu", "gelu", "silu", "swiglu", "interleaved_swiglu"]))
    call = new_call(N, D, H, E, C, k=k, kind=path[1], activation=activation, seed=data.draw(st.integers(0, 99)))
    if isinstance(call.routing, Gate):
        call = call.but(bias=call.routing.bias + skew * torch.arange(E))
    assert_right(solve(call, path[0]), call)


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("kind", ["gate", "top_k"])
def test_rows_are_independent(path: str, kind: str) -> None:
    call = new_call(18, 16, 16, 5, 6, kind=kind)
    order = torch.randperm(18, generator=torch.Generator().manual_seed(3))
    whole = solve(call, path)
    torch.testing.assert_close(solve(call.rows(order), path), whole[order], rtol=1e-5, atol=1e-5)
    part = torch.arange(5, 12)
    torch.testing.assert_close(solve(call.rows(part), path), whole[5:12], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("path", PATHS)
def test_a_nan_row_touches_no_other(path: str) -> None:
    call = new_call(18, 16, 16, 5, 6, standardise=True)
    call.x[13] = float("nan")
    got = solve(call, path)
    others = torch.arange(18) != 13
    assert got[13].isnan().all()
    assert_right(got[others], call.rows(others))


@pytest.mark.parametrize("path", PATHS)
def test_equal_scores_take_the_lowest_ids(path: str) -> None:
    call = tied(new_call(12, 16, 16, 6, 5, k=3))
    assert_right(solve(call, path), call)
    assert {e for _, e, _ in call.assignments()} <= {0, 1, 2, 3, 4}


@pytest.mark.parametrize(("path", "kind"), [*((path, "gate") for path in PATHS), ("grouped", "flat")])
def test_runs_repeat_to_the_bit(path: str, kind: str) -> None:
    call = new_call(18, 16, 16, 5, 6, torch.float16, kind=kind)
    assert torch.equal(solve(call, path), solve(call, path))


@pytest.mark.parametrize(("mutant", "path", "dtype"), mutants_on_paths())
def test_a_mutant_is_seen(mutant: str, path: str, dtype: torch.dtype) -> None:
    call = new_call(12, 16, 16, 4, 6, dtype, activation="gelu")
    wrong = solve(call.but(**MUTANTS[mutant](call)), path)
    with pytest.raises(AssertionError, match="wrong, worst by"):
        assert_right(wrong, call)


@pytest.mark.parametrize("path", PATHS)
def test_swapped_halves_are_seen(path: str) -> None:
    call = new_call(12, 16, 16, 4, 6, activation="swiglu")
    assert_right(solve(call, path), call)
    wrong = solve(call.but(w1=call.w1.roll(16, dims=2)), path)
    with pytest.raises(AssertionError, match="wrong, worst by"):
        assert_right(wrong, call)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"x": torch.zeros(3, 9)}, r"w1 must have the shape \(E = 4, D = 9, H = 8\), not \(4, 8, 8\)"),
        ({"w2": torch.zeros(4, 7, 2)}, r"w1 must have the shape \(E = 4, D = 8, H = 7\), not \(4, 8, 8\)"),
        ({"b1": torch.zeros(8)}, r"b1 must have the shape \(E = 4, H = 8\), not \(8,\)"),
        ({"b2": torch.zeros(4, 3)}, r"b2 must have the shape \(E = 4, C = 2\), not \(4, 3\)"),
        ({"activation": "swiglu"}, r"w1 must have the shape \(E = 4, D = 8, 2H = 16\), not \(4, 8, 8\)"),
        ({"w2": torch.zeros(4, 8, 2, dtype=torch.float16)}, "w2 must have the dtype of x, torch.float32"),
        ({"x": torch.zeros(3, 8, dtype=torch.float64)}, "x must be torch.float32 or torch.float16"),
        ({"weight": torch.zeros(5, 8)}, r"gate.bias must have the shape \(E = 5\), not \(4,\)"),
        ({"weight": torch.zeros(5, 8), "bias": None}, r"gate.weight must have a row for each of the E = 4 experts"),
        ({"bias": torch.zeros(5)}, r"gate.bias must have the shape \(E = 4\), not \(5,\)"),
        (
            {"weight": torch.zeros(4, 8, dtype=torch.float16)},
            r"gate\.weight must be torch\.float32, not torch\.float16",
        ),
        ({"k": 5}, "k must be between 1 and E = 4, not 5"),
        ({"k": 0}, "k must be between 1 and E = 4, not 0"),
        ({"temperature": -1.0}, "temperature must be above 0 and finite, not -1.0"),
        ({"activation": "tanh"}, "activation must be one of relu, gelu, silu, swiglu, interleaved_swiglu, not 'tanh'"),
        ({"weights_over": "none"}, 'weights_over must be "selected" or "all"'),
        (
            {"routing": TopK(torch.zeros(2, 2).int(), torch.zeros(2, 2))},
            r"ids must have the shape \(N = 3, k\), not \(2, 2\)",
        ),
        ({"routing": TopK(torch.zeros(3, 2).int(), torch.zeros(3, 1))}, r"weights must have the shape \(N = 3, k = 2"),
        ({"routing": TopK(torch.zeros(3, 2), torch.zeros(3, 2))}, "ids must be torch.int32 or torch.int64"),
        ({"routing": Flat(torch.zeros(2).int(), torch.zeros(3).int(), torch.zeros(2))}, "experts must have the shape"),
    ],
)
def test_wrong_arguments_are_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        new_call(3, 8, 8, 4, 2).but(**change).run(moe)


def test_all_tensors_must_share_a_device() -> None:
    call = new_call(3, 8, 8, 4, 2).but(b2=torch.zeros(4, 2, device="meta"))
    with pytest.raises(ValueError, match="all tensors must be on one device, but found x on cpu"):
        call.run(run, precision="ieee", options=None)


def test_a_gates_bias_has_the_dtype_of_its_weight() -> None:
    call = new_call(3, 8, 8, 4, 2, torch.float16).but(bias=torch.zeros(4))
    with pytest.raises(ValueError, match=r"gate\.bias must have the dtype of gate\.weight, torch\.float16"):
        call.run(moe)


def test_an_unknown_precision_is_refused() -> None:
    with pytest.raises(ValueError, match="""precision must be "ieee" or "tf32", not 'bf16'"""):
        new_call(3, 8, 8, 4, 2).run(moe, precision="bf16")


def test_too_many_experts_are_refused() -> None:
    with pytest.raises(ValueError, match="at most 512 experts, not 513"):
        new_call(1, 2, 2, 513, 2).run(moe)


@pytest.mark.parametrize("path", ["fused tiles", "fused rows"])
def test_a_flat_routing_cannot_be_fused(path: str) -> None:
    with pytest.raises(ValueError, match="a fused path takes a gate or k experts for every row, not a flat list"):
        solve(new_call(3, 8, 8, 4, 2, kind="flat"), path)


def test_the_oracle_is_the_formula() -> None:
    one, two = torch.tensor([[1.0, 2.0]]), torch.tensor([[[0.5], [0.25]], [[1.0], [1.0]]])
    routing = TopK(torch.tensor([[1, 0]]), torch.tensor([[0.75, 0.25]]))
    call = Call(one, routing, two, None, torch.tensor([[[2.0]], [[10.0]]]), torch.tensor([[1.0], [0.0]]))
    np.testing.assert_allclose(call.outputs(), [[0.75 * 30 + 0.25 * 3]])
