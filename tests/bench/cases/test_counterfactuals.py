"""Operators of a call, counted."""

import torch

from bench.cases.counterfactuals import count_operators


def test_views_are_not_counted():
    x = torch.ones(4, 4)
    assert count_operators(lambda: x.t().reshape(16)) == 1  # the copy that this reshape needs
    assert count_operators(lambda: x.view(16)[:3]) == 0


def test_every_operator_of_a_loop_is_counted():
    x = torch.ones(4)
    assert count_operators(lambda: [x + 1 for _ in range(7)]) == 7
    assert count_operators(lambda: torch.relu(x @ x) * 2) == 3


def test_a_composite_counts_as_what_it_runs():
    x = torch.ones(4, 4)
    assert count_operators(lambda: torch.nn.functional.linear(x, x, x[0])) == 1
