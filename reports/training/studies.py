"""What studies add at the top of a report: how much was trained and examined, and on which machines."""

from __future__ import annotations

from collections.abc import Sequence

from reports.numbers import units
from reports.output.blocks import Facts
from reports.reading.inputs import Studies
from reports.records.document import Document
from reports.training.policies_section import by_policy
from reports.training.training_section import Recipe

_KINDS = {"training": "trainings", "policies": "routing policies", "sharpness": "sharpness"}
_FACTS = ("device", "cpu", "threads", "products", "platform", "python", "torch")


def tally(recipes: Sequence[Recipe], studies: Studies) -> str:
    """Return how much was trained and examined, in one sentence; "" without any study."""
    counts = (
        (sum(len(runs) for recipe in recipes for runs in recipe.runs.values()), "training", ""),
        (sum(len(runs) for study in studies.policies for runs in by_policy(study).values()), "policy run", ""),
        (len(studies.sharpness), "checkpoint's curvature", "checkpoints' curvature"),
    )
    words = [units.plural(*count) for count in counts if count[0]]
    return f"{units.listing(words)}." if words else ""


def machines(studies: Studies) -> list[Facts]:
    """Return the facts of each environment, and what it made when."""
    groups: dict[tuple[tuple[str, str], ...], list[Document]] = {}
    for file in studies.files:
        facts = tuple((name, file.environment[name]) for name in _FACTS if file.environment.get(name))
        groups.setdefault(facts, []).append(file)
    tables = []
    for facts, files in groups.items():
        kinds = units.listing(list(dict.fromkeys(_KINDS[file.kind] for file in files)))
        dates = sorted({units.date(date) for file in files if (date := file.environment.get("date"))})
        made = (("made", " to ".join(dict.fromkeys((dates[0], dates[-1])))),) if dates else ()
        if rows := (*facts, *made):
            tables.append(Facts(kinds[0].upper() + kinds[1:], rows))
    return tables
