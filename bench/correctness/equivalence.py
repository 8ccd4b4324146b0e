"""The equivalence gate: no time counts before logits, and gradients if any, agree with the float64 reference.

Letters: N rows, E experts, C output width.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from bench.correctness.reference import Reference, reference
from models.heads.heads import Head
from models.routing.decision import Float64

TOLERANCE = {torch.float32: 1e-4, torch.float16: 5e-3, torch.bfloat16: 4e-2}
"""Greatest relative deviation of a form. In bfloat16 rounding reaches 1e-2, a quarter of the tolerance, on the heads of
the tests; a wrong expert, a dropped row or an ignored weight exceeds the tolerance by half or more."""
GRADIENT_TOLERANCE = {torch.float32: 1e-3, torch.float16: 3e-2, torch.bfloat16: 1e-1}
"""Greatest deviation of a gradient, by root mean squares: where relu bends, rounding turns single terms on or off."""
MOST_AMBIGUOUS = 0.01
"""Greatest share of rows that may be left out because float32 cannot decide two or more of their assignments.

If rows compete for places (capacity, expert_choice), all rows whose places depend on such a decision count.
"""


@dataclass(frozen=True)
class Deviation:
    """How far logits are from the reference: the relative `error` over the rows whose routing is decidable."""

    error: float
    tolerance: float
    ambiguous_rows: int
    rows: int

    @property
    def acceptable(self) -> bool:
        """Whether the form computes the same function."""
        compared = self.ambiguous_rows < self.rows or self.rows == 0
        return compared and self.error <= self.tolerance and self.ambiguous_rows <= max(1, MOST_AMBIGUOUS * self.rows)


def head_reference(head: Head, x: Tensor) -> Reference:
    """Return the float64 reference for x (N, D) with the head's parameters in their dtype."""
    with torch.inference_mode():
        return reference(head.config, head.state_dict(), x)


def deviation(logits: Tensor, expected: Reference, x: Tensor) -> Deviation:
    """Return how far the `logits` (N, C) of x (N, D) deviate: a row's largest difference over its largest entry.

    A row of small logits is measured against the median row instead. A row with one assignment that float32 cannot
    decide is compared with both outcomes, and the closer one counts. The error is infinite if NaN and infinities differ
    from the reference, if the reference has no finite logit, or if dtype or device differ from those of x.
    """
    got, want = logits.detach().cpu().double().numpy(), expected.logits
    tolerance = TOLERANCE[x.dtype]
    left_out = int(expected.ambiguous.sum())
    if got.shape != want.shape or (logits.dtype, logits.device) != (x.dtype, x.device):
        return Deviation(float("inf"), tolerance, left_out, len(want))
    decidable = ~expected.ambiguous
    got, want = got[decidable], want[decidable]
    if len(want) and not np.isfinite(want).any():
        return Deviation(float("inf"), tolerance, left_out, len(expected.logits))
    size = _sizes(want)
    median = np.median(size[size > 0]) if size.any() else 1.0
    errors = _errors(got, want, median)
    if expected.otherwise is not None:
        errors = np.minimum(errors, _errors(got, expected.otherwise[decidable], median))
    return Deviation(float(errors.max(initial=0)), tolerance, left_out, len(expected.logits))


def storage_error(rounded: Reference, full: Reference) -> float | None:
    """Return what it costs to store weights in fewer bits: the norm of the outputs' error over that of the outputs.

    Both are float64 references, so it says nothing about a form. None if it is not finite.
    """
    with np.errstate(all="ignore"):
        error, size = np.linalg.norm(rounded.logits - full.logits), np.linalg.norm(full.logits)
    share = float(error / size) if size else float(error)
    return share if math.isfinite(share) else None


def gradient_deviation(gradient: Tensor, expected: Tensor, parts: int = 1) -> float:
    """Return how far a gradient deviates: the root mean square of the difference over that of `expected`.

    The worst of so many equal `parts` counts, one for each expert; a part of small values is measured against the
    median part. Infinite if the shape differs, or if a value is not finite.
    """
    if gradient.shape != expected.shape:
        return float("inf")
    wanted = expected.reshape(parts, -1)
    sizes = _root_mean_square(wanted)  # (parts,)
    median = sizes[sizes > 0].median() if sizes.any() else 1.0
    errors = _root_mean_square(gradient.double().reshape(parts, -1) - wanted) / sizes.clamp_min(median)
    return float(errors.nan_to_num(nan=torch.inf).max())


def _root_mean_square(values: Tensor) -> Tensor:
    return values.square().mean(dim=1).sqrt()


def _errors(got: Float64, want: Float64, median: float) -> Float64:
    """Return the deviation of each row (N,) of `got` from `want` (N, C), relative to its size or to `median`."""
    finite = np.isfinite(want)
    same_kind = np.where(finite, np.isfinite(got), (got == want) | (np.isnan(got) & np.isnan(want))).all(axis=1)  # (N,)
    difference = np.abs(np.where(finite, got, 0) - np.where(finite, want, 0)).max(axis=1, initial=0)
    errors: Float64 = np.where(same_kind, difference / np.maximum(_sizes(want), median), np.inf)
    return errors


def _sizes(want: Float64) -> Float64:
    """Return the largest finite entry of each row (N,)."""
    sizes: Float64 = np.abs(np.where(np.isfinite(want), want, 0)).max(axis=1, initial=0)
    return sizes
