"""The command line: every command's help and examples, and what it says of a command that moved."""

from __future__ import annotations

import shlex
from collections.abc import Callable

import pytest
import typer

from bench.cli import COMMANDS, app
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
def test_every_example_is_a_command_that_its_options_allow(name: str, line: str):
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
