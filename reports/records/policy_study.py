"""`policies.json`: routing policies trained side by side by `moegap policies`, and the latency of their heads.

Letters: C classes, E experts.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, model_validator

from reports.records.document import Document
from reports.records.fields import Count, Name, NotNegative, Schema, Share, Shares, ShareTable, Text
from reports.records.record import SHORTEST, Seconds


class PolicyRun(Schema):
    """One head trained under one routing policy; `flops_per_row` of the head on the test images.

    Entropies and informations in nats; `class_chance` and `domain_chance` are what as many assignments give by chance.
    `load` (E,) and `class_load` (C, E) are shares of assignments. A dense head has no routing, so None for all of it.
    """

    policy: Name
    seed: Count
    head: Name
    folder: Name
    test_accuracy: Share
    val_accuracy: Share | None = None
    best_epoch: Count | None = None
    experts_per_row_mean: NotNegative | None = None
    experts_per_row_std: NotNegative | None = None
    load_cv: NotNegative | None = None
    dropped: Share | None = None
    unserved: Share | None = None
    gate_entropy: NotNegative | None = None
    class_load: ShareTable | None = None
    load: Shares | None = None
    class_information: NotNegative | None = None
    class_chance: NotNegative | None = None
    class_entropy: NotNegative | None = None
    domain_information: NotNegative | None = None
    domain_chance: NotNegative | None = None
    domain_entropy: NotNegative | None = None
    flops_per_row: NotNegative | None = None
    parameters: Count | None = None
    balance: dict[Name, NotNegative] = Field(default_factory=dict)
    seconds: Seconds | None = None


class Failure(Schema):
    """A training that ended without a result, and why."""

    policy: Name
    seed: Count
    reason: Text = ""


class Latency(Schema):
    """Samples in seconds of one policy in one form on N = `rows`, or the reason why there are none."""

    policy: Name
    form: Name
    status: Name
    reason: Text = ""
    seconds: Annotated[tuple[Annotated[Seconds, Field(ge=SHORTEST)], ...], Field(max_length=100_000)] = ()
    rows: Count | None = None
    dtype: Name | None = None
    clock: Name | None = None
    device: Name | None = None
    threads: Count | None = None

    @model_validator(mode="before")
    @classmethod
    def _fill_blanks(cls, value: Any) -> Any:
        """Take null for what it means: no reason, no sample."""
        if isinstance(value, dict):
            return {name: field for name, field in value.items() if field is not None}
        return value


class PolicyStudy(Document):
    """`policies.json`: routing policies trained side by side, the dense and the soft head beside them.

    `settings` is everything that all runs have in common, `parameters` of each head by its policy; `domains` are the
    sources of a mixture, else null. `failed` are the failures of the last call.
    """

    written_by: ClassVar[str] = "policies"

    kind: Literal["policies"]
    data: Name
    preset: Name
    epochs: Count
    settings: dict[str, Any] | None = None
    parameters: dict[Name, Count] | Count | None = None
    domains: Annotated[tuple[Name, ...], Field(max_length=1_000)] | None = None
    runs: Annotated[tuple[PolicyRun, ...], Field(min_length=1, max_length=2_000)]
    failed: Annotated[tuple[Failure, ...], Field(max_length=5_000)] = ()
    rows: Count | None = None
    latency: Annotated[tuple[Latency, ...], Field(max_length=5_000)] = ()
