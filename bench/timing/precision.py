"""float32 means float32 on every device, never a narrower format under its name."""

from __future__ import annotations

import torch


def exact_float32() -> None:
    """Switch off TF32, which torch uses for float32 convolutions on a GPU by default."""
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cuda.matmul.allow_tf32 = False
