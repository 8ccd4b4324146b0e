"""Triton's interpreter, made quicker."""

import math
from types import FunctionType
from typing import Any

import numpy as np
import triton.language as tl
from triton.language.semantic import TritonSemantic
from triton.runtime import interpreter


def quicken_interpreter() -> None:
    """Leave out what the interpreter computes for nothing, three quarters of the time of its tests; it interprets now.

    At every call it patches Triton's language anew. It repeats every sum and product of integers in 64 bits for an
    assertion that it makes only when debugging, and makes its table of dtypes for every value, and the type of every
    value from its shape.

    Triton 3.6's also learns to take a loaded value for a bound: NumPy 2.4 refuses its arrays of one value.
    """
    interpreter._patch_attr = _patch_attribute
    scope = interpreter._patch_lang(FunctionType((lambda: None).__code__, {"tl": tl, "core": tl.core}))
    scope.set_attr(tl.tensor, "__index__", lambda self: self.handle.data.item())
    interpreter._patch_lang = lambda kernel: interpreter._LangPatchScope()
    TritonSemantic.binary_op_sanitize_overflow_impl = lambda self, left, right, operation: None
    dtypes: dict[str, np.dtype] = {}
    make = interpreter._get_np_dtype
    interpreter._get_np_dtype = lambda kind: dtypes.get(kind.name) or dtypes.setdefault(kind.name, make(kind))
    _make_types_once()


def _patch_attribute(owner: Any, name: str, member: Any, builder: Any, scope: Any) -> None:
    """Let a function of the language call what it wraps, which needs no check."""
    function = getattr(member, "__wrapped__", member)

    def call(*arguments: Any, **named: Any) -> Any:
        named["_semantic"] = interpreter.interpreter_semantic
        return function(*arguments, **named)

    scope.set_attr(owner, name, call)


def _make_types_once() -> None:
    """Keep what Triton's language derives from a shape."""
    make_type, broadcast = tl.block_type.__init__, TritonSemantic.broadcast_impl_value
    types: dict[tuple[Any, ...], dict[str, Any]] = {}
    sizes: dict[tuple[int, ...], tuple[Any, Any]] = {}

    def init_type(self: Any, element_ty: Any, shape: Any) -> None:
        key = (element_ty.name, *(size.value if type(size) is tl.constexpr else size for size in shape))
        if key not in types:
            make_type(self, element_ty, shape)
            types[key] = vars(self)
        self.__dict__ = types[key]

    def init_tensor(self: Any, handle: Any, kind: Any) -> None:
        shape = (*kind.shape.values,) if kind.is_block() else ()
        if shape not in sizes:
            sizes[shape] = tl.tuple([tl.constexpr(size) for size in shape]), tl.constexpr(math.prod(shape))
        self.handle, self.type, self.dtype = handle, kind, kind.scalar
        self.shape, self.numel = sizes[shape]

    def broadcast_unequal(self: Any, left: Any, right: Any) -> tuple[Any, Any]:
        same = left.type.is_block() and right.type.is_block() and left.type.shape.values == right.type.shape.values
        return (left, right) if same else broadcast(self, left, right)

    def unwrap(value: Any) -> Any:
        if type(value) is tl.constexpr:
            return value.value
        return unwrap_all(value) if isinstance(value, list | tuple | tl.tuple) else value

    unwrap_all, tl.core._unwrap_if_constexpr = tl.core._unwrap_if_constexpr, unwrap
    equal, tl.dtype.__eq__ = tl.dtype.__eq__, lambda self, other: self is other or equal(self, other)
    tl.block_type.__init__, tl.tensor.__init__ = init_type, init_tensor
    TritonSemantic.broadcast_impl_value = broadcast_unequal
