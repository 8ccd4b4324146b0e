"""Fixtures of every kernel test."""

import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from triton.runtime import interpreter


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


@pytest.fixture(autouse=True)
def loops_up_to_loaded_values(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the interpreter of Triton 3.6 take a loaded value for a bound: NumPy 2.4 refuses its arrays of one value."""
    patch = interpreter._patch_lang_tensor

    def patch_index_too(tensor: Any, scope: Any) -> None:
        patch(tensor, scope)
        scope.set_attr(tensor, "__index__", lambda self: self.handle.data.item())

    monkeypatch.setattr(interpreter, "_patch_lang_tensor", patch_index_too)
