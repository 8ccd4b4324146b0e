"""The record of a training while it runs: OUT/history.json and TensorBoard scalars in OUT/tensorboard.

    tensorboard --logdir OUT/tensorboard

Letters: C classes, E experts.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

import numpy as np

from models.result_file import write_result
from reports.records.training_study import Epoch, TrainingHistory

FILE = "history.json"
FOLDER = "tensorboard"


class Tracker:
    """Writes the epochs of one training in the folder `out`, of which earlier processes have finished `done`.

    TensorBoard discards what they wrote about later epochs, which are repeated now. `classes` are names.
    """

    def __init__(
        self,
        out: Path,
        config: dict[str, Any],
        classes: tuple[str, ...],
        done: int,
        *,
        command: str,
        environment: dict[str, Any],
    ) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self.file, self.config, self.classes = out / FILE, config, classes
        self.command, self.environment = command, environment
        self.writer = SummaryWriter(str(out / FOLDER), purge_step=done + 1)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.writer.close()

    def track(self, history: list[dict[str, Any]]) -> None:
        """Write the epochs so far; the last one is new."""
        file = TrainingHistory(
            format=1,
            kind="history",
            command=self.command,
            environment=self.environment,
            config=self.config,
            history=tuple(map(Epoch.model_validate, history)),
        )
        write_result(self.file, file)
        for tag, value in scalars(history[-1], self.classes):
            self.writer.add_scalar(tag, value, history[-1]["epoch"])
        self.writer.flush()


def scalars(row: dict[str, Any], classes: tuple[str, ...]) -> Iterator[tuple[str, float]]:
    """Yield tag and value of every number in a row of a history, except the number of the epoch.

    A list (E,) gives a tag for each expert, as `load/3`; a table (C, E) one for each class and expert, as
    `class_load/cat/3`.
    """
    for name, value in row.items():
        if name == "epoch":
            continue
        for place, number in np.ndenumerate(np.asarray(value, dtype=np.float64)):
            parts = [classes[place[0]], *place[1:]] if len(place) == 2 else place
            yield "/".join(map(str, (name, *parts))), float(number)
