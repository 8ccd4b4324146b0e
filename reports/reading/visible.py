"""Text from result files, fit to be shown: without unseen characters that hide or turn others, and never endless."""

from __future__ import annotations

import re

MOST = 2_000
"""Characters of a text that are shown."""
BRIEF = 120
UNSEEN = "\N{REPLACEMENT CHARACTER}"


def visible(text: str) -> str:
    """Return `text` cut after `MOST` characters, with unseen characters except blanks and line breaks replaced."""
    shown = text if len(text) <= MOST else f"{text[:MOST]} …"
    return shown if shown.isprintable() else re.sub(r"\S", _seen, shown)


def brief(value: object) -> str:
    """Return a value of a file as a sentence can quote it: in one line, cut after `BRIEF` characters."""
    line = " ".join(visible(str(value)).split())
    return line if len(line) <= BRIEF else f"{line[:BRIEF]} …"


def _seen(letter: re.Match[str]) -> str:
    return letter[0] if letter[0].isprintable() else UNSEEN
