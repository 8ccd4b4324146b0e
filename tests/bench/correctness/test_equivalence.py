"""The equivalence gate lets rounding through and stops every mutant."""

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from bench.correctness.equivalence import TOLERANCE, Deviation, deviation, head_reference
from bench.correctness.reference import Reference
from bench.forms import form
from bench.subjects.subject import feature_rows
from models.heads.heads import Head, build_head
from models.routing import Routing
from tests.bench import oracle
from tests.bench.forms.test_forms import POLICIES

DTYPES = pytest.mark.parametrize("dtype", list(TOLERANCE), ids=str)
VARIABLE = ("capacity", "top_p", "threshold", "expert_choice")
PAPER = {"features": 512, "hidden": 64, "classes": 10, "experts": 8}


def reconfigured(head: Head, **changes: Any) -> Head:
    """Return the same weights under another configuration."""
    config = type(head.config).model_validate({**head.config.model_dump(), **changes})
    other = build_head(config).to(head.w1.dtype).eval().requires_grad_(False)
    other.load_state_dict(head.state_dict())
    return other


def reweighted(head: Head, **weights: Tensor) -> Head:
    """Return the same head with some of its weights replaced."""
    other = copy.deepcopy(head)
    for name, value in weights.items():
        getattr(other, name).copy_(value)
    return other


def swapped(head: Head) -> Head:
    """Return the head whose gate takes its first two experts for each other."""
    order = [1, 0, *range(2, head.config.experts)]
    return reweighted(head, **{name: getattr(head, name)[order] for name in ("w1", "b1", "w2", "b2")})


MUTANTS: dict[str, Callable[[Head], Head]] = {
    "two experts swapped": swapped,
    "first bias forgotten": lambda head: reweighted(head, b1=torch.zeros_like(head.b1)),
    "second bias forgotten": lambda head: reweighted(head, b2=torch.zeros_like(head.b2)),
    "wrong activation": lambda head: reconfigured(head, activation="gelu"),
    "weights ignored": lambda head: reconfigured(head, temperature=1e6),
    "one expert more": lambda head: reconfigured(head, k=3),
    "one expert less": lambda head: reconfigured(head, k=1, weights_over="all"),
    "scores not standardised": lambda head: reconfigured(head, standardise=False),
    "weights over all experts": lambda head: reconfigured(head, weights_over="all"),
}
"""Ways to compute another function; all of them fit a sparse head with k = 2 and relu."""


@DTYPES
@pytest.mark.parametrize("mutant", MUTANTS)
@pytest.mark.parametrize("changes", [{}, PAPER], ids=["small", "paper"])
def test_a_mutant_is_stopped(mutant: str, changes: dict[str, int], dtype: torch.dtype) -> None:
    head = oracle.new_head("sparse", dtype=dtype, **changes)
    x = oracle.rows(head, 257)
    found = deviation(MUTANTS[mutant](head)(x), head_reference(head, x), x)
    assert not found.acceptable
    assert found.error > 1.5 * found.tolerance


def gates_for_values(head: Head) -> Head:
    """Return the swiglu head that takes each half of its first product for the other."""
    return reweighted(head, w1=head.w1.roll(head.config.hidden, -1), b1=head.b1.roll(head.config.hidden, -1))


@DTYPES
@pytest.mark.parametrize("kind", ["dense", "soft", "sparse"])
def test_swapped_halves_of_swiglu_are_stopped(kind: str, dtype: torch.dtype) -> None:
    head = oracle.new_head(kind, activation="swiglu", dtype=dtype)
    x = oracle.rows(head, 257)
    expected = head_reference(head, x)
    assert deviation(head(x), expected, x).acceptable
    assert not deviation(gates_for_values(head)(x), expected, x).acceptable


@DTYPES
@pytest.mark.parametrize("mutant", ["two experts swapped", "second bias forgotten", "wrong activation"])
def test_a_mutant_of_the_soft_head_is_stopped(mutant: str, dtype: torch.dtype) -> None:
    head = oracle.new_head("soft", dtype=dtype)
    x = oracle.rows(head, 257)
    assert not deviation(MUTANTS[mutant](head)(x), head_reference(head, x), x).acceptable


def misrouted(head: Head, x: Tensor, change: Callable[[Routing], Routing]) -> Tensor:
    """Return the logits (N, C) of x (N, D) where the head's routing is changed before its experts run."""
    return head.mix(x, change(head.routing(x)))


def without(routing: Routing, lost: Tensor) -> Routing:
    """Return the routing without the assignments `lost` (M,)."""
    return routing._replace(
        rows=routing.rows[~lost], experts=routing.experts[~lost], weights=routing.weights[~lost], per_row=None
    )


def last_of(values: Tensor) -> Tensor:
    """Return a mask (M,) of the last assignment alone."""
    return torch.arange(len(values)) == len(values) - 1


MISROUTINGS: dict[str, Callable[[Routing], Routing]] = {
    "weights ignored": lambda routing: routing._replace(weights=torch.full_like(routing.weights, 0.5)),
    "weights of the next assignment": lambda routing: routing._replace(weights=routing.weights.roll(1)),
    "two experts swapped": lambda routing: routing._replace(experts=routing.experts ^ (routing.experts < 2).long()),
    "a row dropped": lambda routing: without(routing, routing.rows == routing.rows[len(routing.rows) // 2]),
    "an assignment dropped": lambda routing: without(routing, last_of(routing.rows)),
    "rows of the next assignment": lambda routing: routing._replace(rows=routing.rows.roll(1)),
}
"""Ways to misuse a routing, whatever the policy."""


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("mutant", MISROUTINGS)
@pytest.mark.parametrize(("kind", "changes"), POLICIES, ids=str)
def test_a_misused_routing_is_stopped_under_every_policy(
    kind: str, changes: dict[str, Any], mutant: str, dtype: torch.dtype
) -> None:
    head = oracle.new_head(kind, dtype=dtype, **changes)
    x = oracle.rows(head, 257)
    expected = head_reference(head, x)
    assert deviation(misrouted(head, x, lambda routing: routing), expected, x).acceptable
    assert not deviation(misrouted(head, x, MISROUTINGS[mutant]), expected, x).acceptable


POLICY_MUTANTS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "another mass": ({"policy": "top_p", "mass": 0.5}, {"mass": 0.6}),
    "at most one expert": ({"policy": "top_p", "mass": 0.9}, {"k": 1}),
    "another threshold": ({"policy": "threshold"}, {"threshold": 0.2}),
    "less capacity": ({"policy": "capacity"}, {"capacity_factor": 1.0}),
    "overflow to the next": ({"policy": "capacity", "capacity_factor": 1.0}, {"overflow": "next"}),
    "fewer places": ({"policy": "expert_choice"}, {"capacity_factor": 0.95}),
    "another temperature": ({"policy": "expert_choice"}, {"temperature": 0.5}),
}


@DTYPES
@pytest.mark.parametrize("mutant", POLICY_MUTANTS)
def test_another_setting_of_a_policy_is_stopped(mutant: str, dtype: torch.dtype) -> None:
    changes, others = POLICY_MUTANTS[mutant]
    head = oracle.new_head("sparse", dtype=dtype, **changes)
    x = oracle.rows(head, 257)
    assert not deviation(reconfigured(head, **others)(x), head_reference(head, x), x).acceptable


def test_a_forgotten_correction_is_stopped() -> None:
    head = oracle.new_head("sparse", bias_correction=True)
    x = oracle.rows(head, 257)
    forgotten = copy.deepcopy(head)
    forgotten.correction.zero_()
    assert not deviation(forgotten(x), head_reference(head, x), x).acceptable


@pytest.mark.parametrize("policy", ["capacity", "expert_choice"])
def test_rows_that_compete_run_as_one_batch(policy: str) -> None:
    head = oracle.new_head("sparse", policy=policy, capacity_factor=0.8)
    x = oracle.rows(head, 256)
    halves = torch.cat([head(part) for part in x.split(128)])
    assert not deviation(halves, head_reference(head, x), x).acceptable


@pytest.mark.parametrize("rows", [6_000, 6_011])
def test_repeated_rows_leave_expert_choice_comparable(rows: int) -> None:
    head = oracle.new_head("sparse", policy="expert_choice", experts=8)
    x = feature_rows(oracle.rows(head, 300), head.config.features, rows)
    found = deviation(head(x), head_reference(head, x), x)
    assert found.acceptable
    assert found.ambiguous_rows < 0.01 * rows


@DTYPES
@pytest.mark.parametrize("row", [0, 100, 256])
def test_one_wrong_row_is_enough(row: int, dtype: torch.dtype) -> None:
    head = oracle.new_head("sparse", dtype=dtype)
    x = oracle.rows(head, 257)
    expected = head_reference(head, x)
    logits = head(x)
    for wrong in (torch.zeros(5, dtype=dtype), logits[row - 1], logits[row] * torch.nan, logits[row] * 1.5):
        broken = logits.clone()
        broken[row] = wrong
        assert not deviation(broken, expected, x).acceptable


@DTYPES
@pytest.mark.parametrize(
    ("kind", "changes"),
    [("dense", {}), ("soft", PAPER), ("sparse", PAPER), *(("sparse", PAPER | {"policy": name}) for name in VARIABLE)],
    ids=str,
)
@pytest.mark.parametrize("name", ["loop", "eager", "grouped_mm"])
def test_rounding_passes_with_room_to_spare(name: str, kind: str, changes: dict[str, Any], dtype: torch.dtype) -> None:
    head = oracle.new_head(kind, dtype=dtype, **changes)
    if form(name).unavailable(head.config, torch.device("cpu"), dtype):
        return
    for count in (0, 1, 7, 257):
        x = oracle.rows(head, count)
        found = deviation(form(name).prepare(head, x)(x), head_reference(head, x), x)
        assert found.acceptable
        assert found.error < found.tolerance / 3


def test_float32_tells_the_two_gelus_apart() -> None:
    head = oracle.new_head("dense", activation="gelu")
    x = oracle.rows(head, 257)
    approximate = copy.copy(head)
    approximate.activation = torch.nn.GELU("tanh")
    assert not deviation(approximate(x), head_reference(head, x), x).acceptable


LIKE = torch.empty(0)
"""Rows whose dtype and device the logits must have."""


def test_nan_and_infinity_are_right_only_where_the_reference_has_them() -> None:
    nan, inf = np.nan, np.inf
    expected = Reference(np.array([[1.0, 2.0], [nan, nan], [inf, 1.0]]), np.zeros(3, dtype=bool))
    right = torch.tensor([[1.0, 2.0], [nan, nan], [inf, 1.0]])
    assert deviation(right, expected, LIKE).error == 0
    for row, column, value in ((0, 0, nan), (0, 1, inf), (1, 0, 0.0), (2, 0, -inf), (2, 0, nan)):
        wrong = right.clone()
        wrong[row, column] = value
        assert not deviation(wrong, expected, LIKE).acceptable


def test_another_shape_is_wrong() -> None:
    expected = Reference(np.ones((3, 2)), np.zeros(3, dtype=bool))
    for shape in ((2, 2), (3, 1), (6,), (1, 3, 2)):
        assert deviation(torch.ones(shape), expected, LIKE).error == np.inf


def test_another_dtype_than_that_of_the_rows_is_wrong() -> None:
    expected = Reference(np.ones((3, 2)), np.zeros(3, dtype=bool))
    assert deviation(torch.ones(3, 2, dtype=torch.float16), expected, LIKE).error == np.inf
    assert deviation(torch.ones(3, 2), expected, LIKE).error == 0


def test_rows_that_float32_cannot_route_are_left_out_and_counted() -> None:
    expected = Reference(np.ones((200, 2)), np.arange(200) < 2)
    logits = torch.ones(200, 2)
    logits[:2] = 7
    found = deviation(logits, expected, LIKE)
    assert (found.error, found.ambiguous_rows, found.rows, found.acceptable) == (0, 2, 200, True)
    assert not Deviation(error=0, tolerance=1e-4, ambiguous_rows=3, rows=200).acceptable


def test_a_row_with_two_outcomes_is_held_to_the_nearer() -> None:
    expected = Reference(np.ones((5, 2)), np.zeros(5, dtype=bool), np.where(np.arange(5)[:, None] < 2, 3.0, 1.0))
    logits = torch.ones(5, 2)
    logits[1] = 3
    assert deviation(logits, expected, LIKE).error == 0
    for row, value in ((1, 2.0), (1, torch.nan), (4, 3.0)):
        wrong = logits.clone()
        wrong[row] = value
        assert not deviation(wrong, expected, LIKE).acceptable


def test_rows_without_experts_do_not_set_the_scale() -> None:
    want = np.zeros((9, 2))
    want[:4] = [[1.0, 2.0], [1.0, 2.0], [1e-9, 0.0], [2.0, 1.0]]
    expected = Reference(want, np.zeros(9, dtype=bool))
    logits = torch.tensor(want, dtype=torch.float32)
    logits[2] += 1e-7
    assert deviation(logits, expected, LIKE).acceptable
    logits[8] = 0.01
    assert not deviation(logits, expected, LIKE).acceptable


def test_a_row_of_small_logits_is_held_to_the_median_row() -> None:
    want = np.ones((5, 2))
    want[0] = 1e-9
    expected = Reference(want, np.zeros(5, dtype=bool))
    logits = torch.ones(5, 2)
    logits[0] = 2e-9
    assert deviation(logits, expected, LIKE).acceptable
    logits[0] = 0.5
    assert not deviation(logits, expected, LIKE).acceptable
