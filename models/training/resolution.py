"""Training on smaller images first: an epoch at 3/4 of the side takes less than half of the time.

Letters: N images, C channels, H and W their height and width.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor


def scale_in_epoch(phases: Sequence[tuple[float, int]], epoch: int, epochs: int) -> float:
    """Return the scale of `epoch`, 1 to `epochs`, where phases (scale, parts) divide the epochs by their parts.

    The last epoch belongs to the last phase; without phases the scale is always 1.
    """
    parts, end = sum(parts for _, parts in phases), 0
    for scale, length in phases:
        end += length
        if epoch * parts <= end * epochs:
            return scale
    return 1.0


def scaled(images: Tensor, scale: float) -> Tensor:
    """Return images (N, C, H, W) uint8 with sides times `scale`, of 2 pixels or more, as floats in [0, 1].

    With scale 1 they come back as they are. Bilinear, each pixel a weighted mean of all that it covers.
    """
    if scale == 1:
        return images
    height, width = (max(2, round(side * scale)) for side in images.shape[-2:])
    return F.interpolate(images / 255, size=(height, width), mode="bilinear", antialias=True)
