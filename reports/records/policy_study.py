"""`policies.json`: routing policies trained side by side by `moegap policies`, and the latency of their heads.

Letters: C classes, E experts.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from reports.records.document import Document
from reports.records.fields import (
    ROUNDING,
    Count,
    Name,
    NotNegative,
    NullsLeftOut,
    Prose,
    Schema,
    Share,
    Shares,
    ShareTable,
)
from reports.records.record import SHORTEST, Seconds


class PolicyRun(Schema):
    """One head trained under one routing policy; `flops_per_row` are those of the head on the test images.

    Entropies and informations are in nats; `class_chance` and `domain_chance` are what as many assignments give by
    chance. `load` (E,) and `class_load` (C, E) are shares of assignments. For a dense head all of it is None.
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

    @property
    def dynamic(self) -> bool | None:
        """Whether rows differ in how many experts they ask for, or None if that is not recorded.

        If every row asks for k and a share d is dropped, the mean is k (1 - d). The number of experts per row then lies
        between 0 and k, so its variance is at most mean (k - mean). A policy is dynamic if the variance is larger.
        """
        mean, spread, dropped = self.experts_per_row_mean, self.experts_per_row_std, self.dropped or 0.0
        if mean is None or spread is None:
            return None
        if dropped >= 1:
            return False
        asked = mean / (1 - dropped)
        return spread**2 > mean * (asked - mean) + ROUNDING


class Failure(Schema):
    """A training that ended without a result, and why."""

    policy: Name
    seed: Count
    reason: Prose = ""


class Latency(NullsLeftOut):
    """Samples in seconds of one policy in one form on N = `rows`, or why there are none."""

    policy: Name
    form: Name
    status: Name
    reason: Prose = ""
    seconds: Annotated[tuple[Annotated[Seconds, Field(ge=SHORTEST)], ...], Field(max_length=100_000)] = ()
    rows: Count | None = None
    dtype: Name | None = None
    clock: Name | None = None
    device: Name | None = None
    threads: Count | None = None


class PolicyStudy(Document):
    """`policies.json`: routing policies trained side by side, the dense and the soft head beside them.

    `settings` is everything that all runs have in common, `parameters` those of each head by policy. `domains` are the
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
