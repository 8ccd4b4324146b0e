"""The recipes of a study: the same for every head and seed but for what a head alone has."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from models.config import ConfigError, head_config
from models.training.balance import refusal
from models.training.recipes import TrainConfig, train_config


def study_configs(
    data: str,
    heads: Sequence[str],
    seeds: Sequence[int],
    preset: str | None = None,
    *,
    head_changes: dict[str, Any] | None = None,
    balance: dict[str, float] | None = None,
    **changes: Any,
) -> list[TrainConfig]:
    """Return the recipes of all runs, seed by seed.

    Of `head_changes` and `balance` each head takes what it has. Beside other heads the dense one is as wide as all
    their experts together, so that capacities stay equal. Raises `ConfigError` for a bad value, and for a setting
    that none of the heads has.
    """
    head_changes, balance = head_changes or {}, balance or {}
    settings = {head: _settings(head, heads, head_changes) for head in heads}
    terms = {head: _terms(head, settings[head], balance) for head in heads}
    for asked, taken in ((head_changes, settings), (balance, terms)):
        for name in asked:
            if not any(name in own for own in taken.values()):
                raise ConfigError(f"none of the heads {', '.join(heads)} has a setting {name!r}; leave it out")
    return [
        train_config(data, head, preset, seed=seed, head_changes=settings[head], balance=terms[head], **changes)
        for seed in seeds
        for head in heads
    ]


def _settings(head: str, heads: Sequence[str], changes: dict[str, Any]) -> dict[str, Any]:
    """Return the changes that `head` can have, among `heads`."""
    own = {name: value for name, value in changes.items() if name in type(head_config(head)).model_fields}
    sizes = {name: changes[name] for name in ("experts", "hidden") if name in changes}
    if head == "dense" and set(heads) != {"dense"} and sizes:
        moe = head_config("soft", **sizes).model_dump()
        own["hidden"] = moe["experts"] * moe["hidden"]
    return own


def _terms(head: str, settings: dict[str, Any], balance: dict[str, float]) -> dict[str, float]:
    """Return the balance terms that a head with these settings can have; one that no head knows is kept, to be told."""
    config = head_config(head, **settings)
    return {term: weight for term, weight in balance.items() if refusal(term, config) is None}
