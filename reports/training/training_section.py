"""The section on trainings: how accurate each head became, how fast it learned, and how its routing developed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from operator import attrgetter

from reports.numbers import units
from reports.numbers.seeds import Spread, spread
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
from reports.records.training_study import Run, TrainingStudy
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
class DeviceRun:
    """A run, and the device that it ran on."""

    run: Run
    device: str


@dataclass(frozen=True)
class Recipe:
    """All runs of one recipe: preset, data and number of epochs; `trials` by head, one per seed."""

    preset: str
    data: str
    epochs: int
    trials: dict[str, list[DeviceRun]]

    def runs(self, name: str) -> list[Run]:
        """Return the runs of a head, by seed."""
        return [trial.run for trial in self.trials[name]]

    def over_seeds(self, name: str, measure: Callable[[Run], float | None]) -> Spread | None:
        """Return mean and spread of a measure over the seeds of a head that have it."""
        return spread([value for run in self.runs(name) if (value := measure(run)) is not None])

    @property
    def title(self) -> str:
        """The recipe in words."""
        return f"Preset {self.preset} on {self.data}, {units.plural(self.epochs, 'epoch')}"

    @property
    def devices(self) -> str:
        """The devices that the runs ran on."""
        return ", ".join(sorted({trial.device for trials in self.trials.values() for trial in trials} - {""}))


def recipes(studies: Sequence[TrainingStudy]) -> list[Recipe]:
    """Return the runs of all studies by recipe and head; if a run occurs twice, that of the later file counts."""
    by_recipe: dict[tuple[str, str, int], dict[tuple[str, int], DeviceRun]] = {}
    for study in sorted(studies, key=lambda study: (_finished(study), study.environment.get("date", ""))):
        trials = by_recipe.setdefault((study.preset, study.data, study.epochs), {})
        trials |= {(head_name(run.head, run.policy), run.seed): DeviceRun(run, study.device) for run in study.runs}
    return [Recipe(*recipe, _by_head(trials)) for recipe, trials in sorted(by_recipe.items())]


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
    )


def sentence(recipe: Recipe) -> str:
    """Return what the test accuracies show, in one sentence."""
    clauses = []
    for name in recipe.trials:
        test = recipe.over_seeds(name, lambda run: run.test_accuracy)
        if test:
            clauses.append(f"{name} {units.percent_spread(test)} ({units.plural(test.n, 'seed')})")
    if not clauses:
        return f"{recipe.title}: no training has ended yet."
    return f"{recipe.title}: mean test accuracy {units.listing(clauses)}."


def _panel(recipe: Recipe) -> Panel:
    styles = contenders(recipe.trials)
    blocks: list[Block] = [Text(sentence(recipe))]
    if recipe.preset == "paper":
        blocks.append(Text(f"The preset paper repeats defect 1 of the published code on purpose: {DEFECTS[1]}"))
    blocks.append(without_blanks(_table(recipe)))
    if learning := [*_learning(recipe, styles, "accuracy"), *_learning(recipe, styles, "loss")]:
        blocks += [Legend("Lines", _LINES), Grid(learning)]
    routed = {name: runs for name in recipe.trials if _routed(runs := recipe.runs(name))}
    if routing := _routing(recipe, routed, styles):
        heads = legend.of_styles([style for style in styles if style.name in routed], label="Heads")
        blocks.append(Subsection("Routing, epoch by epoch", [heads, Grid(routing)]))
    if classes := [chart for name, runs in routed.items() for chart in _classes(name, runs)]:
        blocks.append(Subsection("Which expert serves which class", [Grid(classes)], reading=_CLASSES))
    return Panel(recipe.title, recipe.devices, blocks)


def _table(recipe: Recipe) -> Table:
    rows = []
    for name, trials in recipe.trials.items():
        runs = recipe.runs(name)
        time = recipe.over_seeds(name, lambda run: run.seconds)
        accuracies = [recipe.over_seeds(name, attrgetter(f"{part}_accuracy")) for part in ("val", "test", "train")]
        rows.append(
            (
                name,
                _finished_of(runs),
                units.span(run.parameters for run in runs),
                units.span(run.best_epoch for run in runs),
                *map(units.percent_spread, accuracies),
                units.duration(time.mean) if time else "",
                ", ".join(sorted({trial.device for trial in trials} - {""})),
            )
        )
    return Table(f"{recipe.title}: mean and standard deviation over seeds", _COLUMNS, tuple(rows))


def _finished_of(runs: Sequence[Run]) -> str:
    """Return how many runs have a result, and of how many if some have none yet."""
    ended = sum(run.test_accuracy is not None for run in runs)
    return units.count(ended) if ended == len(runs) else f"{ended} of {len(runs)}"


def _learning(recipe: Recipe, styles: Sequence[Style], quantity: str) -> list[Chart]:
    """Return the curve of each head that has one, all on one scale."""
    fields = (f"train_{quantity}", f"val_{quantity}")
    every = [run for name in recipe.trials for run in recipe.runs(name)]
    values = [point["value"] for field in fields for point in figures.curve(every, field)]
    charts = []
    for style in styles:
        runs = recipe.runs(style.name)
        if any(figures.curve(runs, field) for field in fields):
            chart = figures.learning_chart(runs, quantity, style, (min(values), max(values)), _last(recipe))
            heading = f"{style.name}, {quantity}"
            charts.append(Chart(heading, canvas.spec(chart), _learning_message(style.name, runs, quantity)))
    return charts


def _learning_message(name: str, runs: Sequence[Run], quantity: str) -> str:
    """Say where validation was best and where training ended."""
    best = max if quantity == "accuracy" else min
    word = units.percent if quantity == "accuracy" else units.quantity
    clauses = []
    validation = figures.mean_curve(figures.curve(runs, f"val_{quantity}"))
    if validation:
        point = best(validation, key=lambda point: point["value"])
        extreme = "highest" if quantity == "accuracy" else "lowest"
        clauses.append(f"{extreme} on validation images at epoch {point['epoch']}, {word(point['value'])},")
    train = figures.mean_curve(figures.curve(runs, f"train_{quantity}"))
    if train:
        clauses.append(f"{word(train[-1]['value'])} on training images at epoch {train[-1]['epoch']}")
    over = f"mean of {units.plural(len(runs), 'seed')}" if len(runs) > 1 else "one seed"
    message = f"The {quantity} of {name} ({over}) is {units.listing(clauses).rstrip(',')}."
    return message if quantity == "accuracy" or not train else f"{message} {MINIMISED}"


def _routing(recipe: Recipe, routed: dict[str, list[Run]], styles: Sequence[Style]) -> list[Chart]:
    charts = []
    for field, axis, heading in STATISTICS:
        shown = {name: runs for name, runs in routed.items() if figures.curve(runs, field)}
        if shown:
            chart = figures.routing_chart(shown, field, axis, styles, _last(recipe))
            ends = []
            for name, runs in shown.items():
                means = figures.mean_curve(figures.curve(runs, field))
                first, last = (units.quantity(means[place]["value"]) for place in (0, -1))
                ends.append(f"{name} from {first} to {last}")
            message = f"{axis[0].upper()}{axis[1:]}, first to last epoch, mean over seeds: {'; '.join(ends)}."
            charts.append(Chart(heading, canvas.spec(chart), message))
    return charts


def _classes(name: str, runs: Sequence[Run]) -> list[Chart]:
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
    cells = [(share, label, expert) for label, row in enumerate(shares) for expert, share in enumerate(row)]
    share, label, expert = max(cells, key=lambda cell: (cell[0], -cell[1], -cell[2]))
    even = units.percent(1 / len(shares[0]))
    return (
        f"The strongest pair is expert {expert} with class {label}: it serves {units.percent(share)} of that class's "
        f"assignments, where an even split would give {even}."
    )


def _routed(runs: Sequence[Run]) -> bool:
    return any(row.utilisation is not None or row.class_load for run in runs for row in run.history)


def _last(recipe: Recipe) -> int:
    reached = [row.epoch for name in recipe.trials for run in recipe.runs(name) for row in run.history]
    return max(recipe.epochs, *reached) if reached else recipe.epochs


def _by_head(trials: dict[tuple[str, int], DeviceRun]) -> dict[str, list[DeviceRun]]:
    runs = sorted(trials.items(), key=lambda item: item[0])
    names = heads_first(name for (name, _), _ in runs)
    return {name: [trial for (head, _), trial in runs if head == name] for name in names}


def _finished(study: TrainingStudy) -> bool:
    """Return whether a study has results; one made from a lone history has none, so any other replaces it."""
    return any(run.test_accuracy is not None for run in study.runs)
