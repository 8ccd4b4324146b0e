"""The section on routing policies, and its answer: does a number of experts that varies per row pay?

A policy is dynamic where the number of experts that serve a row depends on the row, fixed where every row asks for
the same number. The answer weighs every policy of a side alike, seed by seed, so that a seed's luck counts once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from reports.numbers import stats, units
from reports.numbers.seeds import INTERVAL, Difference, Spread, difference, spread
from reports.output import canvas, legend
from reports.output.blocks import (
    Chart,
    Grid,
    Panel,
    Section,
    Table,
    Text,
    folded,
    numeric,
    without_blanks,
    worded,
)
from reports.output.styles import CONTENDERS, Style, contenders
from reports.records.policy_study import Latency, PolicyRun, PolicyStudy
from reports.training import policy_figures as figures

DYNAMIC = ("top_p", "threshold", "expert_choice")
FIXED = ("top_k", "capacity")
BASE = "top_k"
EQUAL_WITHIN = 0.01  # parameters that differ by a smaller share count as equal

Measure = Callable[[PolicyRun], float | None]

_COLUMNS = (
    *worded("policy"),
    *numeric(
        "seeds",
        "test accuracy",
        f"points beyond {BASE}",
        "experts per row",
        "spread over rows",
        "load CV",
        "dropped",
        "rows without expert",
        "gate entropy, nats",
        "FLOPs per row",
        "expert and class, nats",
        "by chance",
        "expert and domain, nats",
        "by chance",
        "parameters",
    ),
)
_LATENCY = (*worded("policy", "form"), *numeric("rows", "median", units.INTERVAL, "n"), *worded("or why there is none"))


@dataclass(frozen=True)
class Contest:
    """Dynamic against fixed: the policies of each side, and the difference of their mean test accuracies."""

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
        reading="top_k and capacity give every row the same number of experts, capacity with a limit per expert; "
        "top_p, threshold and expert_choice let the number vary per row. Small marks are seeds, large ones their "
        "mean with one standard deviation on each side; up is more accurate, left is cheaper. Points beyond top_k "
        f"carry a {INTERVAL} by Student’s t, not widened for the number of policies. Mutual information says how much "
        "the expert tells of the class, or of the domain; by chance is what as many assignments give without any tie.",
        findings=answers,
    )


def _panel(study: PolicyStudy) -> Panel:
    runs = by_policy(study)
    looks = contenders(runs)
    caption = f"{title(study)}: mean and standard deviation over seeds"
    latency = _latency_table(study)
    return Panel(
        title(study),
        study.device,
        [
            Text(answer(study)),
            *(Text(note, "note") for note in _notes(study, runs)),
            legend.of_styles(looks, label="Policies"),
            Grid(_charts(runs, looks)),
            without_blanks(Table(caption, _COLUMNS, tuple(_rows(runs)))),
            *([folded(latency)] if latency else []),
        ],
    )


def _notes(study: PolicyStudy, runs: Mapping[str, Sequence[PolicyRun]]) -> Iterator[str]:
    """Yield the balance terms of the policies, and which runs failed."""
    yield from _balance(runs)
    for failure in study.failed:
        reason = failure.reason or "no reason was recorded"
        yield f"{failure.policy} with seed {failure.seed} has no result: {reason}"


def _balance(runs: Mapping[str, Sequence[PolicyRun]]) -> list[str]:
    """Return which losses kept the experts of which policy in use, in one sentence; none where no run says."""
    told = {
        name: units.listing([f"{term} {weight:g}" for term, weight in own[0].balance.items()])
        for name, own in runs.items()
        if own[0].balance
    }
    clauses = [
        f"{units.listing([name for name in told if told[name] == terms])} with {terms}"
        for terms in dict.fromkeys(told.values())
    ]
    return [f"Balance terms and their weights: {'; '.join(clauses)}; others with none."] if clauses else []


def title(study: PolicyStudy) -> str:
    """Return the recipe in words."""
    domains = f", domains {units.listing(study.domains)}" if study.domains else ""
    return f"Preset {study.preset} on {study.data}, {units.plural(study.epochs, 'epoch')}{domains}"


def by_policy(study: PolicyStudy) -> dict[str, list[PolicyRun]]:
    """Return the runs by policy, the known ones first; of a seed given twice the later run counts."""
    order = [*CONTENDERS]
    chosen = {(run.policy, run.seed): run for run in study.runs}
    names = {name for name, _ in chosen}
    ranked = sorted(names, key=lambda name: (order.index(name) if name in order else 99, name))
    return {name: [run for (policy, _), run in sorted(chosen.items()) if policy == name] for name in ranked}


def contest(runs: Mapping[str, Sequence[PolicyRun]]) -> Contest | None:
    """Return dynamic against fixed, or None where a side has no run.

    A side's accuracy for a seed is the mean over its policies; a seed counts where all policies of the side have it.
    """
    dynamic, fixed = (tuple(name for name in runs if _policy(name) in side) for side in (DYNAMIC, FIXED))
    sides = [_side(runs, names) for names in (dynamic, fixed)]
    found = difference(*sides) if dynamic and fixed else None
    return Contest(dynamic, fixed, found) if found else None


def answer(study: PolicyStudy) -> str:
    """Return the answer to the question in words that its interval allows, and what it costs."""
    runs = by_policy(study)
    found = contest(runs)
    if found is None:
        return _unanswered(runs)
    return " ".join(filter(None, (_difference(found, _equality(runs, found)), _cost(runs, found))))


def _difference(found: Contest, equality: str) -> str:
    gap = found.difference
    sides = f"dynamic routing ({units.listing(found.dynamic)}) and fixed capacity ({units.listing(found.fixed)})"
    if gap.low is None or gap.high is None:
        return (
            f"Between {sides} {equality} the mean test accuracy differs by {units.points(gap.value)} points, dynamic "
            f"minus fixed; {units.plural(gap.n, 'seed')} on a side allow no interval, so this decides nothing."
        )
    over = f"paired over {gap.n} seeds" if gap.paired else f"unpaired, {gap.n} seeds or more a side"
    interval = f"{INTERVAL} {units.points(gap.low)} to {units.points(gap.high)}, {over}"
    if not gap.clear:
        return (
            f"No difference is shown between {sides} {equality}: the mean test accuracy differs by "
            f"{units.points(gap.value)} points, dynamic minus fixed ({interval}, which contains 0)."
        )
    word = "more" if gap.value > 0 else "less"
    return (
        f"Dynamic routing ({units.listing(found.dynamic)}) is {word} accurate than fixed capacity "
        f"({units.listing(found.fixed)}) {equality}: {units.points(gap.value)} points of mean test accuracy "
        f"({interval}, which leaves out 0)."
    )


def _equality(runs: Mapping[str, Sequence[PolicyRun]], found: Contest) -> str:
    sizes = {
        run.parameters for name in (*found.dynamic, *found.fixed) for run in runs[name] if run.parameters is not None
    }
    if not sizes:
        return "(parameters not recorded)"
    if max(sizes) - min(sizes) > EQUAL_WITHIN * max(sizes):
        return f"at unequal parameters ({units.span(sizes)})"
    return f"at equal parameters ({units.span(sizes)})"


def _cost(runs: Mapping[str, Sequence[PolicyRun]], found: Contest) -> str:
    """Say what both sides spend, for more experts per row buy accuracy on either."""
    clauses = []
    for words, measure in (
        ("experts per row", lambda run: run.experts_per_row_mean),
        ("FLOPs per row", lambda run: run.flops_per_row),
    ):
        means = [_mean_over(runs, names, measure) for names in (found.dynamic, found.fixed)]
        if None not in means:
            clauses.append(f"{units.quantity(means[0])} against {units.quantity(means[1])} {words}")
    return f"Dynamic against fixed, they run {units.listing(clauses)} on average." if clauses else ""


def _unanswered(runs: Mapping[str, Sequence[PolicyRun]]) -> str:
    sides = (("dynamic", DYNAMIC), ("fixed capacity", FIXED))
    missing = [
        f"{words} ({', '.join(names)})" for words, names in sides if not any(_policy(run) in names for run in runs)
    ]
    if not missing:
        missing = ["one side with all its policies on the same seed"]
    return (
        "Whether dynamic routing beats fixed capacity is not answered: there is no run of "
        f"{units.listing(missing)}; `moegap policies` trains them all."
    )


def _policy(name: str) -> str:
    """Return the policy of a contender, which its settings may follow, as in `top_p:mass=0.6`."""
    return name.partition(":")[0]


def _side(runs: Mapping[str, Sequence[PolicyRun]], names: Sequence[str]) -> dict[int, float]:
    """Return the mean test accuracy over the policies `names`, for each seed that all of them have."""
    tables = [{run.seed: run.test_accuracy for run in runs[name]} for name in names]
    shared = set.intersection(*map(set, tables)) if tables else set()
    return {seed: float(np.mean([table[seed] for table in tables])) for seed in sorted(shared)}


def _mean_over(runs: Mapping[str, Sequence[PolicyRun]], names: Sequence[str], measure: Measure) -> float | None:
    """Return the mean over policies of their means over seeds, or None where a policy has no value."""
    means = [found.mean for name in names if (found := _over_seeds(runs[name], measure))]
    return float(np.mean(means)) if len(means) == len(names) else None


def _over_seeds(runs: Sequence[PolicyRun], measure: Measure) -> Spread | None:
    return spread([value for run in runs if (value := measure(run)) is not None])


def _rows(runs: Mapping[str, Sequence[PolicyRun]]) -> Iterable[tuple[str, ...]]:
    base = {run.seed: run.test_accuracy for run in runs.get(BASE, ())}
    for name, own in runs.items():
        accuracies = {run.seed: run.test_accuracy for run in own}
        dropped = _over_seeds(own, lambda run: run.dropped)
        yield (
            name,
            units.count(len(own)),
            units.percent_spread(_over_seeds(own, lambda run: run.test_accuracy)),
            "" if name == BASE else _beyond(difference(accuracies, base)),
            *(
                units.spread(_over_seeds(own, measure))
                for measure in (
                    lambda run: run.experts_per_row_mean,
                    lambda run: run.experts_per_row_std,
                    lambda run: run.load_cv,
                )
            ),
            units.percent_spread(dropped),
            units.percent_spread(_over_seeds(own, lambda run: run.unserved)),
            *(
                units.spread(_over_seeds(own, measure))
                for measure in (
                    lambda run: run.gate_entropy,
                    lambda run: run.flops_per_row,
                    lambda run: run.class_information,
                    lambda run: run.class_chance,
                    lambda run: run.domain_information,
                    lambda run: run.domain_chance,
                )
            ),
            units.span(run.parameters for run in own),
        )


def _beyond(gap: Difference | None) -> str:
    if gap is None:
        return ""
    if gap.low is None or gap.high is None:
        return f"{units.points(gap.value)} (no interval)"
    return f"{units.points(gap.value)} ({units.points(gap.low)} to {units.points(gap.high)})"


def _charts(runs: Mapping[str, Sequence[PolicyRun]], looks: Sequence[Style]) -> list[Chart]:
    charts = []
    for heading, axis, measure in (
        ("Accuracy against operations", "FLOPs per row of the head", lambda run: run.flops_per_row),
        ("Accuracy against experts per row", "experts per row, mean", lambda run: run.experts_per_row_mean),
    ):
        points = [
            {"policy": name, "seed": run.seed, "cost": cost, "accuracy": run.test_accuracy}
            for name, own in runs.items()
            for run in own
            if (cost := measure(run))
        ]
        shown = [style for style in looks if any(point["policy"] == style.name for point in points)]
        if shown:
            chart = figures.accuracy_chart(points, axis, shown)
            charts.append(Chart(heading, canvas.spec(chart), _message(runs, shown, axis, measure)))
    return charts


def _message(runs: Mapping[str, Sequence[PolicyRun]], shown: Sequence[Style], axis: str, measure: Measure) -> str:
    """Say each policy's accuracy and cost, the most accurate first."""
    found = []
    for style in shown:
        own = runs[style.name]
        accuracy, cost = _over_seeds(own, lambda run: run.test_accuracy), _over_seeds(own, measure)
        if accuracy and cost:
            found.append(
                (accuracy.mean, f"{style.name} {units.percent_spread(accuracy)} at {units.quantity(cost.mean)}")
            )
    ranked = [words for _, words in sorted(found, key=lambda item: -item[0])]
    return f"Test accuracy at {axis}, most accurate first: {'; '.join(ranked)}."


def _latency_table(study: PolicyStudy) -> Table | None:
    order = [*CONTENDERS]
    found = sorted(
        study.latency, key=lambda item: (order.index(item.policy) if item.policy in order else 99, item.policy)
    )
    rows = tuple(_latency_row(item, study.rows) for item in found)
    caption = f"Latency of one call of the head per form, wall clock; {study.device or 'device not recorded'}"
    return Table(caption, _LATENCY, rows) if rows else None


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
