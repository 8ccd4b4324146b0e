"""What a report is made of: files of every kind, each recognised by its content."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar, get_args

from reports.errors import ReportError
from reports.reading import documents, load
from reports.reading.documents import Studies
from reports.reading.files import WRITTEN_BY, Content
from reports.reading.load import Results
from reports.reading.validated import check_version, validated
from reports.records.document import Document
from reports.records.policy_study import PolicyStudy
from reports.records.profile import ProfileFile
from reports.records.self_test import SelfTest
from reports.records.sharpness import Sharpness
from reports.records.timing import Kind, TimingRun
from reports.records.training_study import TrainingStudy

TIMING_VERSION = 1
_Document = TypeVar("_Document", bound=Document)


@dataclass(frozen=True)
class Inputs:
    """The contents of all files, parsed."""

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
    described: dict[Path, Content] = {}
    timed: dict[Path, Content] = {}
    measured: dict[Path, Content] = {}
    for source, content in contents.items():
        if documents.is_document(content):
            described[source] = content
        elif "timings" in content and content.get("kind") in get_args(Kind):
            timed[source] = content
        elif "benchmarks" in content:
            measured[source] = content
        else:
            raise ReportError(f"{source} holds no result: {WRITTEN_BY}.")
    read = [documents.parsed(source, content) for source, content in described.items()]
    return Inputs(
        results=load.gather(measured),
        studies=Studies(_of(TrainingStudy, read), _of(PolicyStudy, read), _of(Sharpness, read)),
        self_tests=_of(SelfTest, read),
        profiles=_of(ProfileFile, read),
        targets=tuple(_timing_run(source, content) for source, content in timed.items()),
    )


def _of(kind: type[_Document], read: Iterable[Document]) -> tuple[_Document, ...]:
    return tuple(document for document in read if isinstance(document, kind))


def _timing_run(source: Path, content: Content) -> TimingRun:
    check_version(content.get("schema_version"), TIMING_VERSION, source, "version")
    return validated(TimingRun, content, source, "the run of targets")
