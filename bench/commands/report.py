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
            help="Files that `bench`, `train`, `policies`, `sharpness`, `profile` or `targets` wrote, or folders of "
            "them, in any order; may be left out with --paper."
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
    from rich.console import Console
    from rich.progress import track

    from reports.output.export import FOLDER, export
    from reports.page import build

    made = build(results or [], out, paper=paper, base=base)
    for path in made.left_out:
        typer.echo(printable(f"left out, since it holds no result: {path}"))
    for line in made.headline:
        typer.echo(printable(line))
    written = [made.summary, made.markdown, made.index]
    if charts and made.pictures:
        console = Console(stderr=True)
        for _ in track(
            export(made.pictures, out), "drawing charts", len(made.pictures),
            console=console, transient=True, disable=not console.is_terminal,
        ):  # fmt: skip
            pass
        written.insert(0, out / FOLDER)
    for path in filter(None, written):
        typer.echo(path)
