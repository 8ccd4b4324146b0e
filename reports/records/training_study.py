"""`study.json`, the trainings of `moegap train` over heads and seeds, and `history.json`, one training as it runs.

Letters: C classes, E experts.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from reports.records.document import Document
from reports.records.fields import Count, Name, NotNegative, Number, Schema, Share, Shares, ShareTable, check_lengths
from reports.records.record import Seconds


class Epoch(Schema):
    """One row of a training's history: losses and entropies in nats, accuracies 0 to 1.

    The fields from `utilisation` on say how a mixture used its experts on the validation images; they are defined at
    `models.classifier.evaluate.routing_statistics`, and a dense head has none of them. `class_load` (C, E) and
    `load` (E,) are shares of assignments, and each row of `class_load` sums to one.
    """

    epoch: Count
    learning_rate: NotNegative | None = None
    train_loss: Number | None = None
    train_accuracy: Share | None = None
    val_loss: Number | None = None
    val_accuracy: Share | None = None
    seconds: Seconds | None = None
    utilisation: Share | None = None
    gate_entropy: NotNegative | None = None
    load_cv: NotNegative | None = None
    dropped: Share | None = None
    unserved: Share | None = None
    experts_per_row_mean: NotNegative | None = None
    experts_per_row_std: NotNegative | None = None
    load: Shares | None = None
    importance: Shares | None = None
    class_load: ShareTable | None = None
    class_information: NotNegative | None = None

    @model_validator(mode="after")
    def _check_rectangle(self) -> Self:
        if self.class_load is not None:
            check_lengths("class_load", (len(row) for row in self.class_load))
        return self


History = Annotated[tuple[Epoch, ...], Field(max_length=100_000)]


class TrainingRun(Schema):
    """One trained model: accuracies 0 to 1, `parameters` of the head, `seconds` of all epochs."""

    folder: Name
    head: Name
    policy: Name | None = None
    seed: Count
    parameters: Count | None = None
    best_epoch: Count | None = None
    val_accuracy: Share | None = None
    test_accuracy: Share | None = None
    train_accuracy: Share | None = None
    seconds: Seconds | None = None
    history: History = ()


class TrainingStudy(Document):
    """`study.json`: heads trained with one preset on one source of data, over several seeds."""

    written_by: ClassVar[str] = "train"

    kind: Literal["training"]
    preset: Name
    data: Name
    epochs: Count
    runs: Annotated[tuple[TrainingRun, ...], Field(min_length=1, max_length=2_000)]


class TrainingHistory(Document):
    """`history.json`: one training, finished or not, described by its `config`."""

    written_by: ClassVar[str] = "train"

    kind: Literal["history"]
    config: dict[str, Any]
    history: History
