"""What the reference holds undecided: all that an error of float32's size can change, and little else."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.config import head_config
from models.routing.policy import SparseConfig
from tests.bench import oracle
from tests.bench.forms.test_forms import POLICIES, POLICY_EDGES

ERROR = 0.05
"""Far more than float32's, so that random scores are close often enough to try."""


def config_of(**changes: Any) -> SparseConfig:
    """Return a small sparse head's configuration."""
    config = head_config("sparse", **{"experts": 4, "features": 1, "classes": 2, **changes})
    assert isinstance(config, SparseConfig)
    return config


@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_no_error_within_the_bound_changes_what_is_decided(data: st.DataObject) -> None:
    _, changes = data.draw(oracle.configurations().filter(lambda drawn: drawn[0] == "sparse"))
    config = config_of(**changes)
    generator = np.random.default_rng(data.draw(st.integers(0, 10_000)))
    rows, grid = data.draw(st.integers(0, 12)), data.draw(st.sampled_from([0.01, 0.04, 0.2]))
    ranking = np.round(generator.normal(size=(rows, config.experts)) / 4 / grid) * grid
    found = config.decision(ranking, np.full(rows, ERROR))
    assert np.array_equal(found.selected, config.decision(ranking, np.zeros(rows)).selected)
    number = found.undecided.sum(axis=1)
    for _ in range(20):
        moved = ranking + generator.choice([-1, 1], size=ranking.shape) * generator.uniform(0, ERROR / 2)
        changed = config.decision(moved, np.zeros(rows)).selected ^ found.selected
        assert not changed[number == 0].any()
        assert not (changed & ~found.undecided)[number == 1].any()


@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_who_serves_whom_is_what_the_policy_says(data: st.DataObject) -> None:
    _, changes = data.draw(oracle.configurations().filter(lambda drawn: drawn[0] == "sparse"))
    config = config_of(**changes)
    generator = np.random.default_rng(data.draw(st.integers(0, 10_000)))
    rows = data.draw(st.integers(0, 12))
    ranking = generator.integers(-3, 4, size=(rows, config.experts)) / 2.0  # ties
    selected = config.decision(ranking, np.zeros(rows)).selected
    expected = [set(row) for row in oracle.serving(config, ranking.tolist())]
    if changes["policy"] in ("top_p", "threshold"):  # sums and shares of equal scores may stand on the bound itself
        undecided = config.decision(ranking, np.zeros(rows)).undecided
        expected = [set(np.flatnonzero(found)) if open_.any() else want
                    for found, open_, want in zip(selected, undecided, expected, strict=True)]  # fmt: skip
    assert [set(np.flatnonzero(row)) for row in selected] == expected


@pytest.mark.parametrize(("kind", "changes"), [*POLICIES, *POLICY_EDGES], ids=str)
def test_float32_leaves_few_of_many_rows_undecided(kind: str, changes: dict[str, Any]) -> None:
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
