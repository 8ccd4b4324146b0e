"""The section on trainings: how accurate each head became, how fast it learned, and how its routing developed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from operator import attrgetter

import numpy as np

from reports.numbers import units
from reports.numbers.seeds import spread
from reports.output import canvas, legend
from reports.output.blocks import (
    Block,
    Chart,
    Grid,
    Legend,
    Panel,
    Section,
    Subsection,
    Table,
    Text,
    numeric,
    without_blanks,
    worded,
)
from reports.output.styles import Style, contenders, heads_first
from reports.records.fields import ROUNDING
from reports.records.training_study import TrainingRun, TrainingStudy
from reports.training import curve_figures as figures
from reports.training.paper import DEFECTS, head_name

STATISTICS = (
    ("utilisation", "experts in use, share", "Experts in use"),
    ("gate_entropy", "gate entropy, nats", "Entropy of the gate"),
    ("load_cv", "CV of the experts' load", "Imbalance of the load"),
)
MINIMISED = (
    "On training images it is the loss that was minimised, with label smoothing, balance terms and augmentation, if "
    "any."
)
_CLASSES = (
    "each row is a class, each cell the share in percent of that class’s assignments that one expert serves; a row "
    "sums to 100. Experts have no order, so one seed is shown and none are averaged."
)
_LINES = (
    legend.line("validation images"),
    legend.line("training images", dash="5 3"),
    legend.line("mean over seeds", width=2.5),
    legend.line("one seed", width=0.8, opacity=0.7),
)
_COLUMNS = (
    *worded("head"),
    *numeric("seeds", "parameters", "best epoch", "validation", "test", "train", "time"),
    *worded("device"),
)


@dataclass(frozen=True)
class Recipe:
    """All runs of one recipe: by head, one per seed, and the devices that those of each head ran on."""

    preset: str
    data: str
    epochs: int
    runs: dict[str, list[TrainingRun]]
    devices: dict[str, set[str]]

    @property
    def title(self) -> str:
        """The recipe in words."""
        return f"Preset {self.preset} on {self.data}, {units.plural(self.epochs, 'epoch')}"


def recipes(studies: Sequence[TrainingStudy]) -> list[Recipe]:
    """Return the runs of all studies by recipe and head; if a run occurs twice, that of the later file counts.

    A study made from a lone history has no result, so any other replaces it.
    """
    by_recipe: dict[tuple[str, str, int], dict[tuple[str, int], tuple[TrainingRun, str]]] = {}
    for study in sorted(studies, key=lambda study: (_has_results(study), study.environment.get("date", ""))):
        runs = by_recipe.setdefault((study.preset, study.data, study.epochs), {})
        runs |= {(head_name(run.head, run.policy), run.seed): (run, study.device) for run in study.runs}
    result = []
    for recipe, runs in sorted(by_recipe.items()):
        ordered = sorted(runs)
        names = heads_first(name for name, _ in ordered)
        by_head = {name: [runs[key] for key in ordered if key[0] == name] for name in names}
        devices = {name: {device for _, device in pairs if device} for name, pairs in by_head.items()}
        result.append(Recipe(*recipe, {name: [run for run, _ in pairs] for name, pairs in by_head.items()}, devices))
    return result


def _has_results(study: TrainingStudy) -> bool:
    return any(run.test_accuracy is not None for run in study.runs)


def training_section(recipes: Sequence[Recipe]) -> Section | None:
    """Return the curves and results of every recipe, or None without any."""
    if not recipes:
        return None
    return Section(
        "training",
        "Training",
        [_panel(recipe) for recipe in recipes],
        reading="validation images choose the best epoch, test images are used once; ± is the sample standard "
        "deviation over seeds, and time is that of the whole training.",
        findings=[sentence(recipe) for recipe in recipes],
        about="test accuracy and time of the trained heads",
    )


def sentence(recipe: Recipe) -> str:
    """Return what the test accuracies show, in one sentence."""
    spreads = {name: spread(run.test_accuracy for run in runs) for name, runs in recipe.runs.items()}
    clauses = [
        f"{name} {units.percent_spread(test)} ({units.plural(test.n, 'seed')})"
        for name, test in spreads.items()
        if test
    ]
    if not clauses:
        return f"{recipe.title}: no training has ended yet."
    return f"{recipe.title}: mean test accuracy {units.listing(clauses)}."


def _panel(recipe: Recipe) -> Panel:
    styles = contenders(recipe.runs)
    blocks: list[Block] = [Text(sentence(recipe))]
    if recipe.preset == "paper":
        blocks.append(Text(f"The preset paper repeats defect 1 of the published code on purpose: {DEFECTS[1]}"))
    blocks.append(without_blanks(_table(recipe)))
    if learning := [*_learning(recipe, styles, "accuracy"), *_learning(recipe, styles, "loss")]:
        blocks += [Legend("Lines", _LINES), Grid(learning)]
    routed = {name: runs for name, runs in recipe.runs.items() if _routed(runs)}
    if routing := _routing(recipe, routed, styles):
        heads = legend.of_styles([style for style in styles if style.name in routed], label="Heads")
        blocks.append(Subsection("Routing, epoch by epoch", [heads, Grid(routing)]))
    if classes := [chart for name, runs in routed.items() for chart in _classes(name, runs)]:
        blocks.append(Subsection("Which expert serves which class", [Grid(classes)], reading=_CLASSES))
    return Panel(recipe.title, ", ".join(sorted(set().union(*recipe.devices.values()))), blocks)


def _table(recipe: Recipe) -> Table:
    rows = []
    for name, runs in recipe.runs.items():
        time = spread(run.seconds for run in runs)
        accuracies = [spread(map(attrgetter(f"{part}_accuracy"), runs)) for part in ("val", "test", "train")]
        ended = sum(run.test_accuracy is not None for run in runs)
        rows.append(
            (
                name,
                units.count(ended) if ended == len(runs) else f"{ended} of {len(runs)}",
                units.span(run.parameters for run in runs),
                units.span(run.best_epoch for run in runs),
                *map(units.percent_spread, accuracies),
                units.duration(time.mean) if time else "",
                ", ".join(sorted(recipe.devices[name])),
            )
        )
    return Table(f"{recipe.title}: mean and standard deviation over seeds", _COLUMNS, tuple(rows))


def _learning(recipe: Recipe, styles: Sequence[Style], quantity: str) -> list[Chart]:
    """Return the curve of each head that has one, all on one scale."""
    fields = (f"train_{quantity}", f"val_{quantity}")
    values = {
        name: [point["value"] for field in fields for point in figures.curve(runs, field)]
        for name, runs in recipe.runs.items()
    }
    every = [value for each in values.values() for value in each]
    charts = []
    for style in styles:
        if values[style.name]:
            runs = recipe.runs[style.name]
            chart = figures.learning_chart(runs, quantity, style, (min(every), max(every)), _last(recipe))
            message = _learning_message(style.name, runs, quantity)
            charts.append(Chart(f"{style.name}, {quantity}", canvas.spec(chart), message))
    return charts


def _learning_message(name: str, runs: Sequence[TrainingRun], quantity: str) -> str:
    """Say where validation was best and where training ended."""
    accuracy = quantity == "accuracy"
    best, extreme, word = (max, "highest", units.percent) if accuracy else (min, "lowest", units.quantity)
    train, validation = (figures.mean_curve(figures.curve(runs, f"{part}_{quantity}")) for part in ("train", "val"))
    clauses = []
    if validation:
        point = best(validation, key=lambda point: point["value"])
        clauses.append(f"{extreme} on validation images at epoch {point['epoch']}, {word(point['value'])},")
    if train:
        clauses.append(f"{word(train[-1]['value'])} on training images at epoch {train[-1]['epoch']}")
    over = f"mean of {units.plural(len(runs), 'seed')}" if len(runs) > 1 else "one seed"
    message = f"The {quantity} of {name} ({over}) is {units.listing(clauses).rstrip(',')}."
    return message if accuracy or not train else f"{message} {MINIMISED}"


def _routing(recipe: Recipe, routed: dict[str, list[TrainingRun]], styles: Sequence[Style]) -> list[Chart]:
    charts = []
    for field, axis, heading in STATISTICS:
        curves = {name: figures.mean_curve(figures.curve(runs, field)) for name, runs in routed.items()}
        shown = {name: routed[name] for name, points in curves.items() if points}
        if shown:
            chart = figures.routing_chart(shown, field, axis, styles, _last(recipe))
            ends = [
                f"{name} from {units.quantity(points[0]['value'])} to {units.quantity(points[-1]['value'])}"
                for name, points in curves.items()
                if points
            ]
            message = f"{axis[0].upper()}{axis[1:]}, first to last epoch, mean over seeds: {'; '.join(ends)}."
            charts.append(Chart(heading, canvas.spec(chart), message))
    return charts


def _classes(name: str, runs: Sequence[TrainingRun]) -> list[Chart]:
    """Return the heat map of one seed: experts have no order, so seeds cannot be averaged."""
    for run in runs:
        for row in reversed(run.history):
            if row.class_load and _uneven(row.class_load):
                chart = figures.class_chart(row.class_load)
                heading = f"{name}, seed {run.seed}, epoch {row.epoch}"
                return [Chart(heading, canvas.spec(chart), _class_message(row.class_load))]
    return []


def _uneven(shares: Sequence[Sequence[float]]) -> bool:
    """Return whether any class uses its experts unevenly; a head that runs all of them for every row does not."""
    return any(max(row) - min(row) > ROUNDING for row in shares if row)


def _class_message(shares: Sequence[Sequence[float]]) -> str:
    label, expert = map(int, np.unravel_index(np.argmax(shares), np.shape(shares)))
    return (
        f"The strongest pair is expert {expert} with class {label}: it serves "
        f"{units.percent(shares[label][expert])} of that class's assignments, "
        f"where an even split would give {units.percent(1 / len(shares[0]))}."
    )


def _routed(runs: Sequence[TrainingRun]) -> bool:
    return any(row.utilisation is not None or row.class_load for run in runs for row in run.history)


def _last(recipe: Recipe) -> int:
    return max([recipe.epochs, *(row.epoch for runs in recipe.runs.values() for run in runs for row in run.history)])
