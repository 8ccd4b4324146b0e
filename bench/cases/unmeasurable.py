"""Why a case gets no time: one error for all reasons, other libraries' errors among them."""

from __future__ import annotations

from typing import Any

import torch

from bench.errors import UnavailableError, first_line, message
from reports.records.record import Status


class UnmeasurableError(Exception):
    """Why a case gets no time, in one sentence; `fields` go into its record, `status` and `reason` too."""

    def __init__(self, status: Status, reason: str, **fields: Any) -> None:
        super().__init__(reason)
        self.fields = {"status": status, "reason": reason, **fields}


def unmeasurable(error: Exception) -> UnmeasurableError:
    """Return the reason behind an error: the form cannot run the head, memory was short, or the form failed."""
    if isinstance(error, UnavailableError):
        return UnmeasurableError(Status.UNAVAILABLE, str(error))
    if isinstance(error, MemoryError | torch.OutOfMemoryError) or "can't allocate memory" in str(error):
        return UnmeasurableError(Status.SKIPPED, f"out of memory: {first_line(error)}")
    return UnmeasurableError(Status.FAILED, message(error))
