"""What float32 means: the format itself on every device, never a narrower one behind its name."""

from __future__ import annotations

import torch


def exact_float32() -> None:
    """Switch off TF32, which torch uses for float32 convolutions on a GPU unless told otherwise."""
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cuda.matmul.allow_tf32 = False
