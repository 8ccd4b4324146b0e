"""Weights rounded to integers of 8 or 4 bits, as ONNX Runtime's `com.microsoft::QMoE` reads them.

| scheme | integers | a scale in fp32 for |
| --- | --- | --- |
| int8 | -127 to 127 | a column: all weights of one sum |
| int4 | -7 to 7 | 32 weights along a sum |

A weight is integer times scale. QMoE stores an integer plus 128 or 8 in a byte, two of 4 bits with the earlier one in
the lower half. It also takes 8 bits in blocks, but then rounds the rows too: outputs are off by 1e-2.

Letters: E experts, D input width of a product, over which it sums, W its output width, S scales of a column.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Scheme:
    """How weights are stored: in `bits`, with a scale for each `group` of them along a sum, or for a whole column."""

    name: str
    bits: int
    group: int | None = None

    @property
    def largest(self) -> int:
        """The largest integer; the least is its negative."""
        return int(2 ** (self.bits - 1)) - 1

    def scales(self, D: int) -> int:
        """Return S, the scales of a column of D weights."""
        return D // self.group if self.group else 1

    def matrix_bytes(self, D: int, W: int) -> int:
        """Return the bytes of one expert's weights (D, W), with their scales."""
        return D * W * self.bits // 8 + 4 * self.scales(D) * W


SCHEMES = (Scheme("int8", 8), Scheme("int4", 4, group=32))


@dataclass(frozen=True)
class Integers:
    """Weights of one product: `codes` (E, W, S, D / S) int8 and `scales` (E, W, S) fp32."""

    scheme: Scheme
    codes: Tensor
    scales: Tensor

    def dequantised(self) -> Tensor:
        """Return the weights (E, D, W) in fp32."""
        return (self.codes * self.scales[..., None]).flatten(2).transpose(1, 2)

    def packed(self) -> tuple[Tensor, Tensor]:
        """Return bytes (E, W, D bits / 8) and scales (E, W), or (E, W, S) if they have groups, as QMoE takes them."""
        stored = (self.codes.flatten(2) + (self.scheme.largest + 1)).to(torch.uint8)  # (E, W, D)
        if self.scheme.bits == 4:
            stored = stored[..., ::2] | stored[..., 1::2] << 4
        return stored, self.scales if self.scheme.group else self.scales[..., 0]


def rounded(weights: Tensor, scheme: Scheme) -> Integers:
    """Return weights (E, D, W), of which D is a multiple of the group, rounded to the nearest integer times scale.

    The largest weight sets each scale. Experts are rounded one by one, so a large layer needs little more memory than
    its result.
    """
    E, D, W = weights.shape
    S = scheme.scales(D)
    codes = weights.new_empty(E, W, S, D // S, dtype=torch.int8)
    scales = weights.new_empty(E, W, S, dtype=torch.float32)
    for e in range(E):
        columns = weights[e].float().T.unflatten(1, (S, -1))  # (W, S, D / S)
        largest = columns.abs().amax(dim=2)  # (W, S)
        scales[e] = torch.where(largest > 0, largest / scheme.largest, 1.0)
        codes[e] = (columns / scales[e, ..., None]).round()
    return Integers(scheme, codes, scales)
