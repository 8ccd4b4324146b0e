"""What a policy study compares: routing policies at equal parameter count, and the dense and soft head beside them.

Letters: H hidden width of one expert, E experts, k experts per row.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from models.config import head_config
from models.heads.cost import parameters
from models.heads.heads import HeadConfig, HeadKind, equal_capacity, settings_of
from models.routing.policies import POLICIES
from models.settings import ConfigError, check_choice

BESIDE: tuple[HeadKind, ...] = ("dense", "soft")
"""The heads without a policy, at the end of a table."""
ALL = (*POLICIES, *BESIDE)
EQUAL_WITHIN = 0.01
"""Parameter counts that differ by no more than this share count as equal."""


@dataclass(frozen=True)
class Contender:
    """A head under one policy with its settings; `label` is the policy's name, then a colon and what was set.

    `changes` are those of a head preset.
    """

    label: str
    head: HeadKind
    changes: dict[str, Any] = field(default_factory=dict)

    @property
    def folder(self) -> str:
        """The label as a part of a folder's name: `top_p:mass=0.6` becomes `top_p-mass-0.6`."""
        return self.label.translate(str.maketrans(":=,", "---"))

    def config(self, features: int, classes: int) -> HeadConfig:
        """Return the head for D = `features` and C = `classes`."""
        return head_config(self.head, features=features, classes=classes, **self.changes)


def rank(label: str) -> tuple[int, str]:
    """Return a contender's place in a table: in the order of `ALL`, the plain one before those with settings."""
    return ALL.index(label.partition(":")[0]), label


def contenders(specs: Sequence[str], shared: dict[str, Any]) -> list[Contender]:
    """Return the contenders that `specs` name, each once, or all; in the order of `ALL`.

    A spec is `dense`, `soft` or a policy, which settings may follow: `top_p:mass=0.6,temperature=2`. `shared` are
    changes of every head: `experts`, `hidden`, and `k`, which does not touch a policy for which k is only a limit.
    Raises `ConfigError` for an unknown name or setting, or a bad value.
    """
    found = [_contender(spec, shared) for spec in (specs or ALL)]
    return sorted({one.label: one for one in found}.values(), key=lambda one: rank(one.label))


def _contender(spec: str, shared: dict[str, Any]) -> Contender:
    name, colon, settings = spec.partition(":")
    check_choice("policy", name, ALL)
    sizes = {key: value for key, value in shared.items() if key != "k"}
    if name in BESIDE:
        if colon:
            raise ConfigError(f"policy {spec!r}: the {name} head stands beside the policies and takes no settings here")
        if name == "soft":
            return Contender(name, "soft", sizes)
        dense = equal_capacity(head_config("soft", **sizes))
        same = {"hidden": dense.hidden, "activation": dense.activation, "dropout": dense.dropout}
        return Contender(name, "dense", same)
    common = {"policy": name, **(sizes if POLICIES[name].k_is == "limit" else shared)}
    asked = _settings(spec, settings) if colon else {}
    config = head_config("sparse", **{**common, **asked})
    values = {key: getattr(config, key) for key in asked}
    label = name + (":" + ",".join(f"{key}={value}" for key, value in values.items()) if values else "")
    return Contender(label, "sparse", {**common, **values})


def _settings(spec: str, settings: str) -> dict[str, Any]:
    """Return the settings in `name=value,name=value`: values as JSON writes them, or else text."""
    pairs = [setting.partition("=") for setting in settings.split(",")]
    names = [name.strip() for name, _, _ in pairs]
    if not all(name and value for name, _, value in pairs) or len(set(names)) < len(names):
        raise ConfigError(f"policy {spec!r} is not written as NAME:SETTING=VALUE,SETTING=VALUE with each setting once")
    known = settings_of("sparse") - {"policy", "features", "classes"}
    for name in names:
        check_choice(f"setting in policy {spec!r}:", name, sorted(known))
    return {name: _value(text.strip()) for name, (_, _, text) in zip(names, pairs, strict=True)}


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def equal_parameters(contenders: Sequence[Contender], features: int, classes: int) -> dict[str, int]:
    """Return the parameters of each contender's head; raises `ConfigError` if those of policies differ too much."""
    counts = {one.label: parameters(one.config(features, classes)) for one in contenders}
    sparse = {one.label: counts[one.label] for one in contenders if one.head == "sparse"}
    if sparse:
        fewest, most = min(sparse, key=sparse.__getitem__), max(sparse, key=sparse.__getitem__)
        if sparse[most] > (1 + EQUAL_WITHIN) * sparse[fewest]:
            raise ConfigError(
                f"{most} has {sparse[most]:,} parameters and {fewest} {sparse[fewest]:,}, more than "
                f"{EQUAL_WITHIN:.0%} apart; a comparison at equal parameters needs the same experts and hidden width"
            )
    return counts
