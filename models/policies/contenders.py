"""What a policy study compares: routing policies at equal parameter count, and the dense and soft head.

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
"""The heads without a policy, which stand at the end of a table."""
ALL = (*POLICIES, *BESIDE)
EQUAL_WITHIN = 0.01
"""Parameter counts count as equal if they differ by at most this share."""


@dataclass(frozen=True)
class Contender:
    """A head under one policy; `label` is the name of the policy, then a colon and the settings asked for.

    `changes` are the fields that differ from the head preset.
    """

    label: str
    head: HeadKind
    changes: dict[str, Any] = field(default_factory=dict)

    def folder(self, seed: int) -> str:
        """Return the name of the folder of a training: `top_p:mass=0.6` with seed 0 becomes `top_p-mass-0.6-seed0`."""
        return f"{self.label.translate(str.maketrans(':=,', '---'))}-seed{seed}"

    def config(self, features: int, classes: int) -> HeadConfig:
        """Return the head for D = `features` and C = `classes`."""
        return head_config(self.head, features=features, classes=classes, **self.changes)


def rank(label: str) -> tuple[int, str]:
    """Return the key that sorts contenders: in the order of `ALL`, and without settings first."""
    return ALL.index(label.partition(":")[0]), label


def contenders(specs: Sequence[str], shared: dict[str, Any]) -> list[Contender]:
    """Return the contenders that `specs` name (by default all), each once, in the order of `ALL`.

    A spec is `dense`, `soft`, or a policy and optional settings: `top_p:mass=0.6,temperature=2`. `shared` are settings
    of every head: `experts`, `hidden` and `k`; the policies for which k is only a limit ignore `k`. Raises
    `ConfigError` for an unknown name or setting, or a bad value.
    """
    by_label = {one.label: one for one in (_contender(spec, shared) for spec in specs or ALL)}
    return [by_label[label] for label in sorted(by_label, key=rank)]


def _contender(spec: str, shared: dict[str, Any]) -> Contender:
    name, colon, settings = spec.partition(":")
    check_choice("policy", name, ALL)
    sizes = {key: value for key, value in shared.items() if key != "k"}
    if name in BESIDE:
        if colon:
            raise ConfigError(f"policy {spec!r}: the {name} head has no policy and takes no settings here")
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
    """Return the settings in `name=value,name=value`; a value is JSON, or else text."""
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
    """Return the parameters of each contender's head; raise `ConfigError` if those of policies differ too much."""
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
