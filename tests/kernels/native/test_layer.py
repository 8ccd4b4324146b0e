"""The native kernel against the float64 oracle of the Triton kernels, on their shapes and with their mutants."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kernels.native.layer import Native, sorted_by_expert
from kernels.native.operator import panel_width
from kernels.native.plan import Plan
from kernels.problem.experts import Experts
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
from tests.kernels.native.calls import PLANS, solve

in_every_plan = pytest.mark.parametrize("plan", PLANS)
SIZES = [*AWKWARD, (250, 300, 33, 3, 2, 40)]  # the last one has more rows, and sums over more, than stay in a cache


@in_every_plan
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("N", "D", "H", "E", "k", "C"), SIZES)
def test_awkward_shapes(N: int, D: int, H: int, E: int, k: int, C: int, kind: str, plan: str) -> None:
    dtype = torch.bfloat16 if plan in ("own blocks", "shared steps") and D % 2 == 0 else torch.float32
    call = new_call(N, D, H, E, C, dtype, k=k, kind=kind)
    assert_right(solve(call, plan), call)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("activation", ["relu", "gelu", "silu", "swiglu", "interleaved_swiglu"])
@pytest.mark.parametrize(("standardise", "weights_over"), [(False, "all"), (True, "selected")])
def test_every_setting(activation: str, standardise: bool, weights_over: str, dtype: torch.dtype) -> None:
    gate = {"temperature": 0.5, "standardise": standardise, "weights_over": weights_over}
    call = new_call(19, 24, 20, 5, 6, dtype, activation=activation, **gate)
    assert_right(solve(call), call)
    bare = call.but(b1=None, b2=None, bias=None)
    assert_right(solve(bare), bare)


@settings(max_examples=100, deadline=None, derandomize=True)
@given(
    plan=st.builds(Plan, st.integers(1, 4), st.integers(1, 60), st.booleans()),
    kind=st.sampled_from(KINDS),
    N=st.integers(0, 50),
    D=st.integers(1, 40),
    H=st.integers(1, 40),
    E=st.integers(1, 9),
    C=st.integers(1, 40),
    skew=st.sampled_from([0.0, 1.0, 100.0]),
    data=st.data(),
)
def test_any_shape_skew_and_plan(
    plan: Plan, kind: str, N: int, D: int, H: int, E: int, C: int, skew: float, data: st.DataObject
) -> None:
    k = data.draw(st.integers(1, E))
    activation = data.draw(st.sampled_from(["relu", "gelu", "silu", "swiglu", "interleaved_swiglu"]))
    call = new_call(N, D, H, E, C, k=k, kind=kind, activation=activation, seed=data.draw(st.integers(0, 99)))
    if isinstance(call.routing, Gate):
        call = call.but(bias=call.routing.bias + skew * torch.arange(E))
        assert_right(Native(call.experts, call.routing)(call.x, plan=plan), call)
    else:
        assert_right(Native(call.experts)(call.x, call.routing, plan=plan), call)


@in_every_plan
@pytest.mark.parametrize("kind", KINDS)
def test_any_strides(kind: str, plan: str) -> None:
    call = new_call(9, 17, 12, 5, 7, kind=kind)
    assert_right(solve(padded(call), plan), call)
    assert_right(solve(turned(call), plan), call)


def test_without_a_routing_every_expert_serves_every_row() -> None:
    call = new_call(21, 40, 24, 3, 10)
    every = call.but(routing=TopK(torch.arange(3).expand(21, 3), torch.ones(21, 3)))
    assert_right(Native(call.experts)(call.x), every)


@in_every_plan
def test_some_rows_have_no_expert(plan: str) -> None:
    call = new_call(21, 16, 16, 5, 6, kind="top_k")
    none = torch.arange(21) % 3 == 1
    assert isinstance(call.routing, TopK)
    call = call.but(ids=torch.where(none[:, None], torch.tensor([-1, 5]).int(), call.routing.ids))
    got = solve(call, plan)
    assert_right(got, call)
    assert got[none].count_nonzero() == 0


@pytest.mark.parametrize("ordered", [False, True])
def test_a_flat_routing_in_any_order(ordered: bool) -> None:
    call = new_call(33, 16, 16, 5, 6, kind="flat", k=3)
    routing = call.routing
    assert isinstance(routing, Flat)
    order = torch.argsort(routing.rows, stable=True) if ordered else torch.randperm(99)
    rows, experts, weights = routing.rows[order].long(), routing.experts[order].long(), routing.weights[order].half()
    call = call.but(rows=rows, experts=experts, weights=weights, ordered=ordered)
    assert_right(solve(call), call)
    nothing = call.but(rows=rows[:0], experts=experts[:0], weights=weights[:0])
    assert torch.equal(solve(nothing), torch.zeros(33, 6))


@in_every_plan
@pytest.mark.parametrize("used", [[0], [3, 6], [1, 2, 3, 4, 5]], ids=str)
def test_unused_experts_may_hold_anything(used: list[int], plan: str) -> None:
    call, unused = restricted(new_call(20, 16, 16, 7, 4, k=1), used)
    expected = solve(call, plan)
    assert_right(expected, call)
    spoil(call, unused)
    assert torch.equal(solve(call, plan), expected)


@in_every_plan
def test_a_nan_row_touches_no_other(plan: str) -> None:
    call = new_call(18, 16, 16, 5, 6, standardise=True)
    call.x[13] = float("nan")
    got = solve(call, plan)
    others = torch.arange(18) != 13
    assert got[13].isnan().all()
    assert_right(got[others], call.rows(others))


def test_infinite_scores_stay_in_range() -> None:
    call = new_call(4, 16, 16, 6, 5, k=3)
    assert isinstance(call.routing, Gate)
    assert call.routing.bias is not None
    call.routing.bias[:] = torch.tensor([1.0, float("inf"), float("nan"), -float("inf"), float("inf"), 0.0])
    assert solve(call).isnan().all()


def test_equal_scores_take_the_lowest_ids() -> None:
    call = tied(new_call(12, 16, 16, 6, 5, k=3))
    assert_right(solve(call), call)
    assert {e for _, e, _ in call.assignments()} <= {0, 1, 2, 3, 4}


def test_a_long_sum_is_exact_enough() -> None:
    call = new_call(3, 14336, 8, 2, 4)
    assert_right(solve(call), call)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_every_plan_gives_the_same_bits(kind: str, dtype: torch.dtype) -> None:
    call = new_call(150, 300, 40, 5, 36, dtype, kind=kind, activation="swiglu")
    expected = solve(call, "one block")
    assert all(torch.equal(solve(call, plan), expected) for plan in PLANS for _ in range(3))


@pytest.mark.parametrize("kind", ["gate", "top_k"])
def test_a_row_has_the_same_bits_in_any_batch(kind: str) -> None:
    call = new_call(150, 300, 40, 5, 36, kind=kind)
    whole, order = solve(call), torch.randperm(150, generator=torch.Generator().manual_seed(3))
    assert torch.equal(solve(call.rows(order)), whole[order])
    for rows in (1, 7, 40):
        assert torch.equal(solve(call.rows(torch.arange(rows))), whole[:rows])


@pytest.mark.parametrize("threads", [1, 2])
def test_the_number_of_threads_changes_no_bit(threads: int) -> None:
    call = new_call(300, 300, 64, 5, 36)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        assert torch.equal(solve(call), solve(call, "one block"))
    finally:
        torch.set_num_threads(before)


@in_every_plan
@pytest.mark.parametrize("mutant", MUTANTS)
def test_a_mutant_is_seen(mutant: str, plan: str) -> None:
    call = new_call(12, 16, 16, 4, 6, activation="gelu")
    wrong = solve(call.but(**MUTANTS[mutant](call)), plan)
    with pytest.raises(AssertionError, match="wrong, worst by"):
        assert_right(wrong, call)


@pytest.mark.parametrize("kind", KINDS[:2])
def test_rows_sorted_beforehand_are_not_sorted_again(kind: str) -> None:
    call, plan = new_call(50, 40, 24, 5, 10, kind="top_k", k=3), Plan(threads=2, block=16, shared=kind == "gate")
    assert isinstance(call.routing, TopK)
    routing, ends = sorted_by_expert(call.routing.ids.long(), call.routing.weights, 5, plan.block)
    assert_right(Native(call.experts).bound(call.x, routing, plan=plan, ends=ends)(), call)


def test_a_gate_beside_a_routing_decides_nothing() -> None:
    call, other = new_call(50, 40, 24, 5, 10, kind="top_k"), new_call(50, 40, 24, 5, 10)
    assert isinstance(other.routing, Gate)
    layer = Native(call.experts, other.routing)
    assert_right(layer.bound(call.x, call.routing, plan=layer.plan(50, 2), gated=True)(), call)


def test_weights_are_packed_in_whole_panels() -> None:
    call, width = new_call(3, 7, 5, 2, panel_width() + 1), panel_width()
    layer = Native(call.experts)
    assert layer.w1.shape == (2, 1, 7, width)
    assert layer.w2.shape == (2, 2, 5, width)
    np.testing.assert_array_equal(layer.w2[:, 1, :, 0], call.w2[:, :, width])
    assert layer.w2[:, 1, :, 1:].count_nonzero() == 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"w2": torch.zeros(4, 7, 2)}, r"w1 must have the shape \(E = 4, D = 8, H = 7\), not \(4, 8, 8\)"),
        ({"b1": torch.zeros(8)}, r"b1 must have the shape \(E = 4, H = 8\), not \(8,\)"),
        ({"k": 5}, "k must be between 1 and E = 4, not 5"),
        ({"activation": "tanh"}, "activation must be one of relu"),
        ({"x": torch.zeros(3, 9)}, r"x must be \(N, D\) with D = 8"),
        ({"x": torch.zeros(3, 8).bfloat16()}, "x must be Float, as w1, not BFloat16"),
        ({"routing": TopK(torch.zeros(2, 2).int(), torch.zeros(2, 2))}, r"ids must have the shape \(N = 3, k\)"),
        ({"routing": TopK(torch.zeros(3, 2), torch.zeros(3, 2))}, "ids must be torch.int32 or torch.int64"),
    ],
)
def test_wrong_arguments_are_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        solve(new_call(3, 8, 8, 4, 2).but(**change))


@pytest.mark.parametrize(
    ("dtype", "device", "message"),
    [
        (torch.float16, "cpu", r"in float32 and bfloat16 on a CPU, not in torch\.float16 on cpu"),
        (torch.float32, "meta", r"in float32 and bfloat16 on a CPU, not in torch\.float32 on meta"),
    ],
)
def test_other_dtypes_and_devices_are_refused(dtype: torch.dtype, device: str, message: str) -> None:
    call: Call = new_call(3, 8, 8, 4, 2, dtype, kind="top_k").map(lambda tensor: tensor.to(device))
    with pytest.raises(ValueError, match=message):
        Native(call.experts)


def test_stored_weights_are_refused() -> None:
    call = new_call(3, 128, 128, 2, 128)
    with pytest.raises(ValueError, match="takes weights in full, not stored"):
        Native(Experts(call.w1, call.b1, call.w2, call.b2, "relu").stored("fp8"))


def test_a_gate_comes_with_the_experts() -> None:
    call = new_call(3, 8, 8, 4, 2)
    with pytest.raises(ValueError, match="packs its gate once; pass it with the experts"):
        Native(call.experts)(call.x, call.routing)
