"""The float64 reference against an oracle written row by row."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.equivalence import head_reference
from tests.bench import oracle

HEADS: list[tuple[str, dict[str, Any]]] = [
    ("dense", {}),
    ("dense", {"activation": "gelu"}),
    ("dense", {"activation": "silu"}),
    ("soft", {}),
    ("soft", {"activation": "gelu", "temperature": 0.3}),
    ("soft", {"experts": 1}),
    ("sparse", {}),
    ("sparse", {"activation": "gelu", "temperature": 3.0, "standardise": False}),
    ("sparse", {"activation": "silu", "weights_over": "all"}),
    ("sparse", {"k": 1}),
    ("sparse", {"k": 4}),
    ("sparse", {"k": 4, "weights_over": "all"}),
    ("sparse", {"experts": 1, "k": 1}),
    ("sparse", {"experts": 1, "k": 1, "weights_over": "selected", "standardise": False}),
]


@pytest.mark.parametrize(("kind", "changes"), HEADS, ids=str)
@pytest.mark.parametrize("count", [0, 1, 7, 257])
def test_logits_are_those_of_the_formula(kind: str, changes: dict[str, Any], count: int) -> None:
    head = oracle.new_head(kind, **changes)
    x = oracle.rows(head, count)
    found = head_reference(head, x)
    assert found.logits.shape == (count, 5)
    assert found.logits.dtype == np.float64
    np.testing.assert_allclose(found.logits, oracle.logits(head, x), rtol=1e-10, atol=1e-12)
    assert not found.ambiguous.any()


@pytest.mark.parametrize("scale", [1e-20, 1e4, 1e8, 1e15])
@pytest.mark.parametrize("kind", ["dense", "soft", "sparse"])
def test_scale_of_a_row_changes_nothing_in_its_accuracy(kind: str, scale: float) -> None:
    head = oracle.new_head(kind, activation="silu")
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


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_random_heads(data: st.DataObject) -> None:
    kind, changes = data.draw(oracle.configurations())
    head = oracle.new_head(kind, seed=data.draw(st.integers(0, 10_000)), **changes)
    x = oracle.rows(head, data.draw(st.integers(0, 20)))
    np.testing.assert_allclose(head_reference(head, x).logits, oracle.logits(head, x), rtol=1e-8, atol=1e-10)
