"""The command line.

`moegap doctor | train | infer | bench | profile | report | account | targets | policies | sharpness`.
"""

from __future__ import annotations

import os
import sys
from typing import NoReturn

import typer

from bench.commands.account import account
from bench.commands.bench import bench
from bench.commands.doctor import doctor
from bench.commands.infer import infer
from bench.commands.policies import policies
from bench.commands.profile import profile
from bench.commands.report import report
from bench.commands.sharpness import sharpness
from bench.commands.targets import targets
from bench.commands.train import train
from bench.errors import BenchError, printable, told
from bench.rooms import check_rooms
from models.errors import ModelError
from reports.errors import ReportError

app = typer.Typer(
    name="moegap",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="How much of a Mixture-of-Experts layer's FLOP saving reaches your machine, and where the rest went.\n\n"
    "Start with `moegap doctor`. Then measure the trained heads that come with the code, and build the report:\n\n"
    "moegap bench --suite demo --out runs/result.json\n\n"
    "moegap report runs/result.json --out runs/report",
)
for command in (doctor, train, infer, bench, profile, report, account, targets, policies, sharpness):
    app.command()(command)

FAILED = 1


def main() -> NoReturn:
    """Run the command line; bad input ends it with one sentence and a non-zero status."""
    try:
        check_rooms()
        status = app(standalone_mode=False)
    except (BenchError, ModelError, ReportError) as error:
        _fail(str(error), FAILED)
    except OSError as error:
        _fail(f"{error.filename or 'a file'}: {error.strerror or error}", FAILED)
    except Exception as error:
        if hasattr(error, "format_message"):
            _fail(error.format_message(), getattr(error, "exit_code", 2))
        if os.environ.get("MOEGAP_DEBUG"):
            raise
        _fail(f"{told(error)} (unexpected; MOEGAP_DEBUG=1 shows where)", FAILED)
    sys.exit(status)


def _fail(sentence: str, status: int) -> NoReturn:
    typer.echo(f"moegap: {printable(sentence)}", err=True)
    sys.exit(status)


if __name__ == "__main__":
    main()
