"""The head of every study, profile and self-test file: its kind, the command that wrote it, and the environment.

The writer builds the document and dumps it with `text`; the reader validates the file with the same class.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from math import isfinite
from typing import Annotated, ClassVar, Literal

from pydantic import BeforeValidator, Field

from reports.records.fields import Name, Prose, Schema, no_newer_than

FORMAT = 1


def _as_text(value: object) -> object:
    """Return an environment with its values as text, without nested ones."""
    if not isinstance(value, Mapping):
        return value
    return {name: str(fact) for name, fact in value.items() if isinstance(fact, str) or _is_finite(fact)}


def _is_finite(fact: object) -> bool:
    return isinstance(fact, int) or (isinstance(fact, float) and isfinite(fact))


Command = Annotated[str, Field(max_length=100_000)]
Environment = Annotated[dict[Name, Prose], BeforeValidator(_as_text)]


class Document(Schema):
    """The head of a file; `written_by` is the command of `moegap` that writes it."""

    written_by: ClassVar[str]

    format: Annotated[Literal[1], no_newer_than(FORMAT)]
    kind: str
    command: Command = ""
    environment: Environment = Field(default_factory=dict)

    @property
    def device(self) -> str:
        """The device in words."""
        device = self.environment.get("device", "")
        cpu = self.environment.get("cpu", "")
        threads = self.environment.get("threads", "")
        if device != cpu and not device.startswith("cpu"):
            return device
        words = f"CPU {cpu}" if cpu and cpu != "cpu" else "CPU"
        return f"{words}, {threads} {'thread' if threads == '1' else 'threads'}" if threads else words

    def text(self, indent: int | None = 1) -> str:
        """Return the fields that were set as JSON, without spaces if `indent` is None."""
        content = self.model_dump(mode="json", exclude_unset=True)
        separators = (",", ":") if indent is None else None
        return json.dumps(content, indent=indent, separators=separators, allow_nan=False) + "\n"
