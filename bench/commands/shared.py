"""What all commands share: options, examples, the recorded command line, the progress bar, tables, and Ctrl-C."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, TypeVar

import rich.progress
import typer
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from bench import early
from bench.errors import printable
from reports.output import blocks

INTERRUPTED = 130
"""The exit status after Ctrl-C, as shells have it."""
LOG_WIDTH = 140
"""Columns if the output is not a terminal, so that most names in a log stay in one piece."""

Command = TypeVar("Command", bound=Callable[..., None])

CheckpointArgument = Annotated[
    Path, typer.Argument(help="Folder of a trained model.", callback=early.checked_checkpoint)
]
DeviceOption = Annotated[str, typer.Option(help="auto, cpu or cuda.", callback=early.one_of("device", early.DEVICES))]
DtypeOption = Annotated[
    str, typer.Option(help="float32, float16 or bfloat16.", callback=early.one_of("dtype", early.DTYPES))
]
DtypesOption = Annotated[
    list[str] | None,
    typer.Option(
        help="float32, float16 or bfloat16; may be repeated. By default float32.",
        callback=early.one_of("dtype", early.DTYPES),
    ),
]
FormsOption = Annotated[
    list[str] | None,
    typer.Option(
        help="A form; may be repeated; `moegap doctor` lists them. By default the suite's forms; peers, "
        "anchors and weights in 8 or 4 bits (triton_fp8_blocks, triton_mxfp4) only by name.",
        callback=early.checked_forms,
    ),
]
ThreadsOption = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="Threads on a CPU. By default one for each core that torch finds.",
        callback=early.checked_threads,
    ),
]
MinutesOption = Annotated[
    float | None, typer.Option(min=0.1, help="No new shape begins after this time; --resume measures the rest.")
]
ResumeOption = Annotated[bool, typer.Option("--resume", help="Continue OUT: measure only what it lacks.")]
ResultOption = Annotated[Path, typer.Option(help="The result, a pytest-benchmark JSON file.")]
DataOption = Annotated[
    str,
    typer.Option(
        help="digits, cifar10 (downloaded), or a folder with train/CLASS/ and test/CLASS/ inside. A + between names "
        "mixes several data sets, each of which is a domain."
    ),
]
EpochsOption = Annotated[int | None, typer.Option(help="Passes over the training images.")]
LearningRateOption = Annotated[
    float | None, typer.Option(help="Highest learning rate; for the preset fast that of Muon.")
]
SeedOption = Annotated[int, typer.Option(help="Decides the input rows and the order within blocks.")]

_examples: dict[Callable[..., None], tuple[str, ...]] = {}


def examples(*lines: str) -> Callable[[Command], Command]:
    """Give a command the example lines that end its `--help`."""

    def keep(command: Command) -> Command:
        _examples[command] = lines
        return command

    return keep


def epilog(command: Callable[..., None]) -> str:
    """Return the end of a command's `--help`: its examples, one a line."""
    return "\n".join(["Examples:", *_examples[command]])


def description(command: Callable[..., None]) -> str:
    """Return the first part of `--help`: the docstring, its paragraphs without line breaks."""
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in (command.__doc__ or "").split("\n\n"))


def command_line(*, without: str = "") -> str:
    """Return the command line as a result records it, `without` one option."""
    return shlex.join(["moegap", *(word for word in sys.argv[1:] if word != without)])


def present(options: dict[str, Any]) -> dict[str, Any]:
    """Return only the options that have a value."""
    return {name: value for name, value in options.items() if value is not None}


def set_threads(threads: int | None) -> None:
    """Let torch use so many CPU threads; None changes nothing."""
    if threads is not None:
        import torch

        torch.set_num_threads(threads)


@contextmanager
def on_interrupt(sentence: Callable[[], str]) -> Iterator[None]:
    """On Ctrl-C say what is kept and how to continue, and end with status 130."""
    try:
        yield
    except KeyboardInterrupt:
        typer.echo(f"stopped: {printable(sentence())}", err=True)
        raise typer.Exit(INTERRUPTED) from None


def progress_bar() -> rich.progress.Progress:
    """Return a progress bar that vanishes when it is done."""
    return rich.progress.Progress(
        rich.progress.TextColumn("{task.description}"),
        rich.progress.BarColumn(),
        rich.progress.TaskProgressColumn(),
        rich.progress.TimeElapsedColumn(),
        rich.progress.TimeRemainingColumn(),
        console=Console(highlight=False),
        transient=True,
    )


class _Terminal(Console):
    """A console whose reader may leave: `| head -1` closes the pipe, and the command goes on to its own status."""

    def on_broken_pipe(self) -> None:
        """Write no more."""
        self.quiet = True
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def several_values(words: Sequence[str], options: Collection[str]) -> list[str]:
    """Return a command line on which each value of `options` follows its option: --base A B as --base A --base B."""
    spread: list[str] = []
    option = ""
    for word in words:
        if word.startswith("-"):
            name, equals, _ = word.partition("=")
            option = name if name in options else ""
            spread += [word] if equals or not option else []
        else:
            spread += [option, word] if option else [word]
    return spread


def terminal() -> Console:
    """Return the console for text and tables: it has no markup, and a log is wide."""
    return _Terminal(highlight=False, markup=False, emoji=False, width=None if sys.stdout.isatty() else LOG_WIDTH)


def print_table(console: Console, table: blocks.Table, note: str = "", *, gap: int = 1, ruled: bool = False) -> None:
    """Print a table with its caption above and a note below.

    `gap` is the space between columns. If `ruled`, a line separates rows whose first cells differ. Cells are plain
    text: markup and control sequences have no effect, only line breaks do.
    """
    drawn = Table(
        title=_text(table.caption) if table.caption else None,
        caption=_text(note) if note else None,
        title_justify="left",
        caption_justify="left",
        box=box.SIMPLE_HEAD,
        padding=(0, gap, 0, 0),
        show_edge=False,
    )
    for column in table.columns:
        drawn.add_column(
            _text(column.title), justify="right" if column.numeric else "left", no_wrap=column.numeric, overflow="fold"
        )
    previous = None
    for row in table.rows:
        if ruled and previous not in (None, row[0]):
            drawn.add_section()
        drawn.add_row(*map(_text, row))
        previous = row[0]
    console.print(drawn)


def columns(*texts: str, numbers: Sequence[str] = ()) -> tuple[blocks.Column, ...]:
    """Return columns of text, then columns of numbers."""
    return (*(blocks.Column(title, numeric=False) for title in texts), *(blocks.Column(title) for title in numbers))


def _text(words: str) -> Text:
    return Text("\n".join(map(printable, words.split("\n"))))
