"""Made rows: the gate really sends them where the routing asks."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.errors import BenchError
from bench.subjects.skew import SKEWS, chosen_experts, skewed_rows
from models.config import head_config
from models.heads.heads import build_head


def head(E, k, D=24, **changes):
    torch.manual_seed(0)
    return build_head(head_config("sparse", features=D, classes=3, hidden=4, experts=E, k=k, **changes)).eval()


def load(skew, rows=4000, E=8, k=2):
    return torch.bincount(chosen_experts(skew, rows, E, k).flatten(), minlength=E).double()


@settings(max_examples=40, deadline=None)
@given(st.sampled_from(SKEWS), st.integers(1, 12), st.data(), st.integers(0, 40), st.integers(0, 5))
def test_experts_of_a_row_are_distinct_and_within_range(skew, E, data, rows, seed):
    k = data.draw(st.integers(1, E))
    ids = chosen_experts(skew, rows, E, k, seed)
    assert ids.shape == (rows, k)
    assert all(len(set(row)) == k and set(row) <= set(range(E)) for row in ids.tolist())


def test_loads_follow_their_law():
    uniform, zipf1, zipf2 = (load(skew, k=1) / 4000 for skew in ("uniform", "zipf1", "zipf2"))
    ranks = torch.arange(1, 9).double()
    for found, exponent in ((uniform, 0), (zipf1, 1), (zipf2, 2)):
        law = ranks**-exponent / (ranks**-exponent).sum()
        assert float((found - law).abs().max()) < 4 * (0.25 / 4000) ** 0.5


def test_one_hot_expert_is_in_every_row_and_the_others_are_even():
    found = load("hot")
    assert found[0] == 4000
    assert float(found[1:].max() - found[1:].min()) <= 1


def test_balanced_rows_differ_by_one_at_most():
    found = load("balanced", rows=37, E=8, k=3)
    assert found.sum() == 111
    assert float(found.max() - found.min()) <= 1


def test_all_rows_go_to_the_same_experts():
    assert load("one").tolist() == [4000, 4000, 0, 0, 0, 0, 0, 0]


@pytest.mark.parametrize("skew", SKEWS)
@pytest.mark.parametrize(
    ("E", "k", "changes"), [(8, 2, {}), (5, 1, {}), (4, 4, {}), (2, 1, {}), (8, 3, {"standardise": False})]
)
def test_the_gate_sends_rows_where_they_are_meant_to_go(skew, E, k, changes):
    one = head(E, k, **changes)
    x = skewed_rows(one, skew, 53, seed=3)
    assert x.shape == (53, 24)
    assert torch.equal(one.routing(x).ids.sort(dim=1).values, chosen_experts(skew, 53, E, k, 3).sort(dim=1).values)


@pytest.mark.parametrize("skew", ["balanced", "zipf1", "hot"])
def test_rounding_to_bfloat16_does_not_decide(skew):
    one = head(128, 8, D=256, standardise=False).to(torch.bfloat16)
    x = skewed_rows(one, skew, 130).to(torch.bfloat16)
    exact = one.double().routing(x.double()).ids
    assert torch.equal(exact.sort(dim=1).values, chosen_experts(skew, 130, 128, 8).sort(dim=1).values)


def test_no_rows_are_made_for_none():
    assert skewed_rows(head(8, 2), "zipf1", 0).shape == (0, 24)


def test_a_gate_that_cannot_be_steered_is_an_error():
    with pytest.raises(BenchError, match="fewer values than experts"):
        skewed_rows(head(12, 2, D=3), "uniform", 20)
    tied = head(8, 2)
    tied.gate.weight.data[1] = tied.gate.weight.data[0]
    with pytest.raises(BenchError, match="no rows can be made"):
        skewed_rows(tied, "uniform", 20)
    with pytest.raises(BenchError, match="top_p"):
        skewed_rows(head(8, 2, policy="top_p"), "uniform", 20)
