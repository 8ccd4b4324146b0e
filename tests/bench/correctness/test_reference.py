"""The float64 reference against an oracle written row by row."""

import tracemalloc
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from bench.correctness.equivalence import GRADIENT_TOLERANCE, gradient_deviation, head_reference
from bench.correctness.reference import gradients
from bench.timing.memory import peak_memory
from tests.bench import oracle
from tests.bench.forms.test_forms import POLICIES, POLICY_EDGES

HEADS: list[tuple[str, dict[str, Any]]] = [
    ("dense", {}),
    ("dense", {"activation": "gelu"}),
    ("dense", {"activation": "silu"}),
    ("soft", {}),
    ("soft", {"activation": "gelu", "temperature": 0.3}),
    ("soft", {"experts": 1}),
    ("dense", {"activation": "swiglu", "hidden": 7}),
    ("soft", {"activation": "swiglu", "temperature": 0.3}),
    ("sparse", {"activation": "swiglu", "hidden": 1}),
    ("sparse", {"activation": "swiglu", "experts": 1, "k": 1, "hidden": 3}),
    ("sparse", {}),
    ("sparse", {"activation": "gelu", "temperature": 3.0, "standardise": False}),
    ("sparse", {"activation": "silu", "weights_over": "all"}),
    ("sparse", {"k": 1}),
    ("sparse", {"k": 4}),
    ("sparse", {"k": 4, "weights_over": "all"}),
    ("sparse", {"experts": 1, "k": 1}),
    ("sparse", {"experts": 1, "k": 1, "weights_over": "selected", "standardise": False}),
    *POLICIES,
    *POLICY_EDGES,
]


@pytest.mark.parametrize(("kind", "changes"), HEADS, ids=str)
@pytest.mark.parametrize("count", [0, 1, 7, 257])
def test_logits_are_those_of_the_formula(kind: str, changes: dict[str, Any], count: int) -> None:
    head = oracle.new_head(kind, **changes)
    x = oracle.rows(head, count)
    found = head_reference(head, x)
    assert found.logits.shape == (count, head.config.classes)
    assert found.logits.dtype == np.float64
    np.testing.assert_allclose(found.logits, oracle.logits(head, x), rtol=1e-10, atol=1e-12)
    assert not found.ambiguous.any()


@pytest.mark.parametrize("scale", [1e-20, 1e4, 1e8, 1e15])
@pytest.mark.parametrize("activation", ["silu", "swiglu"])
@pytest.mark.parametrize("kind", ["dense", "soft", "sparse"])
def test_scale_of_a_row_changes_nothing_in_its_accuracy(kind: str, activation: str, scale: float) -> None:
    head = oracle.new_head(kind, activation=activation)
    x = oracle.rows(head, 9) * scale
    np.testing.assert_allclose(head_reference(head, x).logits, oracle.logits(head, x), rtol=1e-10)


@pytest.mark.parametrize("standardise", [True, False])
@pytest.mark.parametrize("weights_over", ["selected", "all"])
def test_equal_scores_go_to_the_lowest_ids(standardise: bool, weights_over: str) -> None:
    head = oracle.new_head("sparse", standardise=standardise, weights_over=weights_over)
    head.gate.weight.zero_()
    x = oracle.rows(head, 5)
    for bias in ([0.0, 0.0, 0.0, 0.0], [1.0, 3.0, 1.0, 1.0], [-2.0, 0.5, 0.5, 0.5]):
        head.gate.bias.copy_(torch.tensor(bias))
        np.testing.assert_allclose(head_reference(head, x).logits, oracle.logits(head, x), rtol=1e-10)


@pytest.mark.parametrize("kind", ["dense", "soft", "sparse"])
def test_nan_stays_in_its_row(kind: str) -> None:
    head = oracle.new_head(kind)
    x = oracle.rows(head, 6)
    x[2, 3] = torch.nan
    found = head_reference(head, x).logits
    assert np.isnan(found[2]).all()
    np.testing.assert_allclose(np.delete(found, 2, 0), np.delete(oracle.logits(head, x), 2, 0), rtol=1e-10)


def test_scores_that_float32_cannot_tell_apart_are_reported() -> None:
    head = oracle.new_head("sparse", k=1)
    head.gate.weight.zero_()
    x = oracle.rows(head, 4)
    for bias, ambiguous in (([1.0, 1.0 + 2e-7, 0.0, 0.0], True), ([1.0, 1.0 + 1e-4, 0.0, 0.0], False)):
        head.gate.bias.copy_(torch.tensor(bias))
        assert (head_reference(head, x).ambiguous == ambiguous).all()


@pytest.mark.parametrize(("kind", "changes"), POLICIES, ids=str)
def test_rows_with_nan_spoil_no_other_row(kind: str, changes: dict[str, Any]) -> None:
    head = oracle.new_head(kind, **changes)
    x = oracle.rows(head, 9)
    x[[1, 4], 3] = torch.nan
    found = head_reference(head, x).logits
    np.testing.assert_allclose(found, oracle.logits(head, x), rtol=1e-10, atol=1e-12)
    assert not np.isnan(np.delete(found, [1, 4], 0)).any()
    assert np.isnan(found[[1, 4]]).all()


def test_an_assignment_that_float32_cannot_decide_has_both_outcomes() -> None:
    head = oracle.new_head("sparse", policy="threshold", threshold=0.3, k=2, standardise=False)
    head.gate.weight.zero_()
    x = oracle.rows(head, 3)
    with_two, with_one, near = [0.0, -0.1, -9.0, -9.0], [0.0, -1.2, -9.0, -9.0], [0.0, np.log(0.3 / 0.7), -30.0, -30.0]
    logits = []
    for bias, open_rows in ((with_two, 0), (with_one, 0), (near, 3)):
        head.gate.bias.copy_(torch.tensor(bias))
        found = head_reference(head, x)
        assert not found.ambiguous.any()
        assert found.otherwise is not None
        assert (found.otherwise != found.logits).any(axis=1).sum() == open_rows
        logits.append(found)
    one = 0.7 * expert_logits(head, x, 0)
    both = one + 0.3 * expert_logits(head, x, 1)
    outcomes = sorted([logits[2].logits, logits[2].otherwise], key=lambda found: np.abs(found - both).max())
    np.testing.assert_allclose(outcomes[0], both, rtol=1e-6, atol=1e-7)
    np.testing.assert_allclose(outcomes[1], one, rtol=1e-6, atol=1e-7)


def test_a_large_layer_is_widened_one_expert_at_a_time() -> None:
    head = oracle.new_head("sparse", features=256, hidden=256, classes=256, experts=32, k=2)
    x = oracle.rows(head, 40)
    one, every = 2 * 256 * 256 * 8, sum(value.numel() for value in head.parameters()) * 8
    tracemalloc.start()
    found = head_reference(head, x)
    _, of_numpy = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    of_torch = peak_memory(lambda: head_reference(head, x), x.device)
    assert one / 2 < of_torch + of_numpy < one + 40 * 256 * 8 * 20 < every / 8
    np.testing.assert_allclose(found.logits, head.double()(x.double()).numpy(), rtol=1e-10, atol=1e-12)


def expert_logits(head: Any, x: torch.Tensor, e: int) -> np.ndarray:
    """Return what expert e makes of x (N, D)."""
    hidden = torch.relu(x.double() @ head.w1[e].double() + head.b1[e].double())
    return (hidden @ head.w2[e].double() + head.b2[e].double()).numpy()


@settings(max_examples=100, deadline=None)
@given(data=st.data())
def test_random_heads(data: st.DataObject) -> None:
    kind, changes = data.draw(oracle.configurations())
    head = oracle.new_head(kind, seed=data.draw(st.integers(0, 10_000)), **changes)
    x = oracle.rows(head, data.draw(st.integers(0, 20)))
    assume(oracle.decided(head, x).all())
    np.testing.assert_allclose(head_reference(head, x).logits, oracle.logits(head, x), rtol=1e-8, atol=1e-10)


SMOOTH = {"features": 6, "hidden": 3, "classes": 2, "activation": "gelu"}
STEP = 1e-6


@pytest.mark.parametrize(
    ("kind", "changes"),
    [
        ("dense", {}), ("dense", {"activation": "swiglu"}), ("dense", {"activation": "silu"}),
        ("soft", {"temperature": 0.5}), ("sparse", {"experts": 1, "k": 1}),
        ("sparse", {"weights_over": "all"}), ("sparse", {"standardise": False, "bias_correction": True}),
        *(("sparse", {"policy": name}) for name in ("capacity", "top_p", "threshold", "expert_choice")),
    ],
    ids=str,
)  # fmt: skip
def test_gradients_are_differences_of_the_formula(kind: str, changes: dict[str, Any]) -> None:
    head = oracle.new_head(kind, dtype=torch.float64, **{**SMOOTH, **changes})
    x = oracle.rows(head, 9)
    upstream = torch.randn(9, 2, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    tensors = {"x": x, **{name: value for name, value in head.named_parameters() if not name.startswith("noise")}}
    found = gradients(head.config, head.state_dict(), x, upstream, [name for name in tensors if name != "x"])
    assert list(found) == list(tensors)
    for name, tensor in tensors.items():
        flat = tensor.view(-1)
        for place in range(0, flat.numel(), max(1, flat.numel() // 5)):
            value, losses = flat[place].item(), []
            for side in (-STEP, STEP):
                flat[place] = value + side
                losses.append(float((oracle.logits(head, x) * upstream.numpy()).sum()))
            flat[place] = value
            slope = (losses[1] - losses[0]) / (2 * STEP)
            assert found[name].view(-1)[place] == pytest.approx(slope, rel=1e-5, abs=1e-7), name


def test_rows_that_float32_cannot_route_are_undecided() -> None:
    head = oracle.new_head("sparse", standardise=False)
    head.gate.weight[1] = head.gate.weight[0]
    head.gate.bias[1] = head.gate.bias[0] + 1e-7
    x = oracle.rows(head, 200)
    found = head_reference(head, x)
    ids = head.routing(x).ids
    assert found.undecided.sum() == (((ids == 0) | (ids == 1)).sum(dim=1) == 1).sum()
    assert 0 < found.undecided.sum() < 200


def test_a_deviation_of_gradients_is_that_of_the_worst_part() -> None:
    wanted = torch.ones(4, 3, 2, dtype=torch.float64)
    wanted[1] = 0
    wanted[2] = 1e-9
    assert gradient_deviation(wanted.float(), wanted, 4) < 1e-7
    for part, error in ((0, 0.5), (1, 0.5), (2, 0.5)):
        other = wanted.clone()
        other[part] += 0.5
        assert gradient_deviation(other, wanted, 4) == pytest.approx(error)
    assert gradient_deviation(wanted[:3], wanted, 4) == np.inf
    assert gradient_deviation(wanted * torch.nan, wanted, 4) == np.inf
    assert gradient_deviation(torch.zeros(5), torch.zeros(5)) == 0
    assert GRADIENT_TOLERANCE[torch.float32] < GRADIENT_TOLERANCE[torch.float16] < GRADIENT_TOLERANCE[torch.bfloat16]
