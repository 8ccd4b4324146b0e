"""What `decide` calls undecided: everything that an error of the size of float32's can change, and little else."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.config import head_config
from models.routing.policies import POLICIES
from models.routing.policy import SparseConfig
from tests.models import policy_oracle as oracle

ERROR = 0.05
"""Far more than that of float32, so that random scores are often close enough."""
CONFIGS: list[dict[str, Any]] = [
    {},
    {"experts": 1, "k": 1},
    {"policy": "capacity", "capacity_factor": 0.6},
    {"policy": "capacity", "capacity_factor": 1.1, "overflow": "next"},
    {"policy": "capacity", "capacity_factor": 0.1, "k": 1},
    {"policy": "capacity", "capacity_factor": 5.0, "k": 4},
    {"policy": "capacity", "capacity_factor": 0.5, "k": 1, "experts": 1},
    {"policy": "top_p", "mass": 0.6, "experts": 7},
    {"policy": "top_p", "mass": 1.0},
    {"policy": "top_p", "k": 1},
    {"policy": "threshold", "threshold": 0.2, "k": 3},
    {"policy": "threshold", "threshold": 0.0},
    {"policy": "threshold", "experts": 1},
    {"policy": "expert_choice", "capacity_factor": 0.4, "temperature": 0.5},
    {"policy": "expert_choice", "capacity_factor": 9.0},
    {"policy": "expert_choice", "capacity_factor": 0.05, "k": 1},
    {"policy": "expert_choice", "capacity_factor": 0.5, "k": 1, "experts": 1},
]
"""Every policy, and its edges."""
configs = st.tuples(st.sampled_from(tuple(POLICIES)), st.integers(1, 9)).flatmap(lambda case: oracle.configs(*case))


def config_of(**changes: Any) -> SparseConfig:
    """Return a small sparse head's configuration."""
    config = head_config("sparse", **{"experts": 4, "features": 1, "classes": 2, **changes})
    assert isinstance(config, SparseConfig)
    return config


@settings(max_examples=150, deadline=None)
@given(configs, st.integers(0, 12), st.sampled_from([0.01, 0.04, 0.2]), st.integers(0, 10_000))
def test_no_error_within_the_bound_changes_what_is_decided(
    config: SparseConfig, rows: int, grid: float, seed: int
) -> None:
    generator = np.random.default_rng(seed)
    ranking = np.round(generator.normal(size=(rows, config.experts)) / 4 / grid) * grid
    result = config.decision(ranking, np.full(rows, ERROR))
    assert np.array_equal(result.selected, config.decision(ranking, np.zeros(rows)).selected)
    number = result.undecided.sum(axis=1)
    for _ in range(8):
        moved = ranking + generator.choice([-1, 1], size=ranking.shape) * generator.uniform(0, ERROR / 2)
        changed = config.decision(moved, np.zeros(rows)).selected ^ result.selected
        assert not changed[number == 0].any()
        assert not (changed & ~result.undecided)[number == 1].any()


@settings(max_examples=200, deadline=None)
@given(configs, st.integers(0, 12), st.integers(0, 10_000))
def test_who_serves_whom_is_what_the_oracle_says(config: SparseConfig, rows: int, seed: int) -> None:
    ranking = np.random.default_rng(seed).integers(-3, 4, size=(rows, config.experts)) / 2.0  # ties
    selected = config.decision(ranking, np.zeros(rows)).selected
    chosen = oracle.CHOICES[config.policy](ranking, config)
    expected = [set(chosen.get(n, [])) for n in range(rows)]
    if config.policy in ("top_p", "threshold"):  # sums and shares of equal scores may be exactly at the bound
        undecided = config.decision(ranking, np.zeros(rows)).undecided
        expected = [set(np.flatnonzero(result)) if open_.any() else want
                    for result, open_, want in zip(selected, undecided, expected, strict=True)]  # fmt: skip
    assert [set(np.flatnonzero(row)) for row in selected] == expected


@pytest.mark.parametrize("changes", CONFIGS, ids=str)
def test_float32_leaves_few_of_many_rows_undecided(changes: dict[str, Any]) -> None:
    config = config_of(**changes)
    ranking = np.random.default_rng(0).normal(size=(20_000, config.experts))
    undecided = config.decision(ranking, np.full(20_000, 0.0 if config.experts == 1 else 2e-5)).undecided
    assert (undecided.sum(axis=1) > 1).mean() < 0.003
    assert undecided.any(axis=1).mean() < 0.01


def test_equal_rows_may_take_each_others_places_and_are_held_to_either_outcome() -> None:
    config = config_of(policy="expert_choice", k=1, experts=2, capacity_factor=0.5)  # each expert takes a quarter
    ranking = np.repeat([[3.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.0, 3.0]], [1, 4, 1, 2], axis=0)
    undecided = config.decision(ranking, np.full(8, 1e-6)).undecided
    assert undecided.tolist() == [[False, False], *[[True, False]] * 4, *[[False, False]] * 3]


def test_one_close_row_opens_only_the_places_it_may_take() -> None:
    config = config_of(policy="capacity", k=1, experts=2, capacity_factor=1.0, weights_over="all")  # 4 places each
    ranking = np.array([[0.0, 0.0], *[[1.0, 0.0]] * 4, *[[0.0, 1.0]] * 3])
    undecided = config.decision(ranking, np.full(8, 1e-6)).undecided
    assert undecided[0].all()
    assert undecided[:, 0].tolist() == [True, False, False, False, True, False, False, False]
    assert not undecided[1:, 1].any()
