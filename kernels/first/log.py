"""The log of the first minutes: a JSON line for each result, written at once, each with what it was measured on."""

import json
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
import triton


@dataclass(frozen=True)
class Log:
    """Lines of one step, added to the file at `path` and shown.

    Every line holds step, time in UTC, device, its present clock in MHz (None if it does not say), and versions.
    """

    path: Path
    step: str
    device: torch.device

    def write(self, **values: Any) -> None:
        """Add a line."""
        line = {"step": self.step, "at": datetime.now(UTC).isoformat(timespec="seconds"), **values, **self._machine()}
        text = json.dumps(line)
        with self.path.open("a") as file:
            file.write(text + "\n")
        print(text, flush=True)  # noqa: T201 - the last lines are seen even if no file comes back

    def failed(self, error: BaseException, **values: Any) -> None:
        """Add a line on what did not run."""
        self.write(**values, failed=f"{type(error).__name__}: {error}"[:300])

    def _machine(self) -> dict[str, Any]:
        versions = {"torch": torch.__version__, "triton": triton.__version__}
        if self.device.type != "cuda":
            return {"device": str(self.device), "clock_mhz": None, **versions}
        clock = None
        with suppress(Exception):  # without NVML's package, or its permission
            clock = torch.cuda.clock_rate()
        return {"device": torch.cuda.get_device_name(self.device), "clock_mhz": clock, **versions}
