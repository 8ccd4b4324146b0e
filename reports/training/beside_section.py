"""The paper beside us: each published number, ours, whether they agree, and if not why.

Only a run of the paper's recipe, on its data and over all its epochs, counts as ours. Others are at most named for
orientation.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import PurePath

from reports.numbers import units
from reports.numbers.seeds import Spread, spread
from reports.output.blocks import Section, Table, Text, numeric, without_blanks, worded
from reports.records.record import CaseRecord
from reports.records.sharpness import BlockCurvature, Sharpness
from reports.records.training_study import Run
from reports.training.paper import (
    BATCHES,
    DATA,
    DEFECTS,
    EPOCHS,
    HEADS,
    POLICY,
    PUBLISHED,
    SUBSET_IMAGES,
    TOLERANCES,
    WHY,
    Published,
    Quantity,
)
from reports.training.training_section import Recipe

PAPER, FIXED = "paper", "paper-fixed"
AUGMENTATION, EIGENVALUES = 1, 8  # the defects that move a published number
EXPLAINED = "The defect is explained below."

_COLUMNS = (
    *worded("number", "head"),
    *numeric("published", "ours", "seeds"),
    *worded("device", "tolerance", "verdict", "why, or how to run it"),
)


class Reproduction(StrEnum):
    """What became of a published number; the second is followed by the defect's number."""

    REPRODUCED = "reproduced"
    DEFECT = "differs because of defect"
    DIFFERS = "differs"
    NOT_RUN = "not yet run"


@dataclass(frozen=True)
class Beside:
    """A published number and ours with the device it comes from; without ours, `reason` is the command to get it."""

    published: Published
    ours: Spread | None
    device: str
    verdict: Reproduction
    defect: int | None
    reason: str

    @property
    def words(self) -> str:
        """The verdict with the defect's number."""
        return f"{self.verdict} {self.defect}" if self.defect else str(self.verdict)


def beside_section(recipes: Sequence[Recipe], sharpness: Sequence[Sharpness], records: Sequence[CaseRecord]) -> Section:
    """Return the paper beside what these trainings, curvatures and benchmark records hold.

    There are two tables: of the recipe as published, and with its augmentation on.
    """
    published = [
        *(_trained(number, recipes, PAPER) for number in PUBLISHED if number.quantity in _TRAINED),
        *(
            _curved(number, recipes, sharpness)
            for number in PUBLISHED
            if number.quantity.partition(",")[0] in _CURVATURE
        ),
        *(_counted(number, recipes, records) for number in PUBLISHED if number.quantity in _COUNTED),
    ]
    corrected = [
        _trained(number, recipes, FIXED)
        for number in PUBLISHED
        if number.quantity in ("validation accuracy", "test accuracy", "best epoch")
    ]
    used = sorted({row.defect for row in (*published, *corrected) if row.defect})
    return Section(
        "beside",
        "The paper beside us",
        [
            Text(_tally(published)),
            Text(WHY),
            _table("The recipe as published, defect 1 included (preset paper)", published),
            _table("The recipe with its augmentation really on (preset paper-fixed)", corrected),
            *(Text(f"Defect {number}: {DEFECTS[number]}") for number in used),
        ],
        reading="what arXiv 2601.15021 published, beside the same recipe here: mean and sample standard deviation over "
        "seeds. Other recipes, data or lengths never count; if one is named, it is for orientation.",
        findings=[_tally(published)],
    )


def _speed(run: Run) -> float | None:
    """Return batches per second of a training, validation included."""
    seconds = [row.seconds for row in run.history if row.seconds]
    if seconds:
        return BATCHES * len(seconds) / sum(seconds)
    return BATCHES * EPOCHS / run.seconds if run.seconds else None


_TRAINED: dict[Quantity, Callable[[Run], float | None]] = {
    "validation accuracy": lambda run: run.val_accuracy,
    "test accuracy": lambda run: run.test_accuracy,
    "best epoch": lambda run: run.best_epoch,
    "batches/s in training": _speed,
}


def _trained(number: Published, recipes: Sequence[Recipe], preset: str) -> Beside:
    measure = _TRAINED[number.quantity]
    for recipe in recipes:
        same = (recipe.preset, recipe.data, recipe.epochs) == (preset, DATA, EPOCHS)
        if same and number.head in recipe.trials:
            ours = recipe.over_seeds(number.head, lambda run: measure(run) if run.test_accuracy is not None else None)
            if ours:
                devices = {trial.device for trial in recipe.trials[number.head]}
                return _judged(number, ours, devices, _training_cause(number, ours, preset))
    command = f"moegap train --head all --seeds 3 --preset {preset} --data {DATA} --out runs/{preset}"
    return _not_run(number, f"{command}{_orientation(number, recipes, measure)}")


def _training_cause(number: Published, ours: Spread, preset: str) -> tuple[int | None, str]:
    """Return the defect that explains a difference, if one does, and the words for it."""
    if number.quantity == "batches/s in training":
        return None, "Another device and implementation; ours includes validation."
    higher = ours.mean > number.value
    if preset == FIXED and (higher or number.quantity == "best epoch"):
        return AUGMENTATION, EXPLAINED
    if number.head != "dense":
        return None, "No known defect explains this, but defects 2 to 6, corrected here, act on this head's gate."
    return None, "No known defect explains this: the recipe is the published one."


def _orientation(number: Published, recipes: Sequence[Recipe], measure: Callable[[Run], float | None]) -> str:
    """Return what other recipes reached, marked as no reproduction."""
    if "accuracy" not in number.quantity:
        return ""
    others = []
    for recipe in recipes:
        accuracy = recipe.over_seeds(number.head, measure) if number.head in recipe.trials else None
        if accuracy and (recipe.preset not in (PAPER, FIXED) or (recipe.data, recipe.epochs) != (DATA, EPOCHS)):
            name = f"{recipe.preset} on {recipe.data}, {units.plural(recipe.epochs, 'epoch')}"
            others.append(f"{name}, {units.percent_spread(accuracy)}")
    return f" (for orientation only: {'; '.join(others)})" if others else ""


_CURVATURE: dict[str, Callable[[BlockCurvature], float | None]] = {
    "largest eigenvalue": lambda block: block.largest,
    "trace": lambda block: block.trace.value if block.trace else None,
}


def _curved(number: Published, recipes: Sequence[Recipe], sharpness: Sequence[Sharpness]) -> Beside:
    quantity, subset = number.quantity.split(", ")
    values, devices = [], set()
    for file in sharpness:
        if (file.head, file.data, _preset(file, recipes)) != (number.head, DATA, PAPER):
            continue
        for part in file.parts:
            counts = (part.subset, part.images) == (subset, SUBSET_IMAGES)
            value = _CURVATURE[quantity](part.whole) if counts and part.whole else None
            if value is not None:
                values.append(value)
                devices.add(file.device)
    if ours := spread(values):
        return _judged(number, ours, devices, (EIGENVALUES, EXPLAINED))
    command = f"moegap sharpness runs/{PAPER}/{number.head}-seed* --images {SUBSET_IMAGES} --out runs/{PAPER}/sharpness"
    return _not_run(number, f"{command} after the training above")


def _preset(file: Sharpness, recipes: Sequence[Recipe]) -> str | None:
    """Return the preset that a checkpoint was trained with: as its file says, or as the only study that holds it."""
    if file.preset is not None:
        return file.preset
    folder = PurePath(file.checkpoint).name
    holding = {
        recipe.preset for recipe in recipes for name in recipe.trials for run in recipe.runs(name)
        if run.folder == folder and recipe.epochs == EPOCHS
    }  # fmt: skip
    return holding.pop() if len(holding) == 1 else None


_COUNTED: tuple[Quantity, ...] = ("parameters of the head", "FLOPs saved, dense / sparse")


def _counted(number: Published, recipes: Sequence[Recipe], records: Sequence[CaseRecord]) -> Beside:
    """Compare what is counted, on the benchmark records of heads of the paper's size, or on trained ones."""
    heads = {record.head: record for record in records if _of_papers_size(record)}
    value: float | None = None
    if number.quantity == "parameters of the head":
        sizes: dict[str, int] = {head: record.parameters for head, record in heads.items()}
        value = sizes.get(number.head) or _trained_parameters(number.head, recipes)
    elif number.quantity == "FLOPs saved, dense / sparse" and {"dense", "sparse"} <= heads.keys():
        per_row = {name: record.flops / record.rows for name, record in heads.items()}
        value = per_row["dense"] / per_row["sparse"] if per_row["sparse"] else None
    if value is None:
        return _not_run(number, "moegap bench --suite paper --out runs/paper.json")
    cause = (None, "No known defect explains this: it is counted from the same sizes.")
    return _judged(number, Spread(value, None, 1), {"counted"}, cause)


def _trained_parameters(head: str, recipes: Sequence[Recipe]) -> float | None:
    for recipe in recipes:
        if recipe.preset in (PAPER, FIXED) and recipe.data == DATA and head in recipe.trials:
            parameters = recipe.over_seeds(head, lambda run: run.parameters)
            return parameters.mean if parameters else None
    return None


def _of_papers_size(record: CaseRecord) -> bool:
    sizes = {"dense": (512, 1, 1), "soft": (64, 8, 8), "sparse": (64, 8, 2)}
    same = (record.hidden, record.experts, record.k) == sizes[record.head]
    usual = record.policy in ("", POLICY)
    return same and usual and (record.part, record.features, record.classes) == ("head", 512, 10) and record.rows > 0


def _judged(number: Published, ours: Spread, devices: set[str], cause: tuple[int | None, str]) -> Beside:
    device = ", ".join(sorted(devices - {""}))
    if TOLERANCES[number.quantity].within(number.value, ours.mean):
        return Beside(number, ours, device, Reproduction.REPRODUCED, None, "")
    defect, reason = cause
    return Beside(number, ours, device, Reproduction.DEFECT if defect else Reproduction.DIFFERS, defect, reason)


def _not_run(number: Published, command: str) -> Beside:
    return Beside(number, None, "", Reproduction.NOT_RUN, None, command)


def _tally(rows: Sequence[Beside]) -> str:
    counts = Counter(row.verdict for row in rows)
    return (
        f"Of {len(rows)} published numbers {counts[Reproduction.REPRODUCED]} are reproduced, "
        f"{counts[Reproduction.DEFECT]} differ because of a known defect, {counts[Reproduction.DIFFERS]} differ "
        f"otherwise, and {counts[Reproduction.NOT_RUN]} are not yet run."
    )


def _table(caption: str, rows: Sequence[Beside]) -> Table:
    cells = tuple(
        (
            row.published.quantity,
            row.published.head if row.published.head in HEADS else "",
            _figure(row.published.quantity, Spread(row.published.value, None, 1)),
            _figure(row.published.quantity, row.ours) if row.ours else "",
            units.count(row.ours.n) if row.ours and row.published.quantity not in _COUNTED else "",
            row.device,
            TOLERANCES[row.published.quantity].words,
            row.words,
            row.reason,
        )
        for row in rows
    )
    return without_blanks(Table(caption, _COLUMNS, cells))


def _figure(quantity: Quantity, value: Spread) -> str:
    if "accuracy" in quantity:
        return units.percent_spread(value)
    if quantity == "parameters of the head" or (quantity == "best epoch" and value.sd is None):
        return units.count(round(value.mean))
    return units.spread(value)
