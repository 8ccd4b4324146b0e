"""What the README shows is there: its commands with their options, its links and its pictures."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
import typer

from bench.cli import app

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
COMMANDS = typer.main.get_command(app).commands  # type: ignore[attr-defined]
LINES = [
    line.split("#")[0].strip().removeprefix("- run: ").removeprefix("run: ")
    for line in README.splitlines()
    if re.match(r"\s*(- run: |run: )?\.venv/bin/moegap ", line)
]


@pytest.mark.parametrize("line", LINES)
def test_every_command_and_option_exists(line: str) -> None:
    _, name, *words = shlex.split(line)
    options = {spelling for option in COMMANDS[name].params for spelling in (*option.opts, *option.secondary_opts)}
    assert {word.partition("=")[0] for word in words if word.startswith("--")} <= options


def test_commands_were_found() -> None:
    assert len(LINES) > 15
    assert {shlex.split(line)[1] for line in LINES} >= {"bench", "report", "compare", "profile", "traces", "account"}


def test_every_link_leads_somewhere() -> None:
    links = [link for link in re.findall(r"\]\(([^)\s]+)\)", README) if not link.startswith("http")]
    assert len(links) > 5
    assert [link for link in links if not (ROOT / link.partition("#")[0]).exists()] == []


def test_three_pictures_of_a_report_are_shown() -> None:
    pictures = re.findall(r"!\[([^\]]+)\]\((reports/published/[^)]+\.png)\)", README)
    assert len(pictures) >= 3
    assert all(len(words) > 20 for words, _ in pictures)
