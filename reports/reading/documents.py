"""Studies, profiles and self-tests: files that name their `kind` and `format`, validated by the schema of that kind."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

from reports.reading.files import Content
from reports.reading.validated import check_moment, check_version, validated
from reports.records.document import FORMAT, Document
from reports.records.policy_study import PolicyStudy
from reports.records.profile import ProfileFile
from reports.records.self_test import SelfTest
from reports.records.sharpness import Sharpness
from reports.records.training_study import TrainingHistory, TrainingStudy

KINDS: dict[str, type[Document]] = {
    "training": TrainingStudy,
    "history": TrainingHistory,
    "policies": PolicyStudy,
    "sharpness": Sharpness,
    "self-test": SelfTest,
    "profile": ProfileFile,
}


@dataclass(frozen=True)
class Studies:
    """All studies by kind; a lone history is a training study of one run without results."""

    training: tuple[TrainingStudy, ...] = ()
    policies: tuple[PolicyStudy, ...] = ()
    sharpness: tuple[Sharpness, ...] = ()

    @property
    def files(self) -> tuple[TrainingStudy | PolicyStudy | Sharpness, ...]:
        """Every file, in the order that a report shows them."""
        return (*self.training, *self.policies, *self.sharpness)

    def __bool__(self) -> bool:
        return bool(self.files)


def is_document(content: Content) -> bool:
    """Return whether a file's content names a kind that is read here."""
    kind = content.get("kind")
    return isinstance(kind, str) and kind in KINDS


def parsed(source: Path, content: Content) -> Document:
    """Return the document that the file `source` holds, a lone history as a training study.

    Raises `ReportError` if it is broken or was written by a newer moegap. `is_document` must hold for `content`.
    """
    kind = content["kind"]
    check_version(content.get("format"), FORMAT, source, "format")
    schema = KINDS[kind]
    words = (source, f"this {kind} file", f"run `moegap {schema.written_by}` again, or repair the file")
    document = validated(schema, content, *words)
    if isinstance(document, TrainingHistory):
        return validated(TrainingStudy, _study(document, source), *words)
    if isinstance(document, ProfileFile) and (taken := document.environment.get("measured_at")):
        check_moment(taken, source, "the profile")
    return document


def _study(file: TrainingHistory, source: Path) -> dict[str, Any]:
    """Return the content of a study of one run without results, as the history's config describes it."""
    config = file.config
    changes = config.get("head_changes")
    run = {
        "folder": source.parent.name or ".",
        "head": config.get("head"),
        "policy": changes.get("policy") if isinstance(changes, dict) else None,
        "seed": config.get("seed"),
        "history": file.history,
    }
    return {
        "format": FORMAT,
        "kind": "training",
        "command": file.command,
        "environment": file.environment,
        "preset": config.get("preset"),
        "data": PurePath(str(config.get("data", ""))).name,  # a folder of images goes by its name
        "epochs": config.get("epochs"),
        "runs": [run],
    }
