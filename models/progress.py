"""What a long operation tells its user: a bar while it runs on a terminal, and lines that stay."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import rich.progress
from rich.console import Console

T = TypeVar("T")


class Progress:
    """Reports to a rich console; where that is no terminal, only the lines appear."""

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
