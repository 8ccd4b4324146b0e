"""The routing in few operators decides as the head does, bit by bit, and weighs as it does within rounding."""

import pytest
import torch
from torch.overrides import TorchFunctionMode

from bench.forms import eager
from bench.forms.routing import by_max, by_sort, router
from models.routing import select
from tests.bench import oracle
from tests.bench.forms.test_forms import TIES, extreme_rows, tied_head

GATES = [
    {},
    {"experts": 8, "k": 3, "temperature": 0.5},
    {"standardise": False, "temperature": 2.0},
    {"weights_over": "all", "experts": 7},
    {"weights_over": "all", "standardise": False},
    {"k": 1},
    {"k": 4},
    {"experts": 1, "k": 1},
]


def assert_same(head, x):
    with torch.inference_mode():
        want = head.routing(x)
        for choose in (by_sort, by_max):
            got = router(head, choose)(x)
            assert torch.equal(got.rows, want.rows)
            assert torch.equal(got.experts, want.experts)
            assert got.per_row == want.per_row
            torch.testing.assert_close(got.weights, want.weights, rtol=1e-5, atol=1e-7, equal_nan=True)


@pytest.mark.parametrize("changes", GATES, ids=str)
def test_it_decides_as_the_head(changes):
    head = oracle.new_head("sparse", **changes)
    for x in (oracle.rows(head, 0), oracle.rows(head, 2000), extreme_rows(head), oracle.rows(head, 50) * 1e-25):
        assert_same(head, x)


@pytest.mark.parametrize("scale", [1.0, 1e-30, 1e30])
@pytest.mark.parametrize("standardise", [True, False])
def test_ties_and_equal_scores(standardise, scale):
    for bias in TIES:
        head = tied_head([value * scale for value in bias], standardise=standardise)
        assert_same(head, oracle.rows(head, 5))


@pytest.mark.parametrize("choose", [by_sort, by_max])
def test_the_choice_is_stable_and_distinct_whatever_the_scores(choose):
    values = torch.tensor([0.0, 1.0, -1.0, torch.inf, -torch.inf, torch.nan])
    scores = values[torch.randint(len(values), (500, 5), generator=torch.Generator().manual_seed(0))]
    for k in (1, 2, 5):
        _, ids = choose(scores, k)
        assert torch.equal(ids, select(scores, k))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_scores_are_float32_or_wider(dtype):
    head = oracle.new_head("sparse", dtype=dtype)
    assert router(head)(oracle.rows(head, 3)).scores.dtype == torch.promote_types(dtype, torch.float32)
    assert_same(head, oracle.rows(head, 200))


@pytest.mark.parametrize("changes", [{"policy": "top_p"}, {"bias_correction": True}], ids=str)
def test_other_policies_keep_their_definition(changes):
    head = oracle.new_head("sparse", **changes)
    assert router(head) == head.routing


def test_it_takes_fewer_operators():
    class Calls(TorchFunctionMode):
        number = 0

        def __torch_function__(self, func, types, args=(), kwargs=None):
            self.number += 1
            return func(*args, **(kwargs or {}))

    head = oracle.new_head("sparse")
    route, x = router(head), oracle.rows(head, 3)
    with torch.inference_mode(), Calls() as few:
        route(x)
    with torch.inference_mode(), Calls() as many:
        head.routing(x)
    assert 2 * few.number < many.number


@pytest.mark.parametrize("changes", [{}, {"policy": "top_p", "mass": 0.6}, {"activation": "swiglu"}], ids=str)
def test_padded_experts_are_those_of_the_formula(changes):
    head = oracle.new_head("sparse", **changes)
    run = eager.Sparse(head, sliced=False)
    with torch.inference_mode():
        for count in (0, 1, 33):
            x = oracle.rows(head, count)
            assert oracle.deviation(run(x), head, x) < 2e-5
