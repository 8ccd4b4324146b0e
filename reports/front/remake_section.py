"""The last section: what to run to make a report again."""

from __future__ import annotations

from collections.abc import Sequence

from reports.output.blocks import Commands, Section


def remake_section(commands: Sequence[str]) -> Section:
    """Return the section of these commands."""
    return Section("remake", "Remake", [Commands(commands)], heading="Make it again")
