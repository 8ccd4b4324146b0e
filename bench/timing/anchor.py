"""The anchor: work that never changes, timed between the other calls. If its time moves, the machine has changed.

Letters: N rows, D width.
"""

from __future__ import annotations

import statistics

import torch

from bench.timing.clock import timed
from reports.records.record import ClockName

SIZES = {"cpu": (512, 256), "cuda": (2048, 2048)}
"""(N, D) with which the work takes a few tenths of a millisecond, on two cores or on a GPU."""
WARM_UP_CALLS = 5
TIMINGS = 3
"""Timings whose median is one `time`: a drift moves all of them, an interruption only one."""


class Anchor:
    """A product and an elementwise pass in float32, warmed up; a CPU splits them over its threads, as in the forms."""

    def __init__(self, device: torch.device) -> None:
        N, D = SIZES[device.type]
        self._device = device
        self._clock: ClockName = "device" if device.type == "cuda" else "wall"
        draw = torch.Generator(device).manual_seed(0)
        self._x = torch.randn(N, D, device=device, generator=draw)
        self._w = torch.randn(D, D, device=device, generator=draw)
        self._y = torch.empty_like(self._x)  # (N, D)
        for _ in range(WARM_UP_CALLS):
            timed(self._work, self._clock, device)

    def time(self) -> float:
        """Return the seconds of the work, by the wall clock on a CPU and between events on a GPU.

        An untimed call comes first, because other calls have used the caches since.
        """
        self._work()
        return statistics.median(timed(self._work, self._clock, self._device) for _ in range(TIMINGS))

    def _work(self) -> None:
        with torch.inference_mode():
            torch.mm(self._x, self._w, out=self._y)
            torch.sigmoid(self._y, out=self._y)
