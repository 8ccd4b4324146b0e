"""The section on routing policies, and its answer: does a number of experts that varies per row pay?

A policy is dynamic if rows differ in how many experts they ask for, and fixed if all ask for the same number. The
answer gives every policy of a side the same weight, seed by seed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from reports.numbers import stats, units
from reports.numbers.seeds import INTERVAL, Difference, Spread, difference, spread
from reports.output import canvas, legend
from reports.output.blocks import Chart, Grid, Panel, Section, Table, Text, folded, numeric, without_blanks, worded
from reports.output.styles import Style, contenders, heads_first
from reports.records.policy_study import Latency, PolicyRun, PolicyStudy
from reports.training import policy_figures as figures

EQUAL_WITHIN = 0.01  # parameters that differ by a smaller share count as equal

Runs = Mapping[str, Sequence[PolicyRun]]
"""Runs of a study by policy, one per seed."""

_MEASURES: tuple[tuple[str, str, Callable[[Spread | None], str]], ...] = (
    ("experts per row", "experts_per_row_mean", units.spread),
    ("spread over rows", "experts_per_row_std", units.spread),
    ("load CV", "load_cv", units.spread),
    ("dropped", "dropped", units.percent_spread),
    ("rows without expert", "unserved", units.percent_spread),
    ("gate entropy, nats", "gate_entropy", units.spread),
    ("FLOPs per row", "flops_per_row", units.spread),
    ("expert and class, nats", "class_information", units.spread),
    ("by chance", "class_chance", units.spread),
    ("expert and domain, nats", "domain_information", units.spread),
    ("by chance", "domain_chance", units.spread),
)
"""The columns of the table that are means over seeds: title, field of a run, and how the mean is written."""
_LATENCY = (*worded("policy", "form"), *numeric("rows", "median", units.INTERVAL, "n"), *worded("or why there is none"))


@dataclass(frozen=True)
class DynamicAgainstFixed:
    """The policies of each side, and the difference of their mean test accuracies."""

    dynamic: tuple[str, ...]
    fixed: tuple[str, ...]
    difference: Difference


def policies_section(studies: Sequence[PolicyStudy]) -> Section | None:
    """Return every study of routing policies, or None without any."""
    if not studies:
        return None
    answers = [f"{title(study)}: {answer(study)}" if len(studies) > 1 else answer(study) for study in studies]
    return Section(
        "policies",
        "Routing policies",
        [_panel(study) for study in studies],
        reading="a fixed policy gives every row the same number of experts, as far as they have room; a dynamic "
        "one varies it by row. Small marks are seeds, large ones their mean with one standard deviation on each side; "
        f"up is more accurate, left is cheaper. Points beyond another policy carry a {INTERVAL} by Student’s t, not "
        "widened for the number of policies. Mutual information says how much the expert tells of the class, or of the "
        "domain; by chance is what as many assignments give without any tie.",
        findings=answers,
        about="accuracy beside cost of each way to route",
    )


def _panel(study: PolicyStudy) -> Panel:
    runs = by_policy(study)
    styles = contenders(runs)
    latency = _latency_table(study)
    return Panel(
        title(study),
        study.device,
        [
            Text(answer(study)),
            *(Text(note, "note") for note in _notes(study, runs)),
            legend.of_styles(styles, label="Policies"),
            Grid(_charts(runs, styles)),
            without_blanks(_table(f"{title(study)}: mean and standard deviation over seeds", runs)),
            *([folded(latency)] if latency else []),
        ],
    )


def _notes(study: PolicyStudy, runs: Runs) -> Iterator[str]:
    """Yield the balance terms of the policies, and which runs failed."""
    terms = {
        name: units.listing([f"{term} {weight:g}" for term, weight in group[0].balance.items()])
        for name, group in runs.items()
        if group[0].balance
    }
    if terms:
        clauses = [
            f"{units.listing([name for name in terms if terms[name] == words])} with {words}"
            for words in dict.fromkeys(terms.values())
        ]
        yield f"Balance terms and their weights: {'; '.join(clauses)}; others with none."
    for failure in study.failed:
        reason = failure.reason or "no reason was recorded"
        yield f"{failure.policy} with seed {failure.seed} has no result: {reason}"


def title(study: PolicyStudy) -> str:
    """Return the recipe in words."""
    domains = f", domains {units.listing(study.domains)}" if study.domains else ""
    return f"Preset {study.preset} on {study.data}, {units.plural(study.epochs, 'epoch')}{domains}"


def by_policy(study: PolicyStudy) -> dict[str, list[PolicyRun]]:
    """Return the runs by policy, heads without one first; if a seed occurs twice, the later run counts."""
    chosen = {(run.policy, run.seed): run for run in study.runs}
    names = heads_first(run.policy for run in study.runs)
    return {name: [run for (policy, _), run in sorted(chosen.items()) if policy == name] for name in names}


def sides(runs: Runs) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the dynamic policies and the fixed ones, as far as runs of sparse heads say what they are."""
    dynamic = {name: {run.dynamic for run in group if run.head == "sparse"} for name, group in runs.items()}
    return (
        tuple(name for name, values in dynamic.items() if True in values),
        tuple(name for name, values in dynamic.items() if values == {False}),
    )


def contest(runs: Runs) -> DynamicAgainstFixed | None:
    """Return dynamic against fixed, or None if a side has no run.

    A side's accuracy for a seed is the mean over its policies; a seed counts if all policies of the side have it.
    """
    dynamic, fixed = sides(runs)
    if not dynamic or not fixed:
        return None
    gap = difference(_side(runs, dynamic), _side(runs, fixed))
    return DynamicAgainstFixed(dynamic, fixed, gap) if gap else None


def answer(study: PolicyStudy) -> str:
    """Return the answer to the question in words that its interval allows, and what it costs."""
    runs = by_policy(study)
    result = contest(runs)
    if result is None:
        return _unanswered(runs)
    return " ".join(filter(None, (_difference(result, _equality(runs, result)), _cost(runs, result))))


def _difference(result: DynamicAgainstFixed, equality: str) -> str:
    gap = result.difference
    dynamic, fixed = units.listing(result.dynamic), units.listing(result.fixed)
    both = f"dynamic routing ({dynamic}) and fixed capacity ({fixed}) {equality}"
    if gap.low is None or gap.high is None:
        return (
            f"Between {both} the mean test accuracy differs by {units.points(gap.value)} points, dynamic "
            f"minus fixed; {units.plural(gap.n, 'seed')} on a side allow no interval, so this decides nothing."
        )
    over = f"paired over {gap.n} seeds" if gap.paired else f"unpaired, {gap.n} seeds or more a side"
    interval = f"{INTERVAL} {units.points(gap.low)} to {units.points(gap.high)}, {over}"
    if not gap.clear:
        return (
            f"No difference is shown between {both}: the mean test accuracy differs by "
            f"{units.points(gap.value)} points, dynamic minus fixed ({interval}, which contains 0)."
        )
    word = "more" if gap.value > 0 else "less"
    return (
        f"Dynamic routing ({dynamic}) is {word} accurate than fixed capacity ({fixed}) {equality}: "
        f"{units.points(gap.value)} points of mean test accuracy ({interval}, which leaves out 0)."
    )


def _equality(runs: Runs, result: DynamicAgainstFixed) -> str:
    names = (*result.dynamic, *result.fixed)
    sizes = {run.parameters for name in names for run in runs[name] if run.parameters is not None}
    if not sizes:
        return "(parameters not recorded)"
    equal = max(sizes) - min(sizes) <= EQUAL_WITHIN * max(sizes)
    return f"at {'equal' if equal else 'unequal'} parameters ({units.span(sizes)})"


def _cost(runs: Runs, result: DynamicAgainstFixed) -> str:
    """Say what both sides spend: more experts per row buy accuracy under any policy."""
    clauses = []
    for words, field in (("experts per row", "experts_per_row_mean"), ("FLOPs per row", "flops_per_row")):
        means = [_mean_over(runs, names, field) for names in (result.dynamic, result.fixed)]
        if None not in means:
            clauses.append(f"{units.quantity(means[0])} against {units.quantity(means[1])} {words}")
    return f"Dynamic against fixed, they run {units.listing(clauses)} on average." if clauses else ""


def _unanswered(runs: Runs) -> str:
    missing = [
        words for words, names in zip(("dynamic routing", "fixed capacity"), sides(runs), strict=True) if not names
    ]
    return (
        "Whether dynamic routing beats fixed capacity is not answered: there is no run of "
        f"{units.listing(missing or ['one side with all its policies on the same seed'])}; "
        "`moegap policies` trains them all."
    )


def _side(runs: Runs, names: Sequence[str]) -> dict[int, float]:
    """Return the mean test accuracy over the policies `names`, for each seed that all of them have."""
    tables = [_accuracies(runs[name]) for name in names]
    shared = set.intersection(*map(set, tables))
    return {seed: float(np.mean([table[seed] for table in tables])) for seed in sorted(shared)}


def _accuracies(runs: Sequence[PolicyRun]) -> dict[int, float]:
    return {run.seed: run.test_accuracy for run in runs}


def _mean_over(runs: Runs, names: Sequence[str], field: str) -> float | None:
    """Return the mean over policies of their means over seeds, or None if a policy has no value."""
    spreads = [_over_seeds(runs[name], field) for name in names]
    means = [each.mean for each in spreads if each]
    return float(np.mean(means)) if len(means) == len(names) else None


def _over_seeds(runs: Sequence[PolicyRun], field: str) -> Spread | None:
    return spread(getattr(run, field) for run in runs)


def _table(caption: str, runs: Runs) -> Table:
    """Return what each policy reached and cost, and how far it is beyond the first fixed one."""
    base = next(iter(sides(runs)[1]), "")
    columns = (
        *worded("policy"),
        *numeric("seeds", "test accuracy", f"points beyond {base}"),
        *numeric(*(title for title, _, _ in _MEASURES)),
        *numeric("parameters"),
    )
    rows = tuple(
        (
            name,
            units.count(len(group)),
            units.percent_spread(_over_seeds(group, "test_accuracy")),
            "" if name == base else _beyond(difference(_accuracies(group), _accuracies(runs.get(base, ())))),
            *(write(_over_seeds(group, field)) for _, field, write in _MEASURES),
            units.span(run.parameters for run in group),
        )
        for name, group in runs.items()
    )
    return Table(caption, columns, rows)


def _beyond(gap: Difference | None) -> str:
    if gap is None:
        return ""
    if gap.low is None or gap.high is None:
        return f"{units.points(gap.value)} (no interval)"
    return f"{units.points(gap.value)} ({units.points(gap.low)} to {units.points(gap.high)})"


def _charts(runs: Runs, styles: Sequence[Style]) -> list[Chart]:
    charts = []
    for heading, axis, field in (
        ("Accuracy against operations", "FLOPs per row of the head", "flops_per_row"),
        ("Accuracy against experts per row", "experts per row, mean", "experts_per_row_mean"),
    ):
        points = [
            {"policy": name, "seed": run.seed, "cost": cost, "accuracy": run.test_accuracy}
            for name, group in runs.items()
            for run in group
            if (cost := getattr(run, field))
        ]
        shown = [style for style in styles if any(point["policy"] == style.name for point in points)]
        if shown:
            chart = figures.accuracy_chart(points, axis, shown)
            charts.append(Chart(heading, canvas.spec(chart), _message(runs, shown, axis, field)))
    return charts


def _message(runs: Runs, shown: Sequence[Style], axis: str, field: str) -> str:
    """Say each policy's accuracy and cost, the most accurate first."""
    clauses = []
    for style in shown:
        accuracy, cost = (_over_seeds(runs[style.name], name) for name in ("test_accuracy", field))
        if accuracy and cost:
            words = f"{style.name} {units.percent_spread(accuracy)} at {units.quantity(cost.mean)}"
            clauses.append((accuracy.mean, words))
    ranked = [words for _, words in sorted(clauses, key=lambda clause: -clause[0])]
    return f"Test accuracy at {axis}, most accurate first: {'; '.join(ranked)}."


def _latency_table(study: PolicyStudy) -> Table | None:
    order = heads_first(item.policy for item in study.latency)
    items = sorted(study.latency, key=lambda item: order.index(item.policy))
    caption = f"Latency of one call of the head per form, wall clock; {study.device or 'device not recorded'}"
    return Table(caption, _LATENCY, tuple(_latency_row(item, study.rows) for item in items)) if items else None


def _latency_row(item: Latency, rows: int | None) -> tuple[str, ...]:
    size = item.rows if item.rows is not None else rows
    about = (item.policy, item.form, "" if size is None else units.count(size))
    if not item.seconds:
        return (*about, "", "", "", f"{item.status}: {item.reason}" if item.reason else item.status)
    samples = np.array(item.seconds)
    median = stats.median(samples, np.arange(samples.size))
    return (
        *about,
        units.seconds(median.value),
        units.seconds_interval(median),
        units.count(samples.size),
        item.reason,
    )
