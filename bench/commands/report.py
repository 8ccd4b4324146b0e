"""`moegap report`: result and study files in, one page and its Markdown out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bench.errors import printable

OUT = Path("runs/report")


def report(
    results: Annotated[
        list[Path] | None,
        typer.Argument(
            help="Files written by `bench`, `train`, `policies` and `sharpness`, in any order; may be left out with "
            "--paper."
        ),
    ] = None,
    paper: Annotated[
        bool, typer.Option("--paper", help="Put each number that arXiv 2601.15021 published beside ours.")
    ] = False,
    out: Annotated[Path, typer.Option(help="Folder for index.html and report.md.")] = OUT,
) -> None:
    """Build the report of one or more result or study files; needs neither a GPU nor torch."""
    from reports.page import build

    made = build(results or [], out, paper=paper)
    typer.echo(f"{made.index}\n{made.markdown}")
    for line in made.headline:
        typer.echo(printable(line))
