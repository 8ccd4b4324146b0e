"""The section on whole classifiers: the share of an image's time that the head alone takes."""

from __future__ import annotations

from reports.cases.conditions import beside, ratio
from reports.numbers import units
from reports.output.blocks import Section, Table
from reports.reading.load import Case
from reports.speed.analysis import Analysis


def classifier_section(analysis: Analysis) -> Section | None:
    """Return a table for each setting of whole classifiers whose heads were measured alone, or None without any."""
    tables = within_classifier(analysis)
    if not tables:
        return None
    return Section(
        "classifier",
        "Whole classifier",
        tables,
        heading="The head within its classifier",
        reading="the share of a whole image’s time that the head alone takes, at as many rows; whatever a head saves, "
        "an image saves no more than this share.",
    )


def within_classifier(analysis: Analysis) -> list[Table]:
    """Return, for each setting of whole classifiers, each head alone beside its classifier."""
    titles = ("head alone", "classifier", "share", units.INTERVAL)
    return beside(analysis, "part", "head", "classifier", titles, _share)


def _share(head: Case, classifier: Case) -> tuple[str, str]:
    share = ratio(head, classifier)
    return units.percent(share.value), units.percent_interval(share)
