"""Count the work of kernels under the interpreter: FLOPs of their dots, bytes of their loads and stores."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
from triton.runtime.interpreter import InterpreterBuilder, _get_np_dtype


@dataclass
class Counted:
    """Sums over all programs that ran, with bytes of floating-point values and of integers apart."""

    dots: int = 0
    multiplications: int = 0
    read: dict[str, int] = field(default_factory=lambda: {"f": 0, "i": 0})
    written: dict[str, int] = field(default_factory=lambda: {"f": 0, "i": 0})


@contextmanager
def counting() -> Iterator[Counted]:
    """Count the work of every kernel that runs inside."""
    counted = Counted()
    dot, load, store = (
        getattr(InterpreterBuilder, name) for name in ("create_dot", "create_masked_load", "create_masked_store")
    )
    multiply = InterpreterBuilder.create_fmul

    def counting_dot(self: Any, a: Any, b: Any, *others: Any) -> Any:
        counted.dots += 2 * a.data.shape[0] * a.data.shape[1] * b.data.shape[1]
        return dot(self, a, b, *others)

    def counting_multiply(self: Any, a: Any, b: Any) -> Any:
        counted.multiplications += a.data.size
        return multiply(self, a, b)

    def count(sums: dict[str, int], pointers: Any, mask: Any) -> None:
        dtype = _get_np_dtype(pointers.get_element_ty())
        sums["f" if dtype.kind == "f" else "i"] += int(mask.data.sum()) * dtype.itemsize

    def counting_load(self: Any, pointers: Any, mask: Any, *others: Any, **named: Any) -> Any:
        count(counted.read, pointers, mask)
        return load(self, pointers, mask, *others, **named)

    def counting_store(self: Any, pointers: Any, value: Any, mask: Any, *others: Any, **named: Any) -> Any:
        count(counted.written, pointers, mask)
        return store(self, pointers, value, mask, *others, **named)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(InterpreterBuilder, "create_dot", counting_dot)
        patch.setattr(InterpreterBuilder, "create_fmul", counting_multiply)
        patch.setattr(InterpreterBuilder, "create_masked_load", counting_load)
        patch.setattr(InterpreterBuilder, "create_masked_store", counting_store)
        yield counted
