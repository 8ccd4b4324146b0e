"""The section on the paper's efficiency table: parameters, memory and images a second at the paper's batch."""

from __future__ import annotations

import numpy as np

from reports.numbers import units
from reports.output.blocks import Section, Table
from reports.output.tables import Field, number, tabulated, word
from reports.reading.load import MeasuredCase
from reports.speed import settings
from reports.speed.analysis import Analysis, Head
from reports.speed.settings import name, nearest_batch

BYTES_PER_FLOAT32 = 4


def efficiency_section(analysis: Analysis) -> Section | None:
    """Return a table for each setting of the suite `paper`, at the batch nearest to its 256; None without any."""
    fields: list[Field[MeasuredCase]] = [
        word("head", lambda case: name(analysis, Head.of(case.record))),
        word("form", lambda case: case.record.form),
        number("parameters", lambda case: units.count(case.record.parameters)),
        number("in fp32", lambda case: units.megabytes(case.record.parameters * BYTES_PER_FLOAT32)),
        number("peak memory", lambda case: units.known(case.record.peak_memory, units.megabytes)),
        number("mean", lambda case: units.seconds(_mean(case))),
        number("std", lambda case: units.seconds(float(np.std(case.samples, ddof=1))) if case.samples.size > 1 else ""),
        number("median", lambda case: units.seconds(analysis.latencies[case].value)),
        number("n", lambda case: units.count(case.samples.size)),
        number("images/s", lambda case: units.count(round(case.record.rows / _mean(case)))),
    ]
    tables: list[Table] = []
    for setting in analysis.usual:
        cases = analysis.cases(setting) if setting.suite == "paper" else []
        if cases:
            batch = nearest_batch(cases)
            heading = f"{settings.title(setting)}, batch of {units.count(batch)}; {settings.machine(setting)}"
            tables.append(tabulated(heading, fields, [case for case in cases if case.record.rows == batch]))
    if not tables:
        return None
    rates = "images/s is the batch over the mean time of a call, MB a million bytes."
    return Section(
        "efficiency",
        "Efficiency",
        tables,
        heading="Efficiency at the paper’s setting",
        reading=f"the quantities of the paper’s efficiency script (arXiv 2601.15021); {rates}",
        brief=f"{rates[0].upper()}{rates[1:]}",
        about="the quantities of the paper’s efficiency script",
    )


def _mean(case: MeasuredCase) -> float:
    return float(np.mean(case.samples))
