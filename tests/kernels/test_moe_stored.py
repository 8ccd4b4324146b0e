"""The whole operation with weights stored in 8 and 4 bits, against the float64 oracle of weights decoded bit by bit."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kernels.cost.machine import A100, H100, Machine, assuming
from kernels.launch.launch import recording
from kernels.moe import moe, moe_reference, storage_error
from kernels.problem.stored import SCHEMES, Scheme, Stored, stored
from tests.kernels.calls import KINDS, Call, assert_right, new_call
from tests.kernels.narrow import decoded
from tests.kernels.test_moe import PATHS

OPTIONS = PATHS["swapped"]
schemes = pytest.mark.parametrize("scheme", SCHEMES)


def call_of(scheme: Scheme, N: int, D: int, H: int, E: int, C: int, *others: Any, **named: Any) -> tuple[Call, Call]:
    """Return a call whose weights are stored, and the same call with its weights decoded to fp64."""
    full = new_call(N, D, H, E, C, *others, **named)
    w1, w2 = stored(full.w1, scheme), stored(full.w2, scheme)
    return full.but(w1=w1, w2=w2), full.but(w1=torch.from_numpy(decoded(w1)), w2=torch.from_numpy(decoded(w2)))


@schemes
@pytest.mark.parametrize(("kind", "dtype"), [*zip(KINDS, (torch.float32, torch.float16, torch.float32), strict=True)])
def test_every_routing(kind: str, dtype: torch.dtype, scheme: Scheme) -> None:
    call, full = call_of(scheme, 9, 96, 64, 5, 13, dtype, kind=kind, activation="gelu")
    assert_right(call.run(moe, options=OPTIONS), full)
    assert_right(call.run(moe), full)
    assert_right(call.run(moe_reference), full)


@settings(max_examples=12, deadline=None, derandomize=True)
@given(
    scheme=st.sampled_from(SCHEMES),
    kind=st.sampled_from(KINDS),
    N=st.integers(0, 20),
    D=st.integers(1, 3),
    H=st.integers(1, 3),
    E=st.integers(1, 7),
    C=st.integers(1, 140),
    ragged=st.integers(0, 31),
    biases=st.booleans(),
    data=st.data(),
)
def test_any_shape(
    scheme: Scheme, kind: str, N: int, D: int, H: int, E: int, C: int, ragged: int, biases: bool, data: st.DataObject
) -> None:
    k = data.draw(st.integers(1, E))
    activation = data.draw(st.sampled_from(["relu", "gelu", "silu", "swiglu", "interleaved_swiglu"]))
    less = 0 if scheme == "mxfp4" else ragged
    call, full = call_of(scheme, N, 32 * D - less, 32 * H - less, E, C, kind=kind, k=k, activation=activation)
    if not biases:
        call, full = call.but(b1=None, b2=None), full.but(b1=None, b2=None)
    assert_right(call.run(moe, options=OPTIONS), full)


@pytest.mark.parametrize("which", ["w1", "w2"])
@schemes
def test_one_product_may_stay_as_it_is(scheme: Scheme, which: str) -> None:
    full = new_call(7, 64, 32, 4, 10, activation="swiglu")
    w = stored(getattr(full, which), scheme)
    call, full = full.but(**{which: w}), full.but(**{which: torch.from_numpy(decoded(w))})
    assert_right(call.run(moe), full)
    with recording() as records:
        call.run(moe)
    names = [launch.kernel.__name__ for launch in records if launch.stage == "experts"]
    assert names == ["_stored_gemm_kernel", "_grouped_gemm_kernel"][:: 1 if which == "w1" else -1]


@schemes
def test_interleaving_changes_no_result(scheme: Scheme) -> None:
    call, full = call_of(scheme, 7, 64, 32, 4, 10, activation="swiglu")
    assert_right(moe(call.x, call.routing, call.experts.interleaved()), full)


@schemes
@pytest.mark.parametrize("machine", [A100, H100], ids=["integers", "converts"])
def test_other_values_in_the_same_layout(machine: Machine, scheme: Scheme) -> None:
    for seed in (0, 1):
        call, full = call_of(scheme, 7, 64, 32, 4, 10, seed=seed)
        with assuming(machine):
            assert_right(call.run(moe), full)


@schemes
def test_lives_in_a_whole_compiled_graph(scheme: Scheme) -> None:
    call, _ = call_of(scheme, 6, 32, 32, 4, 5)
    torch._dynamo.reset()
    compiled = torch.compile(lambda x: moe(x + 0, call.routing, call.experts), fullgraph=True, backend="aot_eager")
    with torch.no_grad():
        assert torch.equal(compiled(call.x), call.run(moe))


@schemes
def test_runs_without_a_device_as_a_shape(scheme: Scheme) -> None:
    call = new_call(6, 32, 32, 4, 5, torch.bfloat16)
    call = call.but(w1=stored(call.w1, scheme), w2=stored(call.w2, scheme))

    def meta(w: Any) -> Stored:
        assert isinstance(w, Stored)
        return Stored(w.values.to("meta"), w.scales.to("meta"))

    there = call.map(lambda tensor: tensor.to("meta")).but(w1=meta(call.w1), w2=meta(call.w2))
    out = there.run(moe)
    assert (out.shape, out.dtype, out.device.type) == ((6, 5), torch.bfloat16, "meta")


def shifted(w: Stored, dim: int) -> Stored:
    """Return weights each of whose scales is its neighbour's."""
    return replace(w, scales=w.scales.roll(1, dims=dim))


MUTANTS = {
    "scales of the next expert": lambda w: shifted(w, 0),
    "scales of the next block": lambda w: shifted(w, 1),
    "scales of the next columns": lambda w: shifted(w, -1),
    "halves swapped": lambda w: replace(w, values=(w.values << 16) | (w.values >> 16 & 0xFFFF)),
}


@pytest.mark.parametrize(
    ("scheme", "mutant"),
    [
        *((scheme, "scales of the next expert") for scheme in SCHEMES),
        *((scheme, "scales of the next columns") for scheme in ("fp8_channels", "fp8_blocks", "mxfp4")),
        *((scheme, "scales of the next block") for scheme in ("fp8_blocks", "mxfp4")),
        ("mxfp4", "halves swapped"),
    ],
)
@pytest.mark.parametrize("which", ["w1", "w2"])
def test_a_mutant_is_seen(scheme: Scheme, mutant: str, which: str) -> None:
    sizes = (160, 160, 3, 140) if scheme == "fp8_blocks" else (64, 64, 3, 10)
    call, full = call_of(scheme, 12, *sizes, torch.float16)
    wrong = call.but(**{which: MUTANTS[mutant](getattr(call, which))})
    with pytest.raises(AssertionError, match="wrong, worst by"):
        assert_right(wrong.run(moe, options=OPTIONS), full)


@pytest.mark.parametrize("path", ["fused tiles", "fused rows"])
@schemes
def test_fused_paths_refuse(path: str, scheme: Scheme) -> None:
    call, _ = call_of(scheme, 3, 32, 32, 4, 2)
    with pytest.raises(ValueError, match="a fused path takes no weights stored in 8 or 4 bits: let Grouped run them"):
        call.run(moe, options=PATHS[path])


@schemes
def test_gradients_are_refused(scheme: Scheme) -> None:
    call, full = call_of(scheme, 3, 32, 32, 4, 2)
    call.x.requires_grad_()
    with pytest.raises(ValueError, match="moe has no gradient with weights stored in 8 or 4 bits"):
        call.run(moe)
    with torch.no_grad():
        assert_right(call.run(moe), full)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"w1": stored(torch.zeros(4, 64, 32), "fp8")}, r"w1 must have the shape \(E = 4, D = 32, H = 32\), not"),
        ({"w2": stored(torch.zeros(3, 32, 2), "mxfp4")}, r"w1 must have the shape \(E = 3, D = 32, H = 32\), not"),
        ({"w1": Stored(torch.zeros(4, 32, 32).to(torch.float8_e4m3fn), torch.ones(4, 2))}, r"w1\.scales must have the"),
        ({"w2": Stored(torch.zeros(4, 32, 2), torch.ones(4))}, "w2 must be torch.float8_e4m3fn or torch.int32, not"),
        ({"b1": torch.zeros(4, 32).half()}, "b1 must have the dtype of x, torch.float32"),
        ({"w2": stored(torch.zeros(4, 32, 2, device="meta"), "fp8")}, "all tensors must be on one device, but found"),
    ],
)
def test_wrong_arguments_are_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call_of("fp8", 3, 32, 32, 4, 2)[0].but(**change).run(moe)


@pytest.mark.parametrize(
    ("scheme", "least", "most"), [("fp8", 0.02, 0.06), ("fp8_blocks", 0.02, 0.06), ("mxfp4", 0.1, 0.3)]
)
def test_the_error_of_storage_is_that_of_the_outputs(scheme: Scheme, least: float, most: float) -> None:
    full = new_call(20, 128, 96, 4, 30, activation="swiglu").but(b1=None, b2=None)
    experts = full.experts.stored(scheme)
    w1, w2 = experts.w1, experts.w2
    assert isinstance(w1, Stored)
    assert isinstance(w2, Stored)
    exactly = full.outputs()
    got = full.but(w1=torch.from_numpy(decoded(w1)), w2=torch.from_numpy(decoded(w2))).outputs()
    error = storage_error(full.x, full.routing, experts, full.experts)
    assert error == pytest.approx(np.linalg.norm(got - exactly) / np.linalg.norm(exactly), rel=1e-3)
    assert least < error < most
    assert storage_error(full.x, full.routing, full.experts, full.experts) == 0
