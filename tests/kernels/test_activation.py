"""The reference of the activation; the kernel's own is tested where it is used, in the grouped GEMM."""

import numpy as np
import pytest
import torch

from kernels.activation import activate_reference, check_activation
from tests.kernels.oracle import ACTIVATIONS


@pytest.mark.parametrize("name", [None, "relu", "gelu", "silu"])
def test_reference_is_the_activation(name: str | None) -> None:
    x = torch.linspace(-6, 6, 101, dtype=torch.float64)
    np.testing.assert_allclose(activate_reference(x, name), ACTIVATIONS[name](x.numpy()), rtol=1e-9, atol=1e-12)


def test_unknown_names_are_refused() -> None:
    check_activation("silu")
    check_activation(None)
    with pytest.raises(ValueError, match="activation must be one of relu, gelu, silu, not 'swish'"):
        check_activation("swish")
