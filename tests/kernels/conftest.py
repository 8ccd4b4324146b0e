"""Fixtures of every kernel test."""

import os
import warnings
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from triton.language.semantic import TritonSemantic
from triton.runtime import interpreter


@pytest.fixture(scope="session", autouse=True)
def nothing_for_nothing() -> None:
    """Spare the interpreter what it throws away, which was a third of these tests' time.

    It repeats every sum and product of integers in 64 bits for an assertion that it makes only when debugging, and
    makes its table of dtypes for every value.
    """
    if os.environ["TRITON_INTERPRET"] != "1":
        return
    TritonSemantic.binary_op_sanitize_overflow_impl = lambda self, left, right, operation: None
    dtypes: dict[str, np.dtype] = {}
    make = interpreter._get_np_dtype
    interpreter._get_np_dtype = lambda kind: dtypes.get(kind.name) or dtypes.setdefault(kind.name, make(kind))


@pytest.fixture(autouse=True)
def poisoned_memory() -> Iterator[None]:
    """Fill what torch.empty returns with NaN or the largest integer, so that a place never written shows."""
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


@pytest.fixture(autouse=True)
def silent_numpy() -> Iterator[None]:
    """Let the interpreter compute NaN and Inf without NumPy's warnings: a GPU raises none."""
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "All-NaN slice encountered", RuntimeWarning)
        yield
