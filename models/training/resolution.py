"""Training on smaller images first: an epoch at 3/4 of the side takes less than half the time.

Letters: N images, C channels, H and W their height and width.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor


def scale_in_epoch(phases: Sequence[tuple[float, int]], epoch: int, epochs: int) -> float:
    """Return the scale of `epoch`, 1 to `epochs`, if phases (scale, parts) share the epochs in proportion to `parts`.

    The last epoch belongs to the last phase. Without phases the scale is always 1.
    """
    parts, end = sum(parts for _, parts in phases), 0
    for scale, length in phases:
        end += length
        if epoch * parts <= end * epochs:
            return scale
    return 1.0


def scaled(images: Tensor, scale: float) -> Tensor:
    """Return images (N, C, H, W) uint8 as floats in [0, 1], with sides times `scale` but at least 2 pixels.

    With scale 1 they are returned unchanged. Bilinear with antialiasing.
    """
    if scale == 1:
        return images
    height, width = (max(2, round(side * scale)) for side in images.shape[-2:])
    return F.interpolate(images / 255, size=(height, width), mode="bilinear", antialias=True)
