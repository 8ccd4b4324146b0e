"""A timer for pytest-benchmark that reads back samples taken earlier."""

from __future__ import annotations

from collections.abc import Iterator


class Replay:
    """A timer whose time passes only when a sample is replayed."""

    def __init__(self) -> None:
        self.now = 0.0
        self._samples: Iterator[float] = iter(())

    def load(self, samples: tuple[float, ...]) -> None:
        """Set the seconds that each of the next calls of `step` takes."""
        self._samples = iter(samples)

    def step(self) -> None:
        """Let one sample's time pass; none after the last, as when cProfile calls once more."""
        self.now += next(self._samples, 0.0)

    def __call__(self) -> float:
        """Return the present time."""
        return self.now


REPLAY = Replay()
