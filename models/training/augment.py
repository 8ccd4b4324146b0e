"""What happens to training images before each step: random variations, and smaller sizes in the first epochs.

An epoch at 3/4 of the side takes less than half the time.

Letters: N images, C channels, H and W their height and width.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor


def augment(images: Tensor, shift: int, flip: bool) -> Tensor:
    """Return images (N, C, H, W), each moved by up to `shift` pixels along both sides and, if `flip`, half mirrored.

    Pixels that come into view mirror those at the edge. Draws from the default generator of the images' device. The
    result is laid out channels last.
    """
    count, _, height, width = images.shape
    rows = _moved(height, shift, count, images.device)  # (N, H)
    columns = _moved(width, shift, count, images.device)  # (N, W)
    if flip:
        mirrored = torch.rand(count, 1, device=images.device) < 0.5
        columns = torch.where(mirrored, columns.flip(1), columns)
    channels_last = images.permute(0, 2, 3, 1)  # (N, H, W, C)
    which = torch.arange(count, device=images.device)
    return channels_last[which[:, None, None], rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)


def cut_out(images: Tensor, side: int, fill: Tensor) -> Tensor:
    """Return images (N, C, H, W), in each of which a square of `side` pixels around a random pixel is `fill` (C,).

    Part of the square may lie outside (DeVries & Taylor 2017, arXiv 1708.04552). Draws from the default generator of
    the images' device. The result is laid out channels last.
    """
    if side == 0:
        return images
    count, _, height, width = images.shape
    rows = _covered(height, side, count, images.device)  # (N, H)
    columns = _covered(width, side, count, images.device)  # (N, W)
    hole = rows[:, :, None] & columns[:, None, :]
    return torch.where(hole[..., None], fill.to(images), images.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


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


def _covered(length: int, side: int, count: int, device: torch.device) -> Tensor:
    """Return which positions (count, length) lie in a run of `side` positions around a random one."""
    first = torch.randint(0, length, (count, 1), device=device) - side // 2
    positions = torch.arange(length, device=device)
    return (positions >= first) & (positions < first + side)


def _moved(length: int, shift: int, count: int, device: torch.device) -> Tensor:
    """Return source positions (count, length) for images moved by a random whole number of pixels."""
    reach = min(shift, length - 1)  # the mirror image of an edge is no longer than the image
    moves = torch.randint(-reach, reach + 1, (count, 1), device=device)
    positions = (torch.arange(length, device=device) + moves).abs()
    return (length - 1) - (length - 1 - positions).abs()
