"""The checks of shapes and dtypes."""

import pytest
import torch

from kernels.checks import bind_shapes, require_dtype


def test_letters_get_sizes() -> None:
    sizes = bind_shapes(x=(torch.zeros(0, 3), "N D"), w=(torch.zeros(2, 3, 4), "E D H"))
    assert sizes == {"N": 0, "D": 3, "E": 2, "H": 4}


@pytest.mark.parametrize("shape", [(2, 5, 4), (3, 4), (2, 3, 4, 1), (2, 3, 0)])
def test_a_shape_that_does_not_fit_is_named(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"^w must have the shape \(E, D = 3, H\), not \("):
        bind_shapes(x=(torch.zeros(7, 3), "N D"), w=(torch.zeros(shape), "E D H"))


def test_dtypes_must_agree() -> None:
    half, single = torch.zeros(1, dtype=torch.float16), torch.zeros(1)
    require_dtype(torch.float16, torch.float32, a=half, b=half)
    with pytest.raises(ValueError, match=r"^a must be torch.float16, not torch.float32$"):
        require_dtype(torch.float16, a=single)
    with pytest.raises(ValueError, match=r"^b must have the dtype of a, torch.float16, not torch.float32$"):
        require_dtype(torch.float16, torch.float32, a=half, b=single)
