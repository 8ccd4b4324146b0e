"""Trained classifiers that come with the code, so that benchmarks route real rows without a download.

    models/zoo/PRESET-HEAD/   a checkpoint, features of test images among its files
    models/zoo/PRESET.json    how they were trained, epoch by epoch: the study.json of the study
    models/zoo/README.md      what they are and the command that made them

`python -m models.zoo STUDY` puts the trainings of a study here; `make zoo DATA=...` trains a study first.
"""

from __future__ import annotations

from pathlib import Path

from models.heads.heads import HEAD_KINDS

ZOO = Path(__file__).parent
PRESET = "fast"
"""The recipe of the zoo."""


def checkpoints() -> list[Path]:
    """Return the folders of the dense, soft and sparse classifier."""
    return [ZOO / f"{PRESET}-{head}" for head in HEAD_KINDS]
