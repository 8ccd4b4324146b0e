"""Triton's interpreter, made quicker."""

from types import FunctionType

import numpy as np
import triton.language as tl
from triton.language.semantic import TritonSemantic
from triton.runtime import interpreter


def quicken_interpreter() -> None:
    """Leave out what the interpreter computes for nothing, half of the time of its tests; it interprets from now on.

    At every call it patches Triton's language anew. It repeats every sum and product of integers in 64 bits for an
    assertion that it makes only when debugging, and makes its table of dtypes for every value.

    Triton 3.6's also learns to take a loaded value for a bound: NumPy 2.4 refuses its arrays of one value.
    """
    scope = interpreter._patch_lang(FunctionType((lambda: None).__code__, {"tl": tl, "core": tl.core}))
    scope.set_attr(tl.tensor, "__index__", lambda self: self.handle.data.item())
    interpreter._patch_lang = lambda kernel: interpreter._LangPatchScope()
    TritonSemantic.binary_op_sanitize_overflow_impl = lambda self, left, right, operation: None
    dtypes: dict[str, np.dtype] = {}
    make = interpreter._get_np_dtype
    interpreter._get_np_dtype = lambda kind: dtypes.get(kind.name) or dtypes.setdefault(kind.name, make(kind))
