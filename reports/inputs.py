"""What a report is made of: files of every kind, told apart by what they say of themselves."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from reports.errors import ReportError
from reports.noise import self_test
from reports.noise.self_test import SelfTest
from reports.profile import file as profiles
from reports.profile.file import ProfileFile
from reports.reading import load, studies
from reports.reading.files import WRITTEN_BY, Content
from reports.reading.load import Results
from reports.reading.studies import Studies
from reports.records.timing import TimingRun
from reports.targets import page as targets_page


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
        told = [*self.results.commands, *(" ".join(file.command.split()) for file in others)]
        return [command for command in dict.fromkeys(told) if command]


def gather(contents: Mapping[Path, Content]) -> Inputs:
    """Return what these files hold; raises `ReportError` where one is broken, newer or of no kind known here."""
    chosen: dict[str, dict[Path, Content]] = {}
    for path, content in contents.items():
        chosen.setdefault(_kind(path, content), {})[path] = content
    return Inputs(
        results=load.gather(chosen.get("results", {})),
        studies=studies.gather(chosen.get("study", {})),
        self_tests=tuple(self_test.parsed(path, content) for path, content in chosen.get("self-test", {}).items()),
        profiles=tuple(profiles.parsed(path, content) for path, content in chosen.get("profile", {}).items()),
        targets=tuple(targets_page.parsed(path, content) for path, content in chosen.get("targets", {}).items()),
    )


def _kind(source: Path, content: Content) -> str:
    if self_test.is_self_test(content):
        return "self-test"
    if profiles.is_profile(content):
        return "profile"
    if targets_page.is_run(content):
        return "targets"
    if studies.is_study(content):
        return "study"
    if "benchmarks" not in content:
        raise ReportError(f"{source} holds no result: {WRITTEN_BY}.")
    return "results"
