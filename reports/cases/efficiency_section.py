"""The section on the paper's efficiency table: parameters, memory and images a second at the paper's batch."""

from __future__ import annotations

import numpy as np

from reports.numbers import units
from reports.output.blocks import Section, Table, numeric, worded
from reports.reading.load import Case
from reports.speed import settings
from reports.speed.analysis import Analysis, Head
from reports.speed.settings import name, nearest_batch

BYTES_PER_FLOAT32 = 4
_COLUMNS = (
    *worded("head", "form"),
    *numeric("parameters", "in fp32", "peak memory", "mean", "std", "median", "n", "images/s"),
)


def efficiency_section(analysis: Analysis) -> Section | None:
    """Return a table for each setting of the suite `paper`, or None without any."""
    tables = efficiency(analysis)
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
    )


def efficiency(analysis: Analysis) -> list[Table]:
    """Return the paper's efficiency table for each setting of the suite `paper`, at the batch nearest to its 256."""
    tables = []
    for setting in analysis.usual:
        cases = analysis.cases(setting) if setting.suite == "paper" else []
        if cases:
            batch = nearest_batch(cases)
            rows = tuple(_row(analysis, case) for case in cases if case.record.rows == batch)
            heading = f"{settings.title(setting)}, batch of {units.count(batch)}; {settings.machine(setting)}"
            tables.append(Table(heading, _COLUMNS, rows))
    return tables


def _row(analysis: Analysis, case: Case) -> tuple[str, ...]:
    record = case.record
    mean = float(np.mean(case.samples))
    std = units.seconds(float(np.std(case.samples, ddof=1))) if case.samples.size > 1 else ""
    return (
        name(analysis, Head.of(record)),
        record.form,
        units.count(record.parameters),
        units.megabytes(record.parameters * BYTES_PER_FLOAT32),
        "" if record.peak_memory is None else units.megabytes(record.peak_memory),
        units.seconds(mean),
        std,
        units.seconds(analysis.latencies[case].value),
        units.count(case.samples.size),
        units.count(round(record.rows / mean)),
    )
