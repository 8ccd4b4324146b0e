"""The blocks of one kind within a section, however deep they stand."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, TypeVar

T = TypeVar("T")


def within(shown: Any, kind: type[T]) -> list[T]:
    """Return the blocks of a `kind` in a section or in some blocks, in their order."""
    blocks: Iterable[Any] = shown if isinstance(shown, list | tuple) else getattr(shown, "blocks", ())
    found: list[T] = []
    for block in blocks:
        found += [block] if isinstance(block, kind) else []
        found += within(block, kind) if hasattr(block, "blocks") else []
    return found
