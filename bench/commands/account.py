"""`moegap account`: where the time of each measured case went, from result files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from bench.errors import printable


def account(
    results: Annotated[list[Path], typer.Argument(help="Files written by `bench`.")],
    to: Annotated[Path | None, typer.Option("--json", help="Write every account into this file too.")] = None,
) -> None:
    """Say of each head the theoretical, attainable and realised speed-up, and where the time of each form went."""
    from reports.account import text as account_text
    from reports.account.account import as_json
    from reports.errors import ReportError
    from reports.reading.files import write
    from reports.reading.load import load
    from reports.speed.analysis import analyse

    analysis = analyse(load(results))
    if to is not None:
        write(to, json.dumps(as_json(analysis), indent=1))
    told = list(account_text.waterfalls(analysis))
    if not told:
        raise ReportError("No soft or sparse head alone was measured beside a dense one: measure both to see the gap.")
    for line in told:
        typer.echo(printable(line))
