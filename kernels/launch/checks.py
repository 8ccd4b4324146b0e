"""Checks of tensor arguments, remembered by layout. A failure is one sentence that names the tensor."""

from collections.abc import Callable, Sequence
from dataclasses import is_dataclass
from functools import wraps
from typing import Any, Protocol, TypeVar, TypeVarTuple

import torch
from torch import Tensor

from kernels.launch.launch import runs_anywhere

ALIGNMENT = 16
"""Bytes. Memory may be read in another way if an address is a multiple of it."""

MOST_REMEMBERED = 4096
"""Layouts that one memory holds; with one more it forgets them all."""

FLOATS = (torch.float32, torch.float16, torch.bfloat16)
"""Dtypes of features and weights."""

Tensors = Sequence[Tensor | None]
Arguments = TypeVarTuple("Arguments")
Key = TypeVar("Key")
Result = TypeVar("Result")


def remembered(check: Callable[[*Arguments], Result]) -> Callable[[*Arguments], Result]:
    """Let `check` run only once for all calls whose tensors have the same layout; it must not read their values.

    Its arguments are tensors, dataclasses of tensors, and hashable values. A result is remembered, an error is not.
    """
    known: dict[tuple[Any, ...], Result] = {}

    @wraps(check)
    def checked(*arguments: *Arguments) -> Result:
        key = (runs_anywhere(), *map(_layout, arguments))
        try:
            return known[key]
        except KeyError:
            result = check(*arguments)
        return keep(known, key, result)

    return checked


def keep(memory: dict[Key, Result], key: Key, value: Result) -> Result:
    """Remember `value` under `key` and return it."""
    if len(memory) >= MOST_REMEMBERED:
        memory.clear()
    memory[key] = value
    return value


def layouts(tensors: Tensors) -> tuple[Any, ...]:
    """Return what checks, options and launches may depend on in tensors, as a key."""
    return tuple(
        [
            tensor
            if tensor is None
            else (tensor.shape, tensor.stride(), tensor.dtype, tensor.device, tensor.data_ptr() % ALIGNMENT)
            for tensor in tensors
        ]
    )


def _layout(value: Any) -> Any:
    """Return what a check may look at in one argument, as a key."""
    if isinstance(value, Tensor):
        return layouts((value,))
    if is_dataclass(value):
        return type(value), *map(_layout, vars(value).values())
    return value


class Shaped(Protocol):
    """Anything with a shape."""

    @property
    def shape(self) -> Sequence[int]:
        """Sizes of the dimensions."""


def bind_shapes(**tensors: tuple[Shaped | None, str]) -> dict[str, int]:
    """Return the size of every dimension letter of tensors that come with their letters, such as "E D H".

    A number before a letter multiplies it: "2H" is twice H, and an earlier tensor must say what H is. A tensor that is
    None is left out.

    Raises:
        ValueError: A tensor has another number of dimensions, a letter has two sizes, or a size other than N, M and B
            is 0.
    """
    sizes: dict[str, int] = {}
    for name, (tensor, text) in tensors.items():
        if tensor is None:
            continue
        letters, shape = text.split(), tensor.shape
        known = [_size(letter, sizes) for letter in letters]
        if len(shape) != len(letters) or not all(map(_fits, letters, known, shape)):
            pairs = zip(letters, known, strict=True)
            expected = ", ".join(letter if size is None else f"{letter} = {size}" for letter, size in pairs)
            raise ValueError(f"{name} must have the shape ({expected}), not {tuple(shape)}")
        sizes.update(zip(letters, shape, strict=True))
    return sizes


def _size(letter: str, sizes: dict[str, int]) -> int | None:
    """Return the size that `letter`, such as "H" or "2H", must have, or None if it may still be anything."""
    if letter in sizes or len(letter) == 1:
        return sizes.get(letter)
    size = sizes.get(letter[-1])
    return None if size is None else int(letter[:-1]) * size


def _fits(letter: str, known: int | None, size: int) -> bool:
    """Return whether `letter` may have this size."""
    return size == known or (known is None and (size > 0 or letter in "NMB"))


def require_dtype(*dtypes: torch.dtype, **tensors: Tensor | None) -> None:
    """Raise ValueError unless all `tensors` that are not None have the same one of `dtypes`; the first is a tensor."""
    (first, leader), *others = [(name, tensor) for name, tensor in tensors.items() if tensor is not None]
    if leader.dtype not in dtypes:
        raise ValueError(f"{first} must be {' or '.join(map(str, dtypes))}, not {leader.dtype}")
    for name, tensor in others:
        if tensor.dtype != leader.dtype:
            raise ValueError(f"{name} must have the dtype of {first}, {leader.dtype}, not {tensor.dtype}")
