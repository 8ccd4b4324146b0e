"""What stands above the sections: what a report is called, and in a sentence what it rests on."""

from __future__ import annotations

from typing import NamedTuple

from reports.numbers import units
from reports.profile import profile_section as profiles
from reports.reading.inputs import Inputs
from reports.reading.load import measured_at
from reports.speed import verdicts
from reports.speed.analysis import Analysis
from reports.training import studies
from reports.training.training_section import Recipe


class Title(NamedTuple):
    """A name for a browser's tab, and the heading."""

    name: str
    heading: str


def title(given: Inputs) -> Title:
    """Return what the report is called after the first kind of file it has."""
    if given.results.records:
        return Title(
            "how much of the saving is realised", "How much of a Mixture-of-Experts layer’s saving is realised"
        )
    if given.studies:
        return Title("what the heads learn", "What Mixture-of-Experts heads learn, and how they route")
    if given.profiles:
        return Title("where the time goes", "Where the time of a Mixture-of-Experts layer goes")
    if given.targets:
        return Title("targets of the kernels", "Our kernels beside their peers")
    if given.self_tests:
        return Title("what the verdicts are worth", "What the verdicts of a machine are worth")
    return Title("the paper beside us", "Mixture-of-Experts heads: the paper beside us")


def lede(analysis: Analysis, given: Inputs, recipes: list[Recipe]) -> str:
    """Return how much was measured, trained and profiled, and when last."""
    sentences = []
    if records := analysis.results.records:
        last = units.moment(max(measured_at(record) for record in records))
        sentences.append(f"{verdicts.tally(analysis)} Last measured {last}.")
    sentences += [studies.tally(recipes, given.studies), profiles.tally(given.profiles)]
    if given.targets:
        sentences.append(f"{units.plural(len(given.targets), 'run')} of the kernels' targets.")
    if given.self_tests:
        sentences.append(f"{units.plural(len(given.self_tests), 'self-test')}.")
    return " ".join(filter(None, sentences)) or "Nothing was measured or trained yet."


def footnotes(given: Inputs) -> list[str]:
    """Return what to know of all numbers of a report."""
    found = []
    if given.results.records:
        found.append(
            "Timings of a GPU and of a CPU are never compared. The form shown as best was chosen by its median; its "
            "interval does not widen for that choice."
        )
    if given.studies.training or given.studies.policies:
        found.append(
            "An interval or a standard deviation over seeds covers what another seed changes, not other data or "
            "recipes."
        )
    return found
