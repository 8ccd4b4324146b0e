"""What a result file says of its machine: the ceilings measured beside the cases, and how each group was sampled.

Files from before there were such lists have neither.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from reports.errors import ReportError
from reports.records.record import CEILINGS_KEY, GROUPS_KEY, Ceilings, Group
from reports.records.validated import are_objects, check_moment, validated
from reports.records.visible import brief


def ceilings(source: Path, content: dict[str, Any]) -> list[Ceilings]:
    """Return the ceilings in a file; raises `ReportError` where one is broken."""
    found = []
    for raw in _listed(source, content, CEILINGS_KEY):
        ceiling = validated(Ceilings, raw, source, "a ceiling")
        what = f"the ceiling of {ceiling.device_name} in {ceiling.dtype}"
        check_moment(ceiling.measured_at, source, what)
        sizes = [copy.working_set for copy in ceiling.copies]
        if not sizes or sizes != sorted(set(sizes)):
            raise ReportError(f"{source}: {what} needs copies of growing working sets: measure it again.")
        found.append(ceiling)
    return found


def groups(source: Path, content: dict[str, Any]) -> list[Group]:
    """Return how the groups in a file were sampled; raises `ReportError` where one is broken or stands there twice."""
    found: dict[str, Group] = {}
    for raw in _listed(source, content, GROUPS_KEY):
        group = validated(Group, raw, source, f"the group {brief(raw.get('group_id', 'without a group_id'))}")
        if group.group_id in found:
            raise ReportError(f"{source} holds the group {group.group_id} twice: remove one of them.")
        if not all(0 <= block < len(group.anchor) for block in group.throttled):
            raise ReportError(f"{source}: the group {group.group_id} marks a block it has not: measure it again.")
        found[group.group_id] = group
    return list(found.values())


def _listed(source: Path, content: dict[str, Any], key: str) -> list[dict[str, Any]]:
    listed = content.get(key, [])
    if not are_objects(listed):
        raise ReportError(f"{source} has a broken list {key}: each entry must be an object.")
    objects: list[dict[str, Any]] = listed
    return objects
