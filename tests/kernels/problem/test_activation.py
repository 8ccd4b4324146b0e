"""The reference of the activation; the kernel's activation is tested with the grouped GEMM."""

import numpy as np
import pytest
import torch

from kernels.problem.activation import activate_reference, check_activation, halves
from tests.kernels.oracle import ACTIVATIONS


@pytest.mark.parametrize("name", [None, "relu", "gelu", "silu", "swiglu"])
def test_reference_is_the_activation(name: str | None) -> None:
    x = torch.linspace(-6, 6, 102, dtype=torch.float64)
    np.testing.assert_allclose(activate_reference(x, name), ACTIVATIONS[name](x.numpy()), rtol=1e-9, atol=1e-12)


def test_swiglu_gates_the_second_half_by_the_first() -> None:
    x = torch.tensor([[-1e4, 30.0, 7.0, 2.0]])
    assert activate_reference(x, "swiglu").tolist() == [[0.0, pytest.approx(60.0)]]
    assert (halves("swiglu"), halves("silu"), halves(None)) == (2, 1, 1)


def test_unknown_names_are_refused() -> None:
    check_activation("swiglu")
    check_activation(None)
    with pytest.raises(ValueError, match="activation must be one of relu, gelu, silu, swiglu, not 'swish'"):
        check_activation("swish")
