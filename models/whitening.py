"""A first convolution that sees small patches of the images with uncorrelated, equally strong values.

Letters: N images, C channels, H and W their height and width, P = 4 C values of a 2 x 2 patch.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

SIDE = 2
"""Pixels along a patch."""
EPS = 5e-4
"""Added to every variance, so that a direction in which patches hardly vary is not blown up."""


def whitening_weights(images: Tensor) -> Tensor:
    """Return convolution weights (2 P, C, 2, 2) float32 that whiten the patches of images (N, C, H, W).

    The first P filters are the eigenvectors of the patches' covariance, each divided by sqrt(eigenvalue + EPS); the
    others are their negatives, since a rectifier follows (Page 2019; Jordan 2024, arXiv 2404.00498). The images are
    of the kind that the convolution will see. Computed in float64 on the CPU.
    """
    values = F.unfold(images.double().cpu(), SIDE)  # (N, P, patches of an image)
    variances, directions = torch.linalg.eigh(torch.cov(values.transpose(0, 1).flatten(1)))  # (P,), (P, P) by column
    filters = (directions / (variances.clamp_min(0) + EPS).sqrt()).T  # (P, P) by row
    weights: Tensor = torch.cat([filters, -filters]).float().unflatten(1, (images.shape[1], SIDE, SIDE))
    return weights
