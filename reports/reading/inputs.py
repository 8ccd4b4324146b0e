"""What a report is made of: files of every kind, told apart by what they say of themselves."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

from reports.errors import ReportError
from reports.reading import documents, load
from reports.reading.documents import Studies
from reports.reading.files import WRITTEN_BY, Content
from reports.reading.load import Results
from reports.reading.validated import check_version, validated
from reports.records.profile import ProfileFile
from reports.records.self_test import SelfTest
from reports.records.timing import Kind, TimingRun

TIMING_VERSION = 1


@dataclass(frozen=True)
class Inputs:
    """The contents of all files given, parsed; `commands` made them, as far as they say."""

    results: Results
    studies: Studies
    self_tests: tuple[SelfTest, ...]
    profiles: tuple[ProfileFile, ...]
    targets: tuple[TimingRun, ...]

    @property
    def commands(self) -> list[str]:
        """The commands that wrote the files, each once."""
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
    found = documents.gather(described)
    return Inputs(
        results=load.gather(measured),
        studies=found.studies,
        self_tests=found.self_tests,
        profiles=found.profiles,
        targets=tuple(_timing_run(source, content) for source, content in timed.items()),
    )


def _timing_run(source: Path, content: Content) -> TimingRun:
    check_version(content.get("schema_version"), TIMING_VERSION, source, "version")
    return validated(TimingRun, content, source, "the run of targets")
