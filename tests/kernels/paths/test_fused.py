"""The fused paths, cut up in every way, against a float64 oracle."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import kernels.ops.fused
from kernels.launch.launch import recording
from kernels.moe import moe
from kernels.ops.fused import MOST_COLUMNS
from kernels.paths.fused_rows import FusedRows
from kernels.paths.fused_tiles import FusedTiles
from kernels.problem.routes import TopK
from tests.kernels.calls import Call, assert_right, new_call, turned

NAN = float("nan")


def tiles(tile_rows: int, experts: int, slices: int, hidden: int = 16, depth: int = 32) -> FusedTiles:
    return FusedTiles(tile_rows, experts, slices, hidden, depth, warps=4, stages=2)


CUTS: dict[str, FusedTiles | FusedRows] = {
    "one program a tile": tiles(16, 512, 1),
    "three experts a program": tiles(16, 3, 1),
    "wide hidden blocks": tiles(16, 2, 1, hidden=64, depth=16),
    "two slices of three blocks": tiles(16, 2, 2),
    "more slices than blocks": tiles(16, 3, 7),
    "32 rows": tiles(32, 4, 3),
    "32 rows, transposed": replace(tiles(32, 4, 3), swapped=True),
    "twelve parts": tiles(16, 1, 3),
    "64 rows": tiles(64, 4, 2),
    "a row's expert": FusedRows(slices=1, hidden=64, depth=64, warps=4),
    "a row's expert in blocks": FusedRows(slices=1, hidden=16, depth=8, warps=4),
    "two slices of a row's expert": FusedRows(slices=2, hidden=16, depth=32, warps=4),
    "slices of single columns": FusedRows(slices=5, hidden=1, depth=32, warps=1),
}
FEW = ("two slices of three blocks", "32 rows, transposed", "64 rows", "two slices of a row's expert")
on_few_cuts = pytest.mark.parametrize("cut", FEW)


def solve(call: Call, cut: str | FusedTiles | FusedRows) -> Tensor:
    """Run `call` on the path of these options."""
    return call.run(moe, options=CUTS[cut] if isinstance(cut, str) else cut)


@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize(
    ("dtype", "kind", "activation"), [(torch.float32, "gate", "swiglu"), (torch.float16, "top_k", "interleaved_swiglu")]
)
def test_every_cut(dtype: torch.dtype, kind: str, activation: str, cut: str) -> None:
    H = 7 if cut == "slices of single columns" else 47
    call = new_call(17, 33, H, 5, 10, dtype, kind=kind, k=2, activation=activation)
    call = call.rows(torch.tensor([0, 16])) if isinstance(CUTS[cut], FusedRows) else call
    assert_right(solve(call, cut), call)


@pytest.mark.parametrize("options", [tiles(16, 200, 1), FusedRows(1, hidden=64, depth=128, warps=4)])
@pytest.mark.parametrize(("E", "k"), [(1, 1), (7, 7), (60, 4), (384, 2)])
def test_any_number_of_experts(E: int, k: int, options: FusedTiles | FusedRows) -> None:
    call = new_call(2, 20, 12, E, 3, torch.float16, k=k)
    assert_right(solve(call, options), call)


@on_few_cuts
@pytest.mark.parametrize("C", [1, 2 * MOST_COLUMNS + 1])
def test_narrow_and_wide_outputs(C: int, cut: str) -> None:
    call = new_call(3, 17, 20, 2, C, torch.float16)
    assert_right(solve(call, cut), call)


@pytest.mark.parametrize("cut", ["32 rows", *FEW])
@pytest.mark.parametrize("N", [0, 1, 16, 17])
def test_around_a_tile(N: int, cut: str) -> None:
    call = new_call(N, 16, 16, 2, 4, torch.float16, k=1)
    assert_right(solve(call, cut), call)


@on_few_cuts
def test_an_fp32_gate_of_half_features_is_not_rounded(cut: str) -> None:
    call = new_call(2, 40, 20, 3, 6)
    near = torch.ones(3, 40) + torch.arange(3)[:, None] * 1e-5  # equal in half
    half = call.map(Tensor.half).but(x=call.x.half().abs(), weight=near, bias=torch.zeros(3), k=1)
    assert_right(solve(half, cut), half)
    assert (half.outputs() != half.but(weight=near.half()).outputs()).all()


@on_few_cuts
@pytest.mark.parametrize("weights", [torch.float64, torch.float16])
def test_rows_may_want_fewer_experts_or_none(weights: torch.dtype, cut: str) -> None:
    call = new_call(3, 20, 24, 5, 6, kind="top_k", k=3)
    assert isinstance(call.routing, TopK)
    ids = call.routing.ids.long()
    ids[0, 1] = ids[1, 0] = ids[1, 2] = -1
    ids[2] = torch.tensor([-7, 5, 2**40])
    call = call.but(ids=ids, weights=-call.routing.weights.to(weights))
    for parameter in (call.w1, call.b1, call.w2, call.b2):
        assert parameter is not None
        parameter[[e for e in range(5) if e not in ids]] = NAN
    out = solve(call, cut)
    assert_right(out, call)
    assert not out[2].any()


@on_few_cuts
@pytest.mark.parametrize(("activation", "bad"), [("relu", NAN), ("swiglu", NAN), ("relu", float("inf"))])
def test_an_expert_does_not_touch_rows_that_do_not_use_it(activation: str, bad: float, cut: str) -> None:
    call = new_call(6, 20, 24, 5, 6, torch.float16, activation=activation)
    clean = solve(call, cut)
    _, expert, _ = next(call.assignments())
    used = torch.zeros(len(call.x), dtype=torch.bool)
    used[[n for n, e, _ in call.assignments() if e == expert]] = True
    assert not used.all()
    for parameter in (call.w1, call.b1, call.w2, call.b2):
        assert parameter is not None
        parameter[expert] = bad
    spoilt = solve(call, cut)
    assert torch.equal(spoilt[~used], clean[~used])
    assert not spoilt[used].isfinite().any()


@on_few_cuts
def test_an_infinite_row_is_not_spoilt_by_padding(cut: str) -> None:
    call = new_call(2, 20, 9, 3, 1, kind="top_k", k=1).but(b1=None, b2=None)
    call.x[0] = float("inf")
    positive = call.but(w1=call.w1.abs() + 0.1, w2=call.w2.abs() + 0.1)
    assert solve(positive, cut)[0].isposinf().all()


@on_few_cuts
def test_any_strides_of_ids_and_gate(cut: str) -> None:
    for kind in ("gate", "top_k"):
        call = new_call(3, 17, 12, 3, 7, torch.float16, kind=kind)
        assert_right(solve(turned(call), cut), call)


@on_few_cuts
def test_repeats_to_the_bit_and_leaves_counters_at_0(cut: str, monkeypatch: pytest.MonkeyPatch) -> None:
    zeros = torch.zeros(100, dtype=torch.int32)
    monkeypatch.setattr(kernels.ops.fused, "counters", lambda number, device: zeros)
    call = new_call(17, 16, 40, 2, 6, torch.float16, k=1)
    whole = call.run(CUTS[cut].run)
    assert not zeros.any()
    one = call.rows(torch.tensor([16])).run(CUTS[cut].run)
    assert not zeros.any()
    assert torch.equal(call.run(CUTS[cut].run), whole)
    torch.testing.assert_close(one, whole[16:], rtol=1e-3, atol=1e-3)


def test_programs_share_a_sum_only_where_there_are_several() -> None:
    with recording() as records:
        for cut in ("one program a tile", "three experts a program", "64 rows", "two slices of a row's expert"):
            solve(new_call(20, 16, 40, 7, 130), cut)
    assert [launch.stage for launch in records] == ["fused"] * 4
    assert [launch.grid for launch in records] == [(2, 1, 2), (2, 3, 2), (1, 4, 2), (20, 4, 2)]
    assert [launch.arguments["parts"] for launch in records] == [1, 3, 4, 4]
    assert [launch.arguments["scratch"] is None for launch in records] == [True, False, False, False]


@on_few_cuts
def test_no_size_of_a_kernel_depends_on_the_rows(cut: str) -> None:
    with recording() as records:
        for N in (1, 50):
            solve(new_call(N, 16, 40, 7, 10), cut)
    first, second = ({n: v for n, v in r.arguments.items() if not isinstance(v, Tensor)} for r in records)
    assert {name for name in first if first[name] != second[name]} == {"N"}


@settings(max_examples=10, deadline=None, derandomize=True)
@given(
    data=st.data(),
    N=st.integers(0, 18),
    D=st.integers(1, 40),
    H=st.integers(1, 40),
    E=st.integers(1, 5),
    C=st.integers(1, 20),
    dtype=st.sampled_from([torch.float32, torch.float16]),
    kind=st.sampled_from(["gate", "top_k"]),
    activation=st.sampled_from(["relu", "swiglu", "interleaved_swiglu"]),
)
def test_any_call(data: st.DataObject, N: int, D: int, H: int, E: int, C: int, dtype: Any, **how: Any) -> None:
    call = new_call(N, D, H, E, C, dtype, k=data.draw(st.integers(1, E)), seed=data.draw(st.integers(0, 99)), **how)
    slices = data.draw(st.integers(1, 4))
    options = tiles(16, data.draw(st.integers(1, E)), slices)
    assert_right(solve(call, options), call)
    few = call.rows(torch.arange(min(N, 2)))
    assert_right(solve(few, FusedRows(slices, hidden=16, depth=32, warps=4)), few)


@pytest.mark.parametrize(
    "mutant", ["last hidden block forgotten", "last columns of x forgotten", "slices add the bias"]
)
@pytest.mark.parametrize("cut", ["two slices of three blocks", "two slices of a row's expert"])
def test_a_mutant_is_seen(mutant: str, cut: str) -> None:
    call = new_call(2, 40, 48, 3, 6, torch.float16, activation="gelu")
    assert call.b2 is not None
    wrong = {
        "last hidden block forgotten": {"w2": call.w2 * (torch.arange(48) < 32)[:, None]},
        "last columns of x forgotten": {"x": call.x * (torch.arange(40) < 32)},
        "slices add the bias": {"b2": call.b2 * 2},
    }[mutant]
    with pytest.raises(AssertionError, match="wrong, worst by"):
        assert_right(solve(call.but(**wrong), cut), call)


def test_too_many_programs_for_one_sum_are_refused() -> None:
    call = new_call(1, 1, 2**16, 1, 1, k=1)
    with pytest.raises(ValueError, match="at most 65535 programs may share a sum, not 65536: use fewer slices"):
        solve(call, FusedRows(slices=2**16, hidden=1, depth=16, warps=4))


def test_too_many_shared_sums_are_refused() -> None:
    call = new_call(20_000, 1, 1, 2, 1)
    with pytest.raises(ValueError, match="at most 16384 split sums, not 20000: use larger tiles"), recording():
        solve(call, FusedRows(slices=1, hidden=16, depth=16, warps=4))
