"""The reference of the activation; the kernel's activation is tested with the grouped GEMM."""

import numpy as np
import pytest
import torch

from kernels.problem.activation import activate_reference, check_activation, halves
from kernels.problem.experts import Experts
from tests.kernels.oracle import ACTIVATIONS


@pytest.mark.parametrize("name", [None, "relu", "gelu", "silu", "swiglu", "interleaved_swiglu"])
def test_reference_is_the_activation(name: str | None) -> None:
    x = torch.linspace(-6, 6, 102, dtype=torch.float64)
    np.testing.assert_allclose(activate_reference(x, name), ACTIVATIONS[name](x.numpy()), rtol=1e-9, atol=1e-12)


def test_swiglu_gates_the_second_half_by_the_first() -> None:
    x = torch.tensor([[-1e4, 30.0, 7.0, 2.0]])
    assert activate_reference(x, "swiglu").tolist() == [[0.0, pytest.approx(60.0)]]
    assert (halves("swiglu"), halves("silu"), halves(None)) == (2, 1, 1)


def test_interleaving_moves_columns_and_changes_no_result() -> None:
    w1, b1 = torch.randn(3, 5, 12, dtype=torch.float64), torch.randn(3, 12, dtype=torch.float64)
    stacked = Experts(w1, b1, torch.empty(3, 6, 4), None, "swiglu")
    pairs = stacked.interleaved()
    assert pairs.activation == "interleaved_swiglu"
    assert torch.equal(pairs.w1[2, 4], torch.stack((w1[2, 4, :6], w1[2, 4, 6:]), dim=1).flatten())
    for e in range(3):
        x = torch.randn(7, 5, dtype=torch.float64)
        expected = activate_reference(x @ w1[e] + b1[e], "swiglu")
        assert pairs.b1 is not None
        torch.testing.assert_close(activate_reference(x @ pairs.w1[e] + pairs.b1[e], pairs.activation), expected)
    assert pairs.interleaved() is pairs
    bare = Experts(w1, None, torch.empty(3, 12, 4), None, "gelu")
    assert bare.interleaved() is bare


def test_unknown_names_are_refused() -> None:
    check_activation("swiglu")
    check_activation(None)
    with pytest.raises(
        ValueError, match="activation must be one of relu, gelu, silu, swiglu, interleaved_swiglu, not 'swish'"
    ):
        check_activation("swish")
