"""`moegap report`: result and study files in, one page and its Markdown out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bench.commands.shared import examples, on_interrupt
from bench.errors import printable

OUT = Path("runs/report")


@examples(
    "moegap report runs/result.json",
    "moegap report runs/result.json runs/profile runs/study --out runs/report",
    "moegap report new.json --base old.json --no-charts",
    "moegap report runs/study/study.json --paper",
)
def report(
    results: Annotated[
        list[Path] | None,
        typer.Argument(
            help="Files that other commands wrote, or folders of them, in any order: results, studies, profiles, "
            "self-tests, targets. With --paper none are needed."
        ),
    ] = None,
    paper: Annotated[
        bool, typer.Option("--paper", help="Show the numbers that arXiv 2601.15021 published beside ours.")
    ] = False,
    base: Annotated[
        Path | None,
        typer.Option(help="An earlier result: the report then also shows what changed, as `moegap compare` does."),
    ] = None,
    charts: Annotated[bool, typer.Option(help="Also write every chart as SVG and PNG.")] = True,
    out: Annotated[Path, typer.Option(help="Folder for index.html, report.md, summary.csv and charts/.")] = OUT,
) -> None:
    """Build a report of result and study files: one page, its Markdown and its charts. Needs no GPU and no torch."""
    with on_interrupt(lambda: f"{out} may hold an earlier report; run the same command again"):
        _build(results or [], out, paper, base, charts)


def _build(results: list[Path], out: Path, paper: bool, base: Path | None, charts: bool) -> None:
    from rich.console import Console
    from rich.progress import track

    from reports.output.export import FOLDER, export
    from reports.page import build

    made = build(results, out, paper=paper, base=base)
    for path in made.left_out:
        typer.echo(printable(f"left out because it holds no result: {path}"))
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
