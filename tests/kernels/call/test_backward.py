"""The gradients of the whole operation against float64 autograd, and as an operator of torch."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
import triton
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

import kernels.call.backward
import kernels.ops.activation_gradient
from kernels.launch.launch import recording
from kernels.moe import moe
from kernels.paths.backward import Backward, Gradients
from kernels.problem.options import Product, WeightTile
from kernels.problem.problem import Problem
from kernels.problem.routes import Flat, Gate, TopK
from tests.kernels.calls import AWKWARD, KINDS, Call, new_call, padded, turned
from tests.kernels.gradients import assert_gradients, expected, gradients, wrong
from tests.kernels.test_moe import PATHS

NARROW = Product(columns=16, depth=32, warps=4, stages=2)
WEIGHTS = WeightTile(rows=16, columns=16, depth=16, warps=4, stages=2, group=2)
TILES = Backward(16, NARROW, NARROW, NARROW, WEIGHTS, WEIGHTS)
IN_PARTS = replace(
    TILES, inputs=replace(NARROW, splits=2), w1=replace(WEIGHTS, splits=3), w2=replace(WEIGHTS, splits=2)
)


@pytest.fixture(autouse=True, params=[TILES])
def tiles(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run every backward pass in small tiles."""

    def chosen(problem: Problem, machine: Any) -> Backward:
        return replace(request.param, precision=problem.precision)

    if request.param:
        monkeypatch.setattr(kernels.call.backward, "choose_backward", chosen)


def cotangent(call: Call) -> Tensor:
    """Return a gradient of the outputs (N, C) with the dtype of `call`."""
    generator = torch.Generator().manual_seed(7)
    return torch.randn(len(call.x), call.w2.shape[2], generator=generator).to(call.x.dtype)


def check(call: Call) -> None:
    """Fail unless the gradients of `call` are right."""
    assert_gradients(call, cotangent(call))


@pytest.mark.parametrize(
    ("N", "D", "H", "E", "k", "C", "kind"),
    [(*shape, KINDS[place % 3]) for place, shape in enumerate([*AWKWARD[:-2], (6, 20, 12, 40, 4, 3)])],
)
def test_awkward_shapes(N: int, D: int, H: int, E: int, k: int, C: int, kind: str) -> None:
    check(new_call(N, D, H, E, C, torch.float16 if N % 2 else torch.float32, k=k, kind=kind))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@pytest.mark.parametrize("activation", ["relu", "gelu", "silu", "swiglu", "interleaved_swiglu"])
def test_every_activation(activation: str, dtype: torch.dtype) -> None:
    check(new_call(18, 17, 20, 3, 10, dtype, kind="top_k", activation=activation))


@pytest.mark.parametrize("tiles", [IN_PARTS, None], ids=["in parts", "chosen"], indirect=True)
@pytest.mark.parametrize(("activation", "dtype"), [("gelu", torch.float32), ("interleaved_swiglu", torch.float16)])
def test_other_tiles(activation: str, dtype: torch.dtype) -> None:
    check(new_call(30, 33, 20, 3, 10, dtype, kind="top_k", activation=activation))


@pytest.mark.parametrize(
    ("standardise", "weights_over", "k"),
    [
        *((standardise, weights_over, 2) for standardise in (False, True) for weights_over in ("selected", "all")),
        *((False, "selected", 5), (True, "all", 1)),
    ],
)
def test_through_every_gate(standardise: bool, weights_over: str, k: int) -> None:
    gate: dict[str, Any] = {"temperature": 0.5, "standardise": standardise, "weights_over": weights_over}
    check(new_call(12, 24, 8, 5, 6, torch.float16 if k == 2 else torch.float32, k=k, **gate))


def test_a_gate_of_equal_scores_has_no_gradient_through_its_standardised_scores() -> None:
    call = new_call(3, 8, 8, 4, 2, standardise=True)
    assert isinstance(call.routing, Gate)
    call = call.but(weight=torch.zeros(4, 8), bias=torch.zeros(4))
    assert gradients(call, cotangent(call))["weight"].count_nonzero() == 0


@pytest.mark.parametrize("kind", KINDS)
def test_no_biases(kind: str) -> None:
    changes = {"b1": None, "b2": None} | ({"bias": None} if kind == "gate" else {})
    check(new_call(9, 24, 20, 5, 6, kind=kind).but(**changes))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("change", [padded, turned])
def test_any_strides(change: Callable[[Call], Call], kind: str) -> None:
    call = change(new_call(9, 17, 12, 5, 7, torch.float16, kind=kind))
    assert_gradients(call, cotangent(call).t().contiguous().t())


def test_an_expanded_cotangent() -> None:
    call = new_call(9, 17, 12, 5, 7)
    dout = torch.tensor(0.5).expand(9, 7)
    assert_gradients(call, dout)


@pytest.mark.parametrize(
    "used", [[0], [6], [3], [0, 6], [1, 2, 3, 4, 5]], ids=["first", "last", "one", "ends", "ends empty"]
)
def test_empty_experts_have_no_gradient(used: list[int]) -> None:
    call = new_call(21, 16, 12, 7, 5, kind="top_k", k=1)
    call = call.but(ids=torch.tensor(used)[torch.arange(21) % len(used)][:, None])
    check(call)
    unused = [e for e in range(7) if e not in used]
    for name, gradient in gradients(call, cotangent(call)).items():
        if name in ("w1", "b1", "w2", "b2"):
            assert gradient[unused].count_nonzero() == 0


@settings(max_examples=5, deadline=None, derandomize=True)
@given(
    kind=st.sampled_from(KINDS),
    N=st.integers(0, 20),
    D=st.integers(1, 30),
    H=st.integers(1, 20),
    E=st.integers(1, 9),
    C=st.integers(1, 20),
    activation=st.sampled_from(["relu", "gelu", "silu", "swiglu", "interleaved_swiglu"]),
    data=st.data(),
)
def test_any_shape(kind: str, N: int, D: int, H: int, E: int, C: int, activation: str, data: st.DataObject) -> None:
    k = data.draw(st.integers(1, E))
    check(new_call(N, D, H, E, C, k=k, kind=kind, activation=activation, seed=data.draw(st.integers(0, 99))))


def test_the_slope_of_the_loss() -> None:
    call = new_call(12, 16, 12, 4, 6, kind="top_k", activation="swiglu")
    dout = cotangent(call)
    got = gradients(call, dout)
    generator = torch.Generator().manual_seed(1)
    directions = {name: torch.randn(gradient.shape, generator=generator) for name, gradient in got.items()}

    def loss(step: float) -> Tensor:
        moved = {name: getattr(call, name, None) for name in got}
        moved["weights"] = call.routing.weights  # type: ignore[union-attr]
        out = call.but(**{name: moved[name] + step * directions[name] for name in got}).run(moe)
        return (out.double() * dout).sum()

    slope = (loss(1e-3) - loss(-1e-3)) / 2e-3
    along = sum((gradient.double() * directions[name]).sum() for name, gradient in got.items())
    torch.testing.assert_close(along, slope, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("kind", KINDS)
def test_runs_repeat_to_the_bit(kind: str) -> None:
    call = new_call(18, 16, 16, 5, 6, torch.float16, kind=kind)
    first, second = (gradients(call, cotangent(call)) for _ in range(2))
    assert all(torch.equal(gradient, second[name]) for name, gradient in first.items())


def test_a_nan_row_spoils_no_other_row_and_only_its_experts() -> None:
    call = new_call(18, 16, 16, 5, 6, kind="top_k", activation="swiglu")
    assert isinstance(call.routing, TopK)
    ids = call.routing.ids
    right = expected(call, cotangent(call))
    call.x[13] = float("nan")
    got = gradients(call, cotangent(call))
    rows, experts = torch.arange(18) != 13, torch.tensor([e not in ids[13] for e in range(5)])
    assert got["x"][13].isnan().all()
    assert got["w1"][~experts].isnan().all()
    for name, keep in {"x": rows, "weights": rows, "w1": experts, "w2": experts, "b1": experts}.items():
        assert list(wrong({name: got[name][keep]}, {name: right[name][keep]}, torch.float32)) == []


@triton.jit
def constant(x: Any, name: Any) -> Any:
    """Return 1, in place of a derivative."""
    return x * 0.0 + 1.0


MUTANTS: dict[str, Callable[[Call], dict[str, Any]]] = {
    "experts swapped": lambda call: {"w1": call.w1[[1, 0, 2, 3]]},
    "second products swapped": lambda call: {"w2": call.w2[[0, 1, 3, 2]]},
    "row dropped": lambda call: {"x": call.x * (torch.arange(len(call.x)) != 7)[:, None]},
    "weights ignored": lambda call: {"weights": torch.ones_like(call.routing.weights)},  # type: ignore[union-attr]
    "first bias forgotten": lambda call: {"b1": torch.zeros_like(call.b1)},  # type: ignore[arg-type]
    "second bias forgotten": lambda call: {"b2": torch.zeros_like(call.b2)},  # type: ignore[arg-type]
    "another activation": lambda _: {"activation": "silu"},
}


@pytest.mark.parametrize("mutant", MUTANTS)
def test_a_mutant_is_seen(mutant: str) -> None:
    call = new_call(12, 16, 16, 4, 6, torch.float16, kind="top_k", activation="gelu")
    changed = gradients(call.but(**MUTANTS[mutant](call)), cotangent(call))
    assert list(wrong(changed, expected(call, cotangent(call)), torch.float16))


def test_a_wrong_derivative_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    call = new_call(12, 16, 16, 4, 6, kind="top_k", activation="gelu")
    monkeypatch.setattr(kernels.ops.activation_gradient, "derivative", constant)
    got = gradients(call, cotangent(call))
    assert set(wrong(got, expected(call, cotangent(call)), torch.float32)) == {"x", "w1", "b1"}


@pytest.mark.parametrize("change", ["row left out", "wrong expert"])
def test_a_gradient_of_another_routing_is_seen(change: str) -> None:
    call = new_call(12, 16, 16, 4, 6, kind="flat")
    assert isinstance(call.routing, Flat)
    experts = call.routing.experts.clone()
    experts[experts.argmax()] = -1 if change == "row left out" else 0
    got = gradients(call.but(experts=experts), cotangent(call))
    assert list(wrong(got, expected(call, cotangent(call)), torch.float32))


@pytest.mark.parametrize("path", PATHS)
def test_every_path_has_the_same_gradients(path: str) -> None:
    call = new_call(12, 16, 16, 4, 6, kind="top_k")
    forced = gradients(call, cotangent(call), lambda leaves: leaves.run(moe, options=PATHS[path]))
    chosen = gradients(call, cotangent(call))
    assert all(torch.equal(gradient, chosen[name]) for name, gradient in forced.items())


@pytest.mark.parametrize("needed", ["x", "weights", "w1", "b1", "w2", "b2"])
def test_only_what_is_needed_is_computed(needed: str) -> None:
    call = new_call(12, 16, 16, 4, 6, kind="top_k")
    leaf = (call.routing.weights if needed == "weights" else getattr(call, needed)).clone().requires_grad_()  # type: ignore[union-attr]
    out = call.but(**{needed: leaf}).run(moe)
    with FlopCounterMode(display=False) as counter:
        (got,) = torch.autograd.grad(out, leaf, cotangent(call))
    right = expected(call, cotangent(call))[needed]
    assert list(wrong({needed: got}, {needed: right}, torch.float32)) == []
    again, one, other = 24 * 2 * (16 * 16 + 16 * 6), 24 * 2 * 16 * 16, 24 * 2 * 16 * 6
    assert counter.get_total_flops() == again + {"x": one, "w1": one, "w2": other}.get(needed, 0)


@pytest.mark.parametrize("kind", KINDS)
def test_lives_in_a_whole_compiled_graph(kind: str) -> None:
    call = new_call(6, 16, 16, 4, 5, kind=kind)
    torch._dynamo.reset()
    compiled = torch.compile(lambda leaves: 2 * leaves.run(moe), fullgraph=True, backend="aot_eager")
    got = gradients(call, cotangent(call), compiled)
    eager = gradients(call, 2 * cotangent(call))
    assert all(torch.equal(gradient, eager[name]) for name, gradient in got.items())


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")  # torch looks at it
@pytest.mark.parametrize("kind", KINDS)
def test_passes_torchs_own_check_of_an_operator(kind: str) -> None:
    call = new_call(6, 16, 8, 4, 5, kind="top_k" if kind == "gate" else kind)
    leaves = call.map(lambda tensor: tensor.requires_grad_(tensor.is_floating_point()))
    routing, weights = list(leaves.routing.tensors().values()), (leaves.w1, leaves.b1, leaves.w2, leaves.b2)
    tests = ("test_schema", "test_autograd_registration", "test_faketensor", "test_aot_dispatch_dynamic")
    if kind == "gate":  # the last of these tests adds up all outputs, and cannot with ids among them
        gate = new_call(6, 16, 8, 4, 5).routing
        assert isinstance(gate, Gate)
        leaf = gate.weight.requires_grad_()
        arguments: tuple[Any, ...] = (leaves.x, leaf, None, 4, 2, 1.0, False, "selected")
        torch.library.opcheck(torch.ops.moegap.route.default, arguments, test_utils=tests[:3])
        return
    arguments = (leaves.x, routing, False, *weights, "relu", "ieee", None)
    torch.library.opcheck(torch.ops.moegap.moe_forward.default, arguments, test_utils=tests)
    arguments = (cotangent(call), call.x, routing, False, *weights, "relu", "ieee", [True] * 6)
    detached = torch.utils._pytree.tree_map_only(Tensor, Tensor.detach, arguments)
    torch.library.opcheck(
        torch.ops.moegap.moe_backward.default, detached, test_utils=("test_schema", "test_faketensor")
    )


def test_wrong_arguments_are_refused() -> None:
    call = new_call(6, 16, 8, 4, 5)
    call.x.requires_grad_()
    with pytest.raises(ValueError, match="must have a row for each of the E = 4 experts"):
        call.but(weight=torch.zeros(5, 16), bias=None).run(moe)
    with pytest.raises(ValueError, match=r"b2 must have the shape \(E = 4, C = 5\)"):
        call.but(b2=torch.zeros(4, 3)).run(moe)


def test_the_flop_counter_sees_the_products_once() -> None:
    call = new_call(6, 16, 8, 4, 5)
    call.x.requires_grad_()
    with FlopCounterMode(display=False) as counter:
        call.run(moe)
    assert counter.get_total_flops() == 12 * 2 * (16 * 8 + 8 * 5) + 2 * 6 * 16 * 4


def test_a_second_gradient_is_refused() -> None:
    call = new_call(6, 16, 8, 4, 5, kind="top_k")
    x = call.x.requires_grad_()
    (dx,) = torch.autograd.grad(call.run(moe).sum(), x, create_graph=True)
    with pytest.raises(NotImplementedError, match="moegap::moe_backward has no gradient"):
        dx.sum().backward()


def test_the_launches() -> None:
    call = new_call(6, 16, 8, 4, 5, kind="top_k").map(lambda tensor: tensor.to("meta"))
    with recording() as records:
        TILES.run(call.x.new_empty(6, 5), call.x, call.routing, call.experts, Gradients(*[True] * 6))  # type: ignore[arg-type]
    assert [launch.kernel.__name__.strip("_").removesuffix("_kernel") for launch in records] == [
        *("count", "dispatch", "grouped_gemm", "grouped_gemm", "activation_gradient"),
        *("grouped_gemm", "combine"),  # of x
        *("weight_gradient", "bias_gradient", "weight_gradient", "bias_gradient"),
    ]
