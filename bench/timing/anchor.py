"""The anchor: a piece of work that never changes, timed between the others. What moves its time is the machine.

Letters: N rows, D width.
"""

from __future__ import annotations

import statistics

import torch

from bench.timing.clock import timed
from reports.records.record import ClockName

SIZES = {"cpu": (512, 256), "cuda": (2048, 2048)}
"""(N, D) for which a product and an elementwise pass take a few tenths of a millisecond, on two cores or on a GPU."""
WARM_UP_CALLS = 5
TIMINGS = 3
"""Timings of which one `time` is the median: drift is slower than they are, an interruption hits one of them."""


class Anchor:
    """A product and an elementwise pass on float32, on a CPU split over its threads as in the forms.

    Warmed up when it is made.
    """

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
        """Return the seconds of the work: a wall clock's on a CPU, between events on a GPU.

        An untimed call comes first, since others have used the caches meanwhile.
        """
        self._work()
        return statistics.median(timed(self._work, self._clock, self._device) for _ in range(TIMINGS))

    def _work(self) -> None:
        with torch.inference_mode():
            torch.mm(self._x, self._w, out=self._y)
            torch.sigmoid(self._y, out=self._y)
