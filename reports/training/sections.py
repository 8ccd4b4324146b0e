"""Which sections studies add to a report, and what each says in a sentence at its top."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from reports.numbers import units
from reports.output.blocks import Column, Finding, Table
from reports.reading.documents import Studies
from reports.records.document import Document
from reports.records.policy_study import PolicyStudy
from reports.records.record import CaseRecord
from reports.records.sharpness import Sharpness
from reports.training import curves as training
from reports.training import policies, sharpness
from reports.training.against_paper import beside

_KINDS = {"training": "trainings", "policies": "routing policies", "sharpness": "sharpness"}
_FACTS = ("device", "cpu", "threads", "products", "platform", "python", "torch")


@dataclass(frozen=True)
class Sections:
    """What studies add: `content` for both templates, the findings and machines for the top, the files in words."""

    content: dict[str, Any]
    findings: list[Finding]
    machines: list[Table]
    tally: str


def sections(studies: Studies, records: Sequence[CaseRecord], paper: bool) -> Sections:
    """Return the sections of these studies; with `paper`, of the paper beside them and the benchmark `records`."""
    settings = training.settings(studies.training)
    curved = sharpness.section(studies.sharpness) if studies.sharpness else None
    compared = beside(settings, studies.sharpness, records) if paper else None
    findings = [
        Finding("policies", "Routing policies", _answers(studies.policies)),
        Finding("training", "Training", [training.sentence(setting) for setting in settings]),
        Finding("sharpness", "Sharpness", _curvature(studies.sharpness)),
        Finding("beside", "The paper beside us", [compared.sentence] if compared else []),
    ]
    return Sections(
        content={
            "trainings": training.panels(settings),
            "policies": [policies.panel(study) for study in studies.policies],
            "sharpness": curved,
            "beside": compared,
        },
        findings=[finding for finding in findings if finding.sentences],
        machines=_machines(studies),
        tally=_tally(settings, studies.policies, studies.sharpness),
    )


def _answers(studies: Sequence[PolicyStudy]) -> list[str]:
    """Return the answer of each study, by its name where there are several."""
    if len(studies) == 1:
        return [policies.answer(studies[0])]
    return [f"{policies.title(study)}: {policies.answer(study)}" for study in studies]


def _curvature(files: Sequence[Sharpness]) -> list[str]:
    """Return how many checkpoints are no minimum, and how sharp they are, for each subset."""
    sentences = []
    for subset in dict.fromkeys(part.subset for file in files for part in file.parts):
        parts = [part for file in files for part in file.parts if part.subset == subset]
        gains = [gain for part in parts if (gain := sharpness.gain(part)) is not None]
        none = sum(gain > sharpness.NEAR_MINIMUM for gain in gains)
        largest = [whole.largest for part in parts if (whole := part.whole) and whole.largest is not None]
        reach = (
            f"; largest eigenvalues {units.listing([units.quantity(value) for value in largest])}" if largest else ""
        )
        sentences.append(
            f"On {subset} images the gradient says of {none} of {units.plural(len(parts), 'checkpoint')} that it is no "
            f"minimum{reach}."
        )
    return sentences


def _machines(studies: Studies) -> list[Table]:
    """Return one table for each environment: its facts, and when it made what."""
    groups: dict[tuple[tuple[str, str], ...], list[Document]] = {}
    for file in studies.files:
        facts = tuple((name, file.environment[name]) for name in _FACTS if file.environment.get(name))
        groups.setdefault(facts, []).append(file)
    columns = (Column("fact", numeric=False), Column("value", numeric=False))
    tables = []
    for facts, files in groups.items():
        kinds = units.listing(list(dict.fromkeys(_KINDS[file.kind] for file in files)))
        dates = sorted({_moment(date) for file in files if (date := file.environment.get("date"))})
        made = (("made", " to ".join(dict.fromkeys((dates[0], dates[-1])))),) if dates else ()
        if rows := (*facts, *made):
            tables.append(Table(kinds[0].upper() + kinds[1:], columns, rows))
    return tables


def _moment(date: str) -> str:
    """Return a date to the minute where it is one, else as it stands."""
    try:
        time = datetime.fromisoformat(date)
    except ValueError:
        return date
    return units.moment(time.astimezone(UTC) if time.tzinfo else time)


def _tally(settings: Sequence[training.Setting], compared: Sequence[PolicyStudy], curved: Sequence[Sharpness]) -> str:
    """Return what was trained and looked at, in one sentence; "" without any study."""
    trained = sum(len(own) for setting in settings for own in setting.trials.values())
    runs = [policies.by_policy(study) for study in compared]
    counts: Mapping[str, int] = {
        "training": trained,
        "policy run": sum(len(own) for study in runs for own in study.values()),
        "checkpoint": len(curved),
    }
    nouns = {"checkpoint": ("checkpoint's curvature", "checkpoints' curvature"), "policy run": ("policy run", "")}
    words = [units.plural(number, *nouns.get(noun, (noun, ""))) for noun, number in counts.items() if number]
    return f"{units.listing(words)}." if words else ""
