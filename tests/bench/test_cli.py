"""The command line: every command's help and examples, and what it says of a command that moved."""

from __future__ import annotations

import errno
import io
import shlex
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import typer

from bench import cli
from bench.cli import COMMANDS, app
from bench.errors import BenchError
from bench.forms import forms
from bench.suites.suite import SUITES
from bench.timing.precision import DTYPES
from models.device import DEVICES

PARSED = typer.main.get_command(app).commands  # type: ignore[attr-defined]
EXAMPLES = [(name, line) for name in COMMANDS for line in PARSED[name].epilog.splitlines()[1:]]


@pytest.mark.parametrize("name", COMMANDS)
def test_the_help_of_every_command_ends_with_examples(in_process: Callable[..., tuple[int, str, str]], name: str):
    status, help_text, _ = in_process(name, "--help")
    assert status == 0
    assert f"Usage: moegap {name}" in help_text
    _, examples = " ".join(help_text.split()).split("Examples: ")
    assert examples == " ".join(PARSED[name].epilog.split()).removeprefix("Examples: ")


@pytest.mark.parametrize(("name", "line"), EXAMPLES)
def test_every_example_is_a_command_that_its_options_allow(monkeypatch: pytest.MonkeyPatch, name: str, line: str):
    monkeypatch.setattr(Path, "is_dir", lambda _: True)  # as if the folders of the examples were there
    program, command, *words = shlex.split(line)
    assert (program, command) == ("moegap", name)
    given = PARSED[name].make_context(name, words).params
    known = {"form": forms(), "dtype": (*DTYPES, "float64"), "device": DEVICES, "suite": SUITES}
    for option, names in known.items():
        value = given.get(option) or ()
        assert {*([value] if isinstance(value, str) else value)} <= {*names}


def test_an_example_with_an_unknown_option_is_seen():
    with pytest.raises(Exception, match="--no-such-option"):
        PARSED["bench"].make_context("bench", ["--no-such-option"])


def test_every_command_has_an_example():
    assert {name for name, _ in EXAMPLES} == set(COMMANDS)


@pytest.mark.parametrize("words", [(), ("models/zoo/fast-sparse", "--rows", "8")])
def test_the_map_is_a_command_and_no_suite(in_process: Callable[..., tuple[int, str, str]], words: tuple[str, ...]):
    status, _, error = in_process("bench", "--suite", "scale", *words)
    assert status == 1
    assert error.count("\n") == 1
    assert "use `moegap map`" in error


ENDINGS = [
    (KeyboardInterrupt(), 130, "stopped"),
    (typer.Abort(), 130, "stopped"),
    (MemoryError(), 1, "not enough memory"),
    (
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 10 bytes"),
        1,
        "not enough memory",
    ),
    (OSError(errno.ENOSPC, "No space left on device"), 1, "standard output: No space left on device"),
    (OSError(errno.ENOSPC, "No space left on device", "a/file"), 1, "a/file: No space left on device"),
    (BenchError("\x1b[31m" + "long" * 10**6), 1, "…"),
]


@pytest.mark.parametrize(("error", "status", "words"), ENDINGS)
def test_every_end_is_one_sentence(
    in_process: Callable[..., tuple[int, str, str]],
    monkeypatch: pytest.MonkeyPatch,
    error: BaseException,
    status: int,
    words: str,
) -> None:
    def command(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(cli, "_commands", lambda: command)
    ended, _, said = in_process("doctor")
    assert ended == status
    assert said.startswith("moegap: ")
    assert words in said
    assert len(said) < 2_100
    assert said.removesuffix("\n").isprintable()


def test_a_closed_output_is_one_sentence(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["moegap", "doctor"])
    monkeypatch.setattr(sys, "stdout", None)
    with pytest.raises(SystemExit) as stop:
        cli.main()
    assert stop.value.code == 1
    assert capsys.readouterr().err == "moegap: standard output is closed; leave it open, or send it to /dev/null\n"


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_any_character_passes_to_any_terminal(monkeypatch: pytest.MonkeyPatch, encoding: str) -> None:
    written = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, encoding=encoding))
    monkeypatch.setattr(sys, "argv", ["moegap", "bench", "--help"])
    monkeypatch.setattr(cli, "_commands", lambda: lambda *_, **__: typer.echo("3 µs, 1.13× 日本"))
    with pytest.raises(SystemExit) as stop:
        cli.main()
    assert not stop.value.code
    assert b"1.13" in written.getvalue()
