"""Checks of tensor arguments, each failure one sentence that names the tensor."""

import torch
from torch import Tensor

FLOATS = (torch.float32, torch.float16, torch.bfloat16)
"""Dtypes of features and weights."""


def bind_shapes(**tensors: tuple[Tensor, str]) -> dict[str, int]:
    """Return the size of every dimension letter, given each tensor with its letters, such as "E D H".

    Raises:
        ValueError: A tensor has another number of dimensions, a letter has two sizes, or one is 0 that is
            neither N nor M.
    """
    sizes: dict[str, int] = {}
    for name, (tensor, text) in tensors.items():
        letters = text.split()
        expected = ", ".join(f"{letter} = {sizes[letter]}" if letter in sizes else letter for letter in letters)
        fits = tensor.ndim == len(letters) and all(
            sizes.setdefault(letter, size) == size and (size > 0 or letter in "NM")
            for letter, size in zip(letters, tensor.shape, strict=True)
        )
        if not fits:
            raise ValueError(f"{name} must have the shape ({expected}), not {tuple(tensor.shape)}")
    return sizes


def require_dtype(*dtypes: torch.dtype, **tensors: Tensor) -> None:
    """Raise ValueError unless each of `tensors` has one of `dtypes`, the same for all."""
    (first, leader), *others = tensors.items()
    if leader.dtype not in dtypes:
        raise ValueError(f"{first} must be {' or '.join(map(str, dtypes))}, not {leader.dtype}")
    for name, tensor in others:
        if tensor.dtype != leader.dtype:
            raise ValueError(f"{name} must have the dtype of {first}, {leader.dtype}, not {tensor.dtype}")
