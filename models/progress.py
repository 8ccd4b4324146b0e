"""What a long operation tells its user: a bar while it runs on a terminal, and lines that stay."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import rich.progress
from rich.console import Console

T = TypeVar("T")


class Progress:
    """Reports to a rich console; if that is no terminal, only the lines appear."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console(highlight=False, soft_wrap=True)

    @contextmanager
    def track(self, items: Iterable[T], total: int, description: str) -> Iterator[Iterable[T]]:
        """Yield the items to iterate over, under a bar that disappears at the end or on an error."""
        hidden = not self.console.is_terminal
        with rich.progress.Progress(console=self.console, transient=True, disable=hidden) as bar:
            yield bar.track(items, total, description=description)

    def reach(self, done: int, total: int) -> None:
        """Note that `done` of the `total` epochs of a training lie behind; nothing is shown."""

    def say(self, line: str) -> None:
        """Print one line that stays."""
        self.console.print(line, markup=False)


SILENT = Progress(Console(quiet=True))


class StudyProgress(Progress):
    """Shows each training's own progress below that of all `runs` together."""

    def __init__(self, progress: Progress, runs: int) -> None:
        super().__init__(progress.console)
        self.runs, self.run = runs, 0
        self.share: float | None = None  # of the present training; unknown until it says so
        self.begun, self.found = time.monotonic(), 0.0  # when work began, and how many runs were done before

    def begin(self, name: str) -> None:
        """Note that the next training begins, and say so."""
        self.run, self.share = self.run + 1, None
        self.say(f"{self.headline()}: {name}")

    def reach(self, done: int, total: int) -> None:
        """Note how far the present training is; what it had done when it began took none of our time."""
        if self.share is None:
            self.found += done / total
        self.share = done / total

    @property
    def reached(self) -> float:
        """How many runs lie behind, with the present one's share."""
        return self.run - 1 + (self.share or 0.0)

    def headline(self) -> str:
        """Return which training runs and, once that can be told, how long all that are left will take."""
        words = f"run {self.run} of {self.runs}"
        if (worked := self.reached - self.found) <= 0:
            return words
        left = (time.monotonic() - self.begun) / worked * (self.runs - self.reached)
        return f"{words}, about {duration(left)} left"

    @contextmanager
    def track(self, items: Iterable[T], total: int, description: str) -> Iterator[Iterable[T]]:
        """Yield the items to iterate over, under two bars that disappear at the end or on an error."""
        hidden = not self.console.is_terminal
        with rich.progress.Progress(console=self.console, transient=True, disable=hidden) as bars:
            whole = bars.add_task(self.headline(), total=self.runs)
            bars.advance(whole, self.reached)
            yield bars.track(items, total, description=description)


def duration(seconds: float) -> str:
    """Return a time to wait in words, to the minute from two minutes on."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes:02} min" if hours else f"{minutes} min"
