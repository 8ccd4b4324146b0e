"""The heads by name: from settings to a configuration, and from a configuration to a module."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import PlainValidator, SerializeAsAny

from models.heads.dense import DenseConfig, DenseHead
from models.heads.soft import SoftConfig, SoftMoEHead
from models.heads.sparse import SparseMoEHead
from models.routing.policies import DEFAULT, POLICIES
from models.routing.policy import SparseConfig
from models.settings import check_choice

HeadKind = Literal["dense", "soft", "sparse"]
HEAD_KINDS: tuple[HeadKind, ...] = ("dense", "soft", "sparse")
HeadConfig = DenseConfig | SoftConfig | SparseConfig
Head = DenseHead | SoftMoEHead | SparseMoEHead


def config_type(kind: str, policy: str | None = None) -> type[HeadConfig]:
    """Return the class of a head's configuration. Raises `ConfigError` for an unknown kind or policy."""
    check_choice("head", kind, HEAD_KINDS)
    if kind == "dense":
        return DenseConfig
    if kind == "soft":
        return SoftConfig
    check_choice("policy", policy or DEFAULT, POLICIES)
    return POLICIES[policy or DEFAULT]


def read_head(data: Any) -> HeadConfig:
    """Return the configuration that a mapping describes. Raises `ValueError` or `ConfigError` for a bad one."""
    if isinstance(data, HeadConfig):
        return data
    if not isinstance(data, dict):
        raise ValueError("a head is described by its kind and settings")  # noqa: TRY004  (pydantic reports no other)
    return config_type(str(data.get("kind")), data.get("policy")).model_validate(data)


AnyHead = Annotated[SerializeAsAny[HeadConfig], PlainValidator(read_head)]
"""A head as a field of another configuration, read and written with the settings of its kind and policy."""


def settings_of(kind: str) -> set[str]:
    """Return the names of the settings that heads of this kind have, under any policy."""
    types = POLICIES.values() if kind == "sparse" else [config_type(kind)]
    return {name for each in types for name in each.model_fields} - {"kind"}


def equal_capacity(head: HeadConfig) -> DenseConfig:
    """Return the dense head with hidden width E x H: as many expert weights, in one block."""
    return DenseConfig(
        features=head.features,
        hidden=head.experts * head.hidden,
        classes=head.classes,
        activation=head.activation,
        dropout=head.dropout,
    )


def build_head(config: HeadConfig) -> Head:
    """Return a freshly initialised head; torch's global generator draws its parameters."""
    match config:
        case DenseConfig():
            return DenseHead(config)
        case SoftConfig():
            return SoftMoEHead(config)
        case SparseConfig():
            return SparseMoEHead(config)
