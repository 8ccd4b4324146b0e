"""`moegap account`: where the time of each measured case went, from result files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from bench.commands.shared import examples
from bench.errors import printable


@examples("moegap account runs/result.json", "moegap account runs/demo.json runs/batch.json --json runs/account.json")
def account(
    results: Annotated[list[Path], typer.Argument(help="Files that `moegap bench` wrote.")],
    to: Annotated[Path | None, typer.Option("--json", help="Also write every account into this file.")] = None,
) -> None:
    """Show the theoretical, attainable and realised speed-up of each head, and where each form's time went."""
    from reports.account import text as account_text
    from reports.account.account import as_json
    from reports.errors import ReportError
    from reports.reading.load import load
    from reports.records.files import writable, write
    from reports.speed.analysis import analyse

    if to is not None:
        writable(to)
    analysis = analyse(load(results))
    if to is not None:
        write(to, json.dumps(as_json(analysis), indent=1))
    lines = list(account_text.waterfalls(analysis))
    if not lines:
        raise ReportError("No soft or sparse head alone was measured beside a dense one: measure both to see the gap.")
    for line in lines:
        typer.echo(printable(line))
