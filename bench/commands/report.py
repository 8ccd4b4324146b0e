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
            help="Files written by `bench`, `train`, `policies`, `sharpness` and `profile`, in any order; may be left "
            "out with --paper."
        ),
    ] = None,
    paper: Annotated[
        bool, typer.Option("--paper", help="Put each number that arXiv 2601.15021 published beside ours.")
    ] = False,
    base: Annotated[
        Path | None, typer.Option(help="The result of a run before: adds what changed since, as `compare` does.")
    ] = None,
    charts: Annotated[bool, typer.Option(help="Write every chart as SVG and PNG too.")] = True,
    out: Annotated[Path, typer.Option(help="Folder for index.html, report.md, summary.csv and charts/.")] = OUT,
) -> None:
    """Build the report of one or more result or study files; needs neither a GPU nor torch."""
    from reports.page import build

    made = build(results or [], out, paper=paper, base=base, charts=charts)
    for path in filter(None, (made.index, made.markdown, made.summary)):
        typer.echo(path)
    if made.charts:
        typer.echo(f"{made.charts[0].parent} ({len(made.charts)} charts, each as SVG and PNG)")
    for line in made.headline:
        typer.echo(printable(line))
