"""What a long operation tells its user: a bar while it runs on a terminal, and lines that stay."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TypeVar

from rich.console import Console
from rich.progress import track

T = TypeVar("T")


class Progress:
    """Reports to a rich console; where that is no terminal, only the lines appear."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console(highlight=False, soft_wrap=True)

    def track(self, items: Iterable[T], total: int, description: str) -> Iterator[T]:
        """Yield the items under a bar that disappears at the end."""
        hidden = not self.console.is_terminal
        yield from track(items, description, total, console=self.console, transient=True, disable=hidden)

    def say(self, line: str) -> None:
        """Print one line that stays."""
        self.console.print(line, markup=False)


SILENT = Progress(Console(quiet=True))
