"""The dense head, the baseline of every comparison.

Letters: N rows, D input width, H hidden width, C output width.
"""

from __future__ import annotations

from typing import ClassVar, Literal

from torch import Tensor

from models.heads.experts import StackedExperts
from models.routing import Routing
from models.settings import ExpertsConfig


class DenseConfig(ExpertsConfig):
    """A two-layer perceptron D -> H -> C: a single expert for every row, and no gate."""

    kind: Literal["dense"] = "dense"

    gated = False
    policy: ClassVar[None] = None
    experts: ClassVar[int] = 1
    temperature: ClassVar[float] = 1.0
    default_balance: ClassVar[dict[str, float]] = {}

    def refusal(self, term: str) -> str | None:
        """Return why the head cannot have the balance loss `term`."""
        return "a dense head has no experts to balance"


class DenseHead(StackedExperts):
    """activation(x w1 + b1) w2 + b2, (N, D) -> (N, C)."""

    def __init__(self, config: DenseConfig) -> None:
        super().__init__(config, ())
        self.config = config

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits (N, C) of x (N, D)."""
        h = self.hidden(x, self.w1, self.b1)  # (N, H)
        return h @ self.w2 + self.b2  # (N, C)

    def routed(self, x: Tensor) -> tuple[Tensor, Routing | None]:
        """Return the logits (N, C) of x (N, D), and None for the routing."""
        return self(x), None
