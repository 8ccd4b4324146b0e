"""A first convolution that whitens small patches of the images: uncorrelated values of equal variance.

Letters: N images, C channels, H and W their height and width, P = 4 C values of a 2 x 2 patch.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

SIDE = 2
"""Pixels along a side of a patch."""
EPS = 0.05
"""Added to every variance, so that directions in which patches hardly vary are not blown up. With the 5e-4 of airbench
the network memorises images by their compression noise, which says nothing about their class."""


def filter_count(channels: int) -> int:
    """Return how many filters whiten patches of C = `channels`: two for each of the strongest two thirds of P.

    The other directions carry next to nothing, and 16 filters (for three channels) convolve fast.
    """
    return 2 * math.ceil(channels * SIDE**2 * 2 / 3)


def whitening_weights(images: Tensor) -> Tensor:
    """Return convolution weights (`filter_count`, C, 2, 2) float32 that whiten the patches of images (N, C, H, W).

    The first half are the strongest eigenvectors of the covariance of the patches, each divided by
    sqrt(eigenvalue + EPS). The second half are their negatives, since a rectifier follows (Page 2019; Jordan 2024,
    arXiv 2404.00498). The images must be normalised as the convolution will see them. Computed in float64 on the CPU.
    """
    values = F.unfold(images.double().cpu(), SIDE)  # (N, P, patches of an image)
    variances, directions = torch.linalg.eigh(torch.cov(values.transpose(0, 1).flatten(1)))  # (P,), (P, P) by column
    filters = (directions / (variances.clamp_min(0) + EPS).sqrt()).T  # (P, P) by row, the weakest first
    strongest = filters[-(filter_count(images.shape[1]) // 2) :]
    weights: Tensor = torch.cat([strongest, -strongest]).float().unflatten(1, (images.shape[1], SIDE, SIDE))
    return weights
