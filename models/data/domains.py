"""A mixture of data sets in one label space: heterogeneous data in which each image has a known domain.

Classes are called source:class. So no two sources share a class, and the class of an image decides its domain. Nothing
balances sources of unequal size: training sees the larger one more often.

Letters: N images, C channels, H and W height and width, c, h and w those before an image is fitted.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate, chain

import torch
import torch.nn.functional as F
from torch import Tensor

from models.data.images import DataError, LabelledImages, Source

JOIN = "+"
"""Stands between the sources of a mixture."""
PREFIX = ":"
"""Stands between a source and its class."""
_AT_ONCE = 1024  # images resized together


def mixture(sources: Sequence[Source]) -> Source:
    """Return the images of all sources under disjoint classes, in the largest number of channels, height and width.

    Raises `DataError` if two sources have the same name, or a name has a colon.
    """
    names = [source.name for source in sources]
    check_names(names)
    sizes = zip(*(source.train.images.shape[1:] for source in sources), strict=True)
    channels, height, width = (max(size) for size in sizes)
    starts = list(accumulate((len(source.classes) for source in sources), initial=0))

    def joined(parts: Sequence[LabelledImages]) -> LabelledImages:
        return LabelledImages(
            torch.cat([fitted(part.images, (channels, height, width)) for part in parts]),
            torch.cat([part.labels + start for part, start in zip(parts, starts, strict=False)]),
        )

    classes = ([f"{source.name}{PREFIX}{name}" for name in source.classes] for source in sources)
    domain_of_class = ([domain] * len(source.classes) for domain, source in enumerate(sources))
    return Source(
        name=JOIN.join(names),
        classes=tuple(chain.from_iterable(classes)),
        train=joined([source.train for source in sources]),
        test=joined([source.test for source in sources]),
        domains=tuple(names),
        domain_of_class=tuple(chain.from_iterable(domain_of_class)),
    )


def check_names(names: Sequence[str]) -> None:
    """Raise `DataError` if sources of these names cannot be told apart in a mixture."""
    for number, name in enumerate(names):
        if name in names[:number]:
            raise DataError(
                f"two sources of the mixture {JOIN.join(names)} are called {name!r}; name each once, and give folders "
                "different names"
            )
        if PREFIX in name:
            raise DataError(f"the source {name!r} has a colon in its name, which a mixture needs; rename the folder")


def fitted(images: Tensor, shape: tuple[int, int, int]) -> Tensor:
    """Return images (N, c, h, w) as (N, C, H, W), both uint8, for `shape` (C, H, W) no smaller than c, h and w.

    A grey image gets its values in all C channels. Sides are enlarged by bilinear interpolation between pixel centres.
    """
    channels, *sides = shape
    if list(images.shape[2:]) != sides:
        parts = torch.split(images, _AT_ONCE)  # as floats they take four times the memory
        enlarged = [F.interpolate(part.float(), sides, mode="bilinear", align_corners=False) for part in parts]
        images = torch.cat([part.round().to(torch.uint8) for part in enlarged])
    return images.expand(-1, channels, -1, -1).contiguous()
