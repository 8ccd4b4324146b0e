"""The section on self-tests: how often the verdicts are right on this machine if the answer is known."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from reports.noise.self_test import answers, sentences, table
from reports.output.blocks import Block, Section, Text
from reports.records.self_test import SelfTest


def self_test_section(tests: Sequence[SelfTest]) -> Section | None:
    """Return the outcome of each self-test, with its machine and day; None without any."""
    if not tests:
        return None
    return Section(
        "self-test",
        "Self-test",
        [block for test in tests for block in _blocks(test)],
        heading="What the verdicts are worth here",
        reading="identical code was compared with itself under two names, and with itself slowed by a known share, by "
        "the sampling and the statistics of every other verdict. A wrong verdict contradicts what is known; UNCLEAR "
        "never does.",
        about="how often a verdict is wrong when the answer is known",
    )


def _blocks(test: SelfTest) -> list[Block]:
    results = answers(test)
    facts = (test.device, test.environment.get("measured_at", ""), "beside a busy process" if test.neighbour else "")
    caption = ", ".join(filter(None, facts))
    return [*map(Text, sentences(results, test.neighbour)), replace(table(results), caption=caption)]
