"""The handwritten digits of scikit-learn: 1,797 images of 8 x 8 pixels, without a download."""

from __future__ import annotations

import torch

from models.data.images import LabelledImages, Source

TEST_SHARE = 0.2
_ORDER_SEED = 0  # fixed, so that every validation split leaves the same test images


def digits() -> Source:
    """Return the digits with a fixed fifth of them set aside for testing; pixels 0..16 become 0..240."""
    from sklearn.datasets import load_digits  # a second to import, and only this source needs it

    bunch = load_digits()
    everything = LabelledImages(
        images=torch.from_numpy(bunch.images * 15).to(torch.uint8).unsqueeze(1),  # (1797, 1, 8, 8)
        labels=torch.from_numpy(bunch.target).long(),
    )
    order = torch.randperm(len(everything), generator=torch.Generator().manual_seed(_ORDER_SEED))
    tested = round(len(everything) * TEST_SHARE)
    names = tuple(str(name) for name in bunch.target_names)
    return Source("digits", names, train=everything[order[tested:]], test=everything[order[:tested]])
