"""The command line: `moegap COMMAND`, each command in a file of `bench/commands`."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, NoReturn

import typer
from pydantic import ValidationError

from bench.commands.account import account
from bench.commands.bench import bench
from bench.commands.compare import SIDES, compare
from bench.commands.doctor import doctor
from bench.commands.infer import infer
from bench.commands.map import break_even_map
from bench.commands.policies import policies
from bench.commands.profile import profile
from bench.commands.report import report
from bench.commands.self_test import self_test
from bench.commands.shared import INTERRUPTED, description, epilog, several_values
from bench.commands.sharpness import sharpness
from bench.commands.targets import targets
from bench.commands.traces import traces
from bench.commands.train import train
from bench.errors import BenchError, message, printable, unwritable
from bench.rooms import check_rooms
from models.errors import ModelError
from reports.errors import ReportError

COMMANDS: dict[str, Callable[..., None]] = {
    "doctor": doctor,
    "bench": bench,
    "map": break_even_map,
    "account": account,
    "report": report,
    "compare": compare,
    "profile": profile,
    "traces": traces,
    "self-test": self_test,
    "targets": targets,
    "train": train,
    "infer": infer,
    "policies": policies,
    "sharpness": sharpness,
}
"""In the order of `moegap --help`: measure, read, look closer, train."""

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
for name, command in COMMANDS.items():
    app.command(name, help=description(command), epilog=epilog(command))(command)

FAILED = 1
TROUBLE = 2  # of `compare`, as of `diff`: 1 is for a gate that found something
NO_MEMORY = "there is not enough memory for this; free some, or ask for fewer rows, a smaller model or a smaller file"
LONGEST = 2_000
"""Characters of a sentence on the terminal, since it may quote what a file holds."""


def main() -> NoReturn:
    """Run the command line; bad input ends it with one sentence and a non-zero status."""
    comparing = sys.argv[1:2] == ["compare"]
    failed = TROUBLE if comparing else FAILED
    _check_streams(failed)
    words = several_values(sys.argv[1:], SIDES if comparing else ())
    try:
        check_rooms()
        status = _commands()(words, prog_name="moegap", standalone_mode=False)
    except (BenchError, ModelError, ReportError) as error:
        _fail(str(error), failed)
    except ValidationError as error:
        _fail(unwritable(error), failed)
    except OSError as error:
        _fail(f"{error.filename or 'standard output'}: {error.strerror or error}", failed)
    except KeyboardInterrupt:
        _fail("stopped", INTERRUPTED)
    except MemoryError:
        _fail(NO_MEMORY, failed)
    except Exception as error:
        if isinstance(error, typer.Abort):  # what typer makes of Ctrl-C
            _fail("stopped", INTERRUPTED)
        if "allocate memory" in str(error) or "out of memory" in str(error):
            _fail(NO_MEMORY, failed)
        if hasattr(error, "format_message"):
            _fail(error.format_message(), getattr(error, "exit_code", 2))
        if os.environ.get("MOEGAP_DEBUG"):
            raise
        _fail(f"{message(error)} (unexpected; MOEGAP_DEBUG=1 shows where)", failed)
    sys.exit(status)


@cache
def _commands() -> Any:
    """Return all commands with their options, read once from their signatures."""
    return typer.main.get_command(app)


def _check_streams(failed: int) -> None:
    """Let any character pass to a terminal of any encoding, and end if there is nothing to print on."""
    if sys.stderr is None:
        sys.stderr = Path(os.devnull).open("w")  # noqa: SIM115 - until the process ends
    if sys.stdout is None:
        _fail("standard output is closed; leave it open, or send it to /dev/null", failed)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")


def _fail(sentence: str, status: int) -> NoReturn:
    shown = sentence if len(sentence) <= LONGEST else f"{sentence[: LONGEST // 2]} … {sentence[-LONGEST // 2 :]}"
    typer.echo(f"moegap: {printable(shown)}", err=True)
    sys.exit(status)


if __name__ == "__main__":
    main()
