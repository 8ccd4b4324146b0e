"""Published files read and written again by their schema: nothing that a writer once left is lost or changed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from reports.reading.documents import KINDS, parsed, schema_of

ROOT = Path(__file__).parents[3]
FILES = [*sorted(ROOT.glob("reports/published/**/*.json")), *sorted(ROOT.glob("models/zoo/*.json"))]
DOCUMENTS = [path for path in FILES if schema_of(json.loads(path.read_text())) in KINDS.values()]


def without_blanks(value: Any) -> Any:
    """Return a JSON value without its nulls, which mean the same as a field left out."""
    if isinstance(value, dict):
        return {name: without_blanks(field) for name, field in value.items() if field is not None}
    return [without_blanks(item) for item in value] if isinstance(value, list) else value


def test_files_of_every_kind_but_a_lone_history_are_published() -> None:
    kinds = {json.loads(path.read_text())["kind"] for path in DOCUMENTS}
    assert kinds == set(KINDS) - {"history"}


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_a_published_file_is_written_as_it_was_read(path: Path) -> None:
    content = json.loads(path.read_text())
    document = parsed(path, content)
    again = json.loads(document.text())
    assert parsed(path, again) == document
    facts, shown = (file.pop("environment") for file in (content, again))
    assert shown == {name: str(fact) for name, fact in facts.items() if name in shown}
    assert {name for name in facts.keys() - shown.keys() if not isinstance(facts[name], dict | None)} == set()
    assert without_blanks(again) == without_blanks(content)


def test_text_without_spaces_says_the_same() -> None:
    path = DOCUMENTS[0]
    document = parsed(path, json.loads(path.read_text()))
    short = document.text(indent=None)
    assert json.loads(short) == json.loads(document.text())
    assert len(short) < len(document.text())
    assert "\n" not in short.removesuffix("\n")
