"""Why a case gets no time: the one error of all measuring loops, and how other libraries' errors become it."""

from __future__ import annotations

from typing import Any

import torch

from bench.errors import UnavailableError, first_line, message
from reports.records.record import Status


class UnmeasurableError(Exception):
    """Why a case gets no time, as one sentence, and what is known of it all the same.

    `fields` are those of the case's record, `status` and `reason` among them.
    """

    def __init__(self, status: Status, reason: str, **fields: Any) -> None:
        super().__init__(reason)
        self.fields = {"status": status, "reason": reason, **fields}


def unmeasurable(error: Exception) -> UnmeasurableError:
    """Return what was raised as the reason: the form cannot run the head, the case did not fit, or it failed."""
    if isinstance(error, UnavailableError):
        return UnmeasurableError(Status.UNAVAILABLE, str(error))
    if isinstance(error, MemoryError | torch.OutOfMemoryError) or "can't allocate memory" in str(error):
        return UnmeasurableError(Status.SKIPPED, f"out of memory: {first_line(error)}")
    return UnmeasurableError(Status.FAILED, message(error))
