"""Adding the trainings of a study to the zoo."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from models.classifier import checkpoint
from models.errors import ModelError
from models.training.study import FILE
from reports.records.files import make_folder, read, write
from reports.records.training_study import TrainingStudy

MOST_BYTES = 8_000_000
"""The most that the whole zoo may take, since it is cloned with the code."""
_COLUMNS = ("folder", "data", "seed", "parameters", "validation %", "test %", "epochs", "best", "seconds")


class ZooError(ModelError):
    """A study that cannot be added to the zoo."""


def keep(study: Path, zoo: Path) -> list[Path]:
    """Copy the checkpoints of a one-seed study to ZOO/PRESET-HEAD, describe them, and return their folders.

    Raises `ZooError` for a folder without study.json, a study of more than one seed, or too many bytes.
    """
    described = _read(study)
    runs, preset = described.runs, described.preset
    if len(runs) > len({run.head for run in runs}):
        raise ZooError(f"{study} holds several seeds of a head, and the zoo keeps one; train with --seeds 1")
    contents = {zoo / f"{preset}-{run.head}": _files(study / run.folder) for run in runs}
    size = sum(len(content) for files in contents.values() for content in files.values())
    others = sum(path.stat().st_size for path in zoo.rglob("*") if path.is_file() and path.parent not in contents)
    if size + others > MOST_BYTES:
        raise ZooError(f"with {study} the zoo takes {size + others:,} bytes, and it may take {MOST_BYTES:,}")
    for folder, files in contents.items():
        make_folder(folder)
        for name, content in files.items():
            write(folder / name, content)
    write(zoo / f"{preset}.json", read(study / FILE))
    write(zoo / "README.md", _readme(zoo))
    return list(contents)


def _read(study: Path) -> TrainingStudy:
    try:
        return TrainingStudy.model_validate_json(read(study / FILE))
    except (OSError, ValueError):
        raise ZooError(f"{study} holds no readable {FILE}; make one with `moegap train --head all`") from None


def _files(folder: Path) -> dict[str, bytes]:
    """Return the files of a checkpoint by name, config.json last; raise if it does not load."""
    config = checkpoint.load(folder).config
    return {name: read(folder / name) for name in (*config.sha256, checkpoint.CONFIG)}


def _readme(zoo: Path) -> str:
    studies = {path: TrainingStudy.model_validate_json(read(path)) for path in sorted(zoo.glob("*.json"))}
    sections = [_section(path, study) for path, study in studies.items()]
    return (
        "# Trained classifiers\n\nEach folder is a checkpoint as `models/classifier/checkpoint.py` describes it, "
        "with features of test images to route without the data.\n\n" + "\n".join(sections)
    )


def _section(path: Path, study: TrainingStudy) -> str:
    """Return a section in Markdown about the classifiers of one study."""
    made, preset = study.environment, study.preset
    lines = [_line(_COLUMNS), _line(["---"] * len(_COLUMNS))]
    for run in study.runs:
        shares = [f"{100 * (share or 0):.2f}" for share in (run.val_accuracy, run.test_accuracy)]
        values = (f"`{preset}-{run.head}`", study.data, run.seed, f"{run.parameters:,}")
        lines.append(_line((*values, *shares, study.epochs, run.best_epoch, f"{run.seconds:.0f}")))
    machine = f"{made['device']}, {made['threads']} threads, products in {made['products']}, torch {made['torch']}"
    return (
        f"## {preset}\n\n" + "\n".join(lines) + f"\n\nParameters are the head's; seconds those of all epochs. "
        f"Trained with `{study.command}` on {machine}, {made['date'][:10]}; every epoch stands in `{path.name}`. To "
        "make them again: `make zoo DATA=IMAGES`, with a folder of images or `cifar10`, which is downloaded.\n"
    )


def _line(cells: Sequence[object]) -> str:
    return "| " + " | ".join(map(str, cells)) + " |"
