"""The step between the two products: the kernel against its reference, which torch differentiates, in float64."""

from typing import Any

import pytest
import torch

from kernels.ops.activation_gradient import activation_gradient, activation_gradient_reference
from tests.kernels.ops.test_weight_gradient import IDS, normal, sorted_rows


@pytest.mark.parametrize("biased", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@pytest.mark.parametrize("activation", ["relu", "gelu", "silu", "swiglu", "interleaved_swiglu"])
def test_goes_through_the_activation(activation: Any, dtype: torch.dtype, biased: bool) -> None:
    dispatch, ids, weights = sorted_rows(), torch.tensor(IDS), normal(40, seed=3)
    z, grad = normal(40, 600 if "swiglu" in activation else 300, dtype=dtype), normal(40, 300, dtype=dtype, seed=1)
    bias, dout = (normal(6, 5, dtype=dtype, seed=4) if biased else None), normal(20, 5, dtype=dtype, seed=5)
    z[0, :2] = torch.tensor([-200.0, 200.0])
    doubles = (z.double(), grad.double(), weights.double(), ids, dispatch, bias if bias is None else bias.double())
    right = activation_gradient_reference(*doubles, dout.double(), activation)
    untouched = z[35:].clone(), grad[35:].clone()  # the five assignments without an expert
    dweights, by_slot = activation_gradient(z, grad, weights, ids, dispatch, bias, dout, activation)
    close = {"rtol": 2 * torch.finfo(dtype).eps, "atol": 2 * torch.finfo(dtype).eps}
    torch.testing.assert_close(z.double(), right[0], **close)
    torch.testing.assert_close(grad.double(), right[1], **close)
    torch.testing.assert_close(dweights.double(), right[2], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(by_slot[:35].double(), right[3][:35])
    assert torch.equal(z[35:], untouched[0])
    assert torch.equal(grad[35:], untouched[1])


def test_values_that_are_written_must_be_contiguous() -> None:
    z, grad = normal(40, 8), normal(8, 40).t()
    with pytest.raises(ValueError, match="must be contiguous"):
        activation_gradient(z, grad, normal(40), torch.tensor(IDS), sorted_rows(), None, normal(20, 5), "relu")


def test_an_unknown_activation_is_refused() -> None:
    wrong: Any = "tanh"
    with pytest.raises(ValueError, match="activation must be one of"):
        activation_gradient(
            normal(40, 8), normal(40, 8), normal(40), torch.tensor(IDS), sorted_rows(), None, normal(20, 5), wrong
        )
