"""What a report is made of: files of every kind."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel

from reports.reading.documents import parsed
from reports.reading.files import Content
from reports.reading.load import Results, merged
from reports.records.policy_study import PolicyStudy
from reports.records.profile import ProfileFile
from reports.records.record import BenchmarkFile
from reports.records.self_test import SelfTest
from reports.records.sharpness import Sharpness
from reports.records.timing import TimingRun
from reports.records.training_study import TrainingStudy

_Model = TypeVar("_Model", bound=BaseModel)


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


@dataclass(frozen=True)
class Inputs:
    """The contents of all files, validated."""

    results: Results
    studies: Studies
    self_tests: tuple[SelfTest, ...]
    profiles: tuple[ProfileFile, ...]
    targets: tuple[TimingRun, ...]

    @property
    def commands(self) -> list[str]:
        """The commands that wrote the files, as far as these say, each once."""
        others = [*self.studies.files, *self.self_tests, *self.profiles, *self.targets]
        commands = [*self.results.commands, *(" ".join(file.command.split()) for file in others)]
        return [command for command in dict.fromkeys(commands) if command]


def gather(contents: Mapping[Path, Content]) -> Inputs:
    """Return what these files hold; raises `ReportError` if one is broken, newer or of no kind known here."""
    files = {source: parsed(source, content) for source, content in contents.items()}
    documents = files.values()
    return Inputs(
        results=merged({source: file for source, file in files.items() if isinstance(file, BenchmarkFile)}),
        studies=Studies(_of(TrainingStudy, documents), _of(PolicyStudy, documents), _of(Sharpness, documents)),
        self_tests=_of(SelfTest, documents),
        profiles=_of(ProfileFile, documents),
        targets=_of(TimingRun, documents),
    )


def _of(kind: type[_Model], documents: Iterable[BaseModel]) -> tuple[_Model, ...]:
    return tuple(document for document in documents if isinstance(document, kind))
