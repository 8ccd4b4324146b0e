"""Tensor descriptors: the device copies whole tiles, with zeros beyond the end of a dimension.

E experts, D input and H output width of a product.
"""

from typing import Any

from torch import Tensor
from triton.tools.tensor_descriptor import TensorDescriptor

from kernels.launch.checks import ALIGNMENT


def strides_of(tensor: Tensor) -> list[int]:
    """Return the strides, with an aligned one for each dimension of size 1, whose stride means nothing."""
    pairs = zip(tensor.shape[:-1], tensor.stride()[:-1], strict=True)
    return [stride if size > 1 else ALIGNMENT for size, stride in pairs] + [tensor.stride(-1)]


def describable(tensor: Tensor, blocks: int = 1) -> bool:
    """Return whether strides and address allow a descriptor: contiguous rows that do not overlap and are aligned.

    If a row is read in two blocks, the second half of the row must be aligned too.
    """
    *outer, last = strides_of(tensor)
    second = [tensor.shape[-1] // 2] if blocks == 2 else []
    aligned = all(stride > 0 and stride * tensor.element_size() % ALIGNMENT == 0 for stride in outer + second)
    return last == 1 and aligned and tensor.data_ptr() % ALIGNMENT == 0


def describe(name: str, tensor: Tensor, block: list[int], blocks: int = 1) -> TensorDescriptor:
    """Return the descriptor of `tensor` in tiles of `block`; no size may be 0.

    Raises:
        ValueError: `tensor` is not describable; the message calls it `name`.
    """
    if not describable(tensor, blocks):
        raise ValueError(
            f"{name} cannot be read through a tensor descriptor: it needs a last stride of 1, other strides of "
            f"a multiple of {ALIGNMENT} bytes above 0, and an address, also of its second half, at such a multiple"
        )
    return TensorDescriptor(tensor, list(tensor.shape), strides_of(tensor), block)


def is_descriptor(value: object) -> bool:
    """Return whether `value` is a descriptor, of Triton or of Gluon."""
    return hasattr(value, "block_shape")


def pointed(descriptor: Any, tensor: Tensor | None) -> Any:
    """Return `descriptor` for another tensor of the same layout, which is not checked again; or for none."""
    result = object.__new__(type(descriptor))
    vars(result).update(vars(descriptor), base=tensor)
    return result
