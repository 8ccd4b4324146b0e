"""The gradient of a bias against float64 sums of one row at a time."""

import numpy as np
import pytest
import torch

from kernels.ops import bias_gradient as module
from kernels.ops.bias_gradient import bias_gradient, bias_gradient_reference
from tests.kernels.ops.test_weight_gradient import normal, sorted_rows
from tests.kernels.oracle import assert_close, exact


@pytest.mark.parametrize("part", [2048, 3])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("gather", [False, True])
def test_sums_the_rows_of_each_expert(
    gather: bool, weighted: bool, dtype: torch.dtype, part: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PART", part)
    dispatch = sorted_rows()
    b, weights = normal(131, 20 if gather else 40, dtype=dtype).t(), normal(40, seed=1) if weighted else None
    offsets, right, sizes = dispatch.offsets.tolist(), *np.zeros((2, 6, 131))
    for e in range(6):
        for slot in range(offsets[e], offsets[e + 1]):
            row = exact(b)[dispatch.rows[slot] if gather else slot] * (1 if weights is None else float(weights[slot]))
            right[e] += row
            sizes[e] += np.abs(row)
    assert_close(bias_gradient(b, dispatch, weights=weights, gather=gather), right, sizes, dtype)
    assert_close(bias_gradient_reference(b, dispatch, weights=weights, gather=gather), right, sizes, dtype)


def test_wrong_arguments_are_refused() -> None:
    with pytest.raises(ValueError, match=r"weights must have the shape \(M = 40\)"):
        bias_gradient(normal(40, 4), sorted_rows(), weights=normal(3))
