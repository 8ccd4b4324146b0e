"""The top and the foot of a report: its title, a sentence on what it rests on, how to make it again, and footnotes."""

from __future__ import annotations

from collections.abc import Sequence

from reports.numbers import units
from reports.output.blocks import Commands, Section
from reports.profile import profile_section as profiles
from reports.reading.inputs import Inputs
from reports.speed import verdicts
from reports.speed.analysis import Analysis
from reports.training import studies
from reports.training.training_section import Recipe


def title(inputs: Inputs) -> tuple[str, str]:
    """Return the name for a browser's tab, and the heading, after the first kind of file that the report has."""
    if inputs.results.records:
        heading = "How much of a Mixture-of-Experts layer’s saving is realised"
        return "how much of the saving is realised", heading
    if inputs.studies:
        return "what the heads learn", "What Mixture-of-Experts heads learn, and how they route"
    if inputs.profiles:
        return "where the time goes", "Where the time of a Mixture-of-Experts layer goes"
    if inputs.targets:
        return "targets of the kernels", "Our kernels beside their peers"
    if inputs.self_tests:
        return "what the verdicts are worth", "What the verdicts of a machine are worth"
    return "the paper beside us", "Mixture-of-Experts heads: the paper beside us"


def lede(analysis: Analysis, inputs: Inputs, recipes: list[Recipe]) -> str:
    """Say how much was measured, trained and profiled, and when last."""
    sentences = []
    if records := analysis.results.records:
        last = units.moment(max(record.moment for record in records))
        sentences.append(f"{verdicts.tally(analysis)} Last measured {last}.")
    sentences += [studies.tally(recipes, inputs.studies), profiles.tally(inputs.profiles)]
    if inputs.targets:
        sentences.append(f"{units.plural(len(inputs.targets), 'run')} of the kernels' targets.")
    if inputs.self_tests:
        sentences.append(f"{units.plural(len(inputs.self_tests), 'self-test')}.")
    return " ".join(filter(None, sentences)) or "Nothing was measured or trained yet."


def remake_section(commands: Sequence[str]) -> Section:
    """Return the last section: what to run to make the report again."""
    return Section(
        "remake",
        "Remake",
        [Commands(commands)],
        heading="Make it again",
        about="the commands that measure and report this again",
    )


def footnotes(inputs: Inputs) -> list[str]:
    """Return what a reader should know about all numbers of the report."""
    notes = []
    if inputs.results.records:
        notes.append(
            "Timings of a GPU and of a CPU are never compared. The form shown as best was chosen by its median; its "
            "interval does not widen for that choice."
        )
    if inputs.studies.training or inputs.studies.policies:
        notes.append(
            "An interval or a standard deviation over seeds covers what another seed changes, not other data or "
            "recipes."
        )
    return notes
