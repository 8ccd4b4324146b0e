"""What the user of a long operation sees: a bar while it runs on a terminal, and lines that stay."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import rich.progress
from rich.console import Console

T = TypeVar("T")


class Progress:
    """Reports to a rich console; only the lines appear if it is no terminal."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console(highlight=False, soft_wrap=True)

    @contextmanager
    def track(self, items: Iterable[T], total: int, description: str) -> Iterator[Iterable[T]]:
        """Yield the items to iterate over, under a bar that disappears at the end or on an error."""
        hidden = not self.console.is_terminal
        with rich.progress.Progress(console=self.console, transient=True, disable=hidden) as bar:
            yield bar.track(items, total, description=description)

    def reach(self, done: int, total: int) -> None:
        """Note that a training has done `done` of its `total` epochs; shows nothing."""

    def say(self, line: str) -> None:
        """Print one line that stays."""
        self.console.print(line, markup=False)


SILENT = Progress(Console(quiet=True))


class StudyProgress(Progress):
    """Shows the progress of the current training below that of all `runs` trainings."""

    def __init__(self, progress: Progress, runs: int) -> None:
        super().__init__(progress.console)
        self.runs, self.run = runs, 0
        self.share: float | None = None  # of the current training that is done; unknown until it says so
        self.began = time.monotonic()
        self.resumed = 0.0  # runs' worth of work that an earlier call had done

    def begin(self, name: str) -> None:
        """Note and print that the next training begins."""
        self.run, self.share = self.run + 1, None
        self.say(f"{self.headline()}: {name}")

    def reach(self, done: int, total: int) -> None:
        """Note how far the current training is; what its first call here reports was done by an earlier call."""
        if self.share is None:
            self.resumed += done / total
        self.share = done / total

    @property
    def reached(self) -> float:
        """How many runs are done, counting the done share of the current one."""
        return self.run - 1 + (self.share or 0.0)

    def headline(self) -> str:
        """Return which training runs and, once that can be estimated, how long the rest will take."""
        words = f"run {self.run} of {self.runs}"
        if (worked := self.reached - self.resumed) <= 0:
            return words
        left = (time.monotonic() - self.began) / worked * (self.runs - self.reached)
        return f"{words}, about {duration(left)} left"

    @contextmanager
    def track(self, items: Iterable[T], total: int, description: str) -> Iterator[Iterable[T]]:
        """Yield the items to iterate over, under a bar for all runs and one for these items."""
        hidden = not self.console.is_terminal
        with rich.progress.Progress(console=self.console, transient=True, disable=hidden) as bars:
            whole = bars.add_task(self.headline(), total=self.runs)
            bars.advance(whole, self.reached)
            yield bars.track(items, total, description=description)


def duration(seconds: float) -> str:
    """Return a duration in words: in seconds below two minutes, else in minutes."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes:02} min" if hours else f"{minutes} min"
