"""Names for the stages of a form, visible in traces and free while timing."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch

from reports.records.profile import Stage

STAGES: tuple[Stage, ...] = ("route", "dispatch", "experts", "combine", "fused")
OTHER: Stage = "other"
"""Everything else in a call."""
PREFIX = "moegap::"
"""In a trace a stage's name begins with this."""
CALL = PREFIX + "call"
"""The range of one whole call of a form in a trace."""

RANGES, OPERATORS = "user_annotation", "cpu_op"
"""Categories of events in a trace."""
PROVIDER = "provider"
"""Argument of a node's event: the part of an engine that ran the node."""

_named = False


def stage(name: str) -> AbstractContextManager[object]:
    """Return a context that names the work inside it while `named_stages` is on, and otherwise does nothing.

    Code traced by torch.compile has no stages, so that switching names on never recompiles it.
    """
    if torch.compiler.is_compiling() or not _named:
        return nullcontext()
    return torch.profiler.record_function(PREFIX + name)


@contextmanager
def named_stages() -> Iterator[None]:
    """Switch stage names on; only a profiling pass does so, because a name costs microseconds."""
    global _named
    _named = True
    try:
        yield
    finally:
        _named = False
