"""Which tensors a descriptor can read."""

import pytest
import torch
from torch import Tensor

from kernels.launch.descriptors import describable, describe


def half(*shape: int) -> Tensor:
    return torch.zeros(shape, dtype=torch.float16)


@pytest.mark.parametrize(
    ("tensor", "expected"),
    [
        (half(3, 5, 8), True),
        (half(3, 5, 16)[:, :, :3], True),
        (half(6, 5, 8)[::2], True),
        (half(3, 5, 16)[:, :, 8:], True),
        (half(1, 1, 1), True),
        (half(3, 1, 8)[:, :, :5], True),
        (half(5, 8).expand(1, 5, 8), True),
        (torch.zeros(3, 5, 4), True),
        (half(3, 5, 7), False),
        (half(3, 8, 5).transpose(1, 2), False),
        (half(3, 5, 16)[:, :, ::2], False),
        (half(3, 5, 16)[:, :, 1:9], False),
        (half(5, 8).expand(3, 5, 8), False),
        (half(3, 1, 8).expand(3, 5, 8), False),
    ],
)
def test_strides_and_address_decide(tensor: Tensor, expected: bool) -> None:
    assert describable(tensor) == expected
    if expected:
        assert describe("w", tensor, [1, 16, 16]).base is tensor
        return
    with pytest.raises(ValueError, match=r"^w cannot be read through a tensor descriptor: it needs a last stride of 1"):
        describe("w", tensor, [1, 16, 16])
