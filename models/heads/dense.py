"""The dense head, the baseline of every comparison.

Letters: N rows, D input width, H hidden width, C output width.
"""

from __future__ import annotations

from torch import Tensor

from models.config import DenseConfig
from models.heads.experts import Experts


class DenseHead(Experts):
    """activation(x w1 + b1) w2 + b2, (N, D) -> (N, C)."""

    def __init__(self, config: DenseConfig) -> None:
        super().__init__((), config.features, config.hidden, config.classes, config.activation, config.dropout)
        self.config = config

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits (N, C) of x (N, D)."""
        h = self.hidden(x, self.w1, self.b1)  # (N, H)
        return h @ self.w2 + self.b2  # (N, C)
