"""The table of a policy study on a terminal: one line for each policy."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean, median, stdev

from rich import box
from rich.table import Column, Table

from models.policies.results import PolicyResults
from reports.records.policy_study import Latency, PolicyRun

Runs = Sequence[PolicyRun]

COLUMNS = (
    ("experts/row", "experts_per_row_mean", "{:.2f}"),
    ("spread", "experts_per_row_std", "{:.2f}"),
    ("load CV", "load_cv", "{:.2f}"),
    ("dropped", "dropped", "{:.1%}"),
    ("unserved", "unserved", "{:.1%}"),
    ("entropy", "gate_entropy", "{:.2f}"),
    ("FLOPs/row", "flops_per_row", "{:,.0f}"),
)
CAPTION = (
    "Means over seeds; accuracy with their sample standard deviation, spread: standard deviation over rows, unserved: "
    "rows without an expert, entropy of the gate in nats. expert-class, expert-domain: mutual information in nats and, "
    "less what chance gives, as a share of the entropy of class or domain. quickest form: median of a call on {rows:,} "
    "rows, first seed."
)


def policy_table(results: PolicyResults) -> Table:
    """Return the table of all runs."""
    groups = ["class", *(["domain"] if results.about["domains"] else [])]
    about = [f"expert-{group}" for group in groups]
    names = ["seeds", "test, %", *(name for name, _, _ in COLUMNS), *about, "quickest form"]
    caption = CAPTION.format(rows=results.rows)
    table = Table(Column("policy", no_wrap=True), *names, box=box.SIMPLE, pad_edge=False, caption=caption)
    for policy in dict.fromkeys(run.policy for run in results.runs):
        runs = [run for run in results.runs if run.policy == policy]
        table.add_row(
            policy,
            str(len(runs)),
            _accuracy([run.test_accuracy for run in runs]),
            *(_mean(runs, name, form) for _, name, form in COLUMNS),
            *(_information(runs, group) for group in groups),
            _quickest([part for part in results.latency if part.policy == policy]),
        )
    return table


def _accuracy(values: Sequence[float]) -> str:
    spread = f" ± {100 * stdev(values):.2f}" if len(values) > 1 else ""
    return f"{100 * fmean(values):.2f}{spread}"


def _mean(runs: Runs, name: str, form: str) -> str:
    """Return the mean of a value over runs, or a dash where the head has none."""
    values = [value for run in runs if (value := getattr(run, name)) is not None]
    return form.format(fmean(values)) if values else "-"


def _information(runs: Runs, group: str) -> str:
    kinds = ("information", "chance", "entropy")
    values = [[getattr(run, f"{group}_{kind}") for kind in kinds] for run in runs]
    if any(None in row for row in values):
        return "-"
    found, chance, entropy = (fmean(column) for column in zip(*values, strict=True))
    return f"{found:.3f} ({(found - chance) / entropy:.0%})" if entropy else f"{found:.3f}"


def _quickest(parts: Sequence[Latency]) -> str:
    """Return the form with the lowest median and that, in microseconds."""
    medians = {part.form: median(part.seconds) for part in parts if part.seconds}
    if not medians:
        return "-"
    form = min(medians, key=medians.__getitem__)
    return f"{form} {medians[form] * 1e6:,.0f} us"
