"""Trained classifiers that travel with the code, so that benchmarks route real rows with no download.

    models/zoo/PRESET-HEAD/   a checkpoint, features of test images among its files
    models/zoo/PRESET.json    how they were trained, epoch by epoch: a study's study.json
    models/zoo/README.md      what they are and the command that made them

`python -m models.zoo STUDY` puts a study's trainings here; `make zoo DATA=...` trains one and does that.
"""

from __future__ import annotations

from pathlib import Path

from models.heads.heads import HEAD_KINDS

ZOO = Path(__file__).parent
PRESET = "fast"
"""The recipe used if no other is named."""


def checkpoints() -> list[Path]:
    """Return the folders of the zoo's dense, soft and sparse classifier of `PRESET`."""
    return [ZOO / f"{PRESET}-{head}" for head in HEAD_KINDS]
