"""Checks of tensor arguments, remembered by layout; a failure is one sentence that names the tensor."""

from collections.abc import Callable
from dataclasses import is_dataclass
from functools import lru_cache, wraps
from typing import Any, TypeVar, TypeVarTuple

import torch
from torch import Tensor

from kernels.launch.launch import runs_anywhere

ALIGNMENT = 16
"""Bytes. Whether an address is a multiple of it may decide how memory is read."""

MOST_REMEMBERED = 4096
"""Calls that one check remembers; one more makes it forget them all."""

FLOATS = (torch.float32, torch.float16, torch.bfloat16)
"""Dtypes of features and weights."""

Arguments = TypeVarTuple("Arguments")
Result = TypeVar("Result")


def remembered(check: Callable[[*Arguments], Result]) -> Callable[[*Arguments], Result]:
    """Let `check`, which looks at no values of tensors, run once for all calls whose tensors have the same layout.

    Its arguments are tensors, dataclasses of tensors, and what can be a key. A result is remembered, an error is not.
    """
    known: dict[tuple[Any, ...], Result] = {}

    @wraps(check)
    def checked(*arguments: *Arguments) -> Result:
        key = (runs_anywhere(), *map(_layout, arguments))
        try:
            return known[key]
        except KeyError:
            result = check(*arguments)
        if len(known) >= MOST_REMEMBERED:
            known.clear()
        known[key] = result
        return result

    return checked


def _layout(value: Any) -> Any:
    """Return all that a check may look at in one argument, as a key."""
    if isinstance(value, Tensor):
        return value.shape, value.stride(), value.dtype, value.device, value.data_ptr() % ALIGNMENT
    if is_dataclass(value):
        return type(value), *map(_layout, vars(value).values())
    return value


def bind_shapes(**tensors: tuple[Tensor, str]) -> dict[str, int]:
    """Return the size of every dimension letter, given each tensor with its letters, such as "E D H".

    A number before a letter multiplies it: "2H" is twice H, which a tensor before it binds.

    Raises:
        ValueError: A tensor has another number of dimensions, a letter has two sizes, or one is 0 that is
            none of N, M and B.
    """
    sizes: dict[str, int] = {}
    for name, (tensor, text) in tensors.items():
        letters, shape = _split(text), tensor.shape
        known = [_size(letter, sizes) for letter in letters]
        if len(shape) != len(letters) or not all(map(_fits, letters, known, shape)):
            pairs = zip(letters, known, strict=True)
            expected = ", ".join(letter if size is None else f"{letter} = {size}" for letter, size in pairs)
            raise ValueError(f"{name} must have the shape ({expected}), not {tuple(shape)}")
        sizes.update(zip(letters, shape, strict=True))
    return sizes


@lru_cache
def _split(text: str) -> tuple[str, ...]:
    return tuple(text.split())


def _size(letter: str, sizes: dict[str, int]) -> int | None:
    """Return the size that `letter`, such as "H" or "2H", must have, or None while it is free."""
    if letter in sizes or len(letter) == 1:
        return sizes.get(letter)
    size = sizes.get(letter[-1])
    return None if size is None else int(letter[:-1]) * size


def _fits(letter: str, known: int | None, size: int) -> bool:
    """Return whether `letter` may have this size."""
    return size == known or (known is None and (size > 0 or letter in "NMB"))


def require_dtype(*dtypes: torch.dtype, **tensors: Tensor) -> None:
    """Raise ValueError unless each of `tensors` has one of `dtypes`, the same for all."""
    (first, leader), *others = tensors.items()
    if leader.dtype not in dtypes:
        raise ValueError(f"{first} must be {' or '.join(map(str, dtypes))}, not {leader.dtype}")
    for name, tensor in others:
        if tensor.dtype != leader.dtype:
            raise ValueError(f"{name} must have the dtype of {first}, {leader.dtype}, not {tensor.dtype}")
