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
"""Every stage appears in a trace as this prefix and its name."""
CALL = PREFIX + "call"
"""The range in a trace that holds one whole call of a form."""

RANGES, OPERATORS = "user_annotation", "cpu_op"
"""Categories of events in a trace."""
PROVIDER = "provider"
"""What of an engine ran a node, in the arguments of the node's event."""

_named = False


def stage(name: str) -> AbstractContextManager[object]:
    """Return a context that names what runs inside it while `named_stages` is on, and does nothing otherwise.

    Code that torch.compile traces has no stages, so that turning names on never recompiles it.
    """
    if torch.compiler.is_compiling() or not _named:
        return nullcontext()
    return torch.profiler.record_function(PREFIX + name)


@contextmanager
def named_stages() -> Iterator[None]:
    """Turn stage names on; only a profiling pass does, since a name costs microseconds."""
    global _named
    _named = True
    try:
        yield
    finally:
        _named = False
