"""`moegap report`: result files in, one page and its Markdown out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

OUT = Path("runs/report")


def report(
    results: Annotated[list[Path], typer.Argument(help="Result files written by benchmark runs.")],
    out: Annotated[Path, typer.Option(help="Folder for index.html and report.md.")] = OUT,
) -> None:
    """Build the report of one or more result files; needs neither a GPU nor torch."""
    from reports.page import build

    made = build(results, out)
    typer.echo(f"{made.index}\n{made.markdown}")
    for line in made.headline:
        typer.echo(line)
