"""Arrays of real numbers in .npy files, checked before any memory is taken for them."""

from __future__ import annotations

import io
import math
from typing import Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

MOST_BYTES = 8
"""Of a number: torch has no wider one."""


def array(content: bytes) -> NDArray[Any]:
    """Return the array that the content of a .npy file describes, in the byte order of this machine.

    Raises `ValueError`, which says what is wrong, unless it is one array of real numbers of at most 64 bits.
    """
    stream = io.BytesIO(content)
    try:
        header = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}[npy.read_magic(stream)]
        shape, by_columns, dtype = header(stream)
    except (ValueError, KeyError, TypeError, SyntaxError, EOFError, RecursionError, MemoryError):
        raise ValueError("is no .npy file that numpy.save writes for one array of numbers") from None
    if dtype.kind not in "fiu" or dtype.itemsize > MOST_BYTES:
        raise ValueError(f"holds {dtype}, not one array of real numbers")
    promised, there = math.prod(shape) * dtype.itemsize, len(content) - stream.tell()
    if promised != there or any(size < 0 for size in shape):
        raise ValueError(f"holds {there:,} bytes of numbers, but its header promises the shape {shape}")
    flat = np.frombuffer(content, dtype, offset=stream.tell())
    return flat.reshape(shape, order="F" if by_columns else "C").astype(dtype.newbyteorder("="), order="C")
