"""Dtypes by name; float32 means float32 on every device, never a narrower format under its name."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from bench.errors import BenchError

DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}


def exact_float32() -> None:
    """Switch off TF32, which torch uses for float32 convolutions on a GPU by default."""
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cuda.matmul.allow_tf32 = False


def chosen_dtypes(names: Sequence[str]) -> list[torch.dtype]:
    """Return the dtypes of `names`, or float32 if there are none; raises `BenchError` for an unknown one."""
    return [resolve_dtype(name) for name in dict.fromkeys(names)] or [torch.float32]


def resolve_dtype(name: str) -> torch.dtype:
    """Return the dtype named float32, float16 or bfloat16, or raise `BenchError`."""
    try:
        return DTYPES[name]
    except KeyError:
        raise BenchError(f"unknown dtype {name!r}; choose one of {', '.join(DTYPES)}") from None


def dtype_name(dtype: torch.dtype) -> str:
    """Return the name of `dtype` without `torch.`."""
    return str(dtype).removeprefix("torch.")
