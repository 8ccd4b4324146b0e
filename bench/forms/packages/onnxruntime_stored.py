"""ONNX Runtime's fused operator with the experts' weights stored as integers: one form for each scheme.

The CPU provider turns the integers of 8 bits into fp32 in each call, and multiplies by those of 4 bits in groups with
the kernels of `MatMulNBits`, whose rows stay in fp32. The outputs are those of rounded weights, of lower precision than
those of other forms: the case says by how much.

Letters: D input width, H hidden width of one expert, C output width, W = H columns of an expert's first product, or 2H
for swiglu.
"""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from bench.execution.form import Form, Runner, StoredWeights
from bench.forms.packages.integers import SCHEMES, Scheme, rounded
from bench.forms.packages.onnxruntime import events, fused_model, prepare_fused, unavailable_fused
from bench.timing.environment import available_memory
from models.heads.heads import Head, HeadConfig
from models.heads.sparse import SparseMoEHead
from models.settings import halves

COPIES = 6
"""Of stored weights at most in memory at a time: three in the graph that is written, its bytes, two in the session."""


def _unavailable(scheme: Scheme, config: HeadConfig, device: torch.device, dtype: torch.dtype) -> str | None:
    if device.type != "cpu":
        return "this form stores weights as ONNX Runtime's CPU provider reads them; on a GPU, triton_mxfp4 stores them"
    D, H, group = config.features, config.hidden, scheme.group
    if group and (D % group or H % group):
        return f"in {scheme.name} {group} weights along a sum share a scale, and {D} or {H} is no multiple of {group}"
    return unavailable_fused(config, device, dtype)


def _prepare(scheme: Scheme, head: Head, example: Tensor) -> Runner:
    """Return the runner, or raise `MemoryError` before a large layer exhausts the memory."""
    assert isinstance(head, SparseMoEHead)
    E, D, W = head.w1.shape
    stored = E * (scheme.matrix_bytes(D, W) + scheme.matrix_bytes(head.config.hidden, D))
    needed = COPIES * stored + 4 * (head.w1.numel() + head.w2.numel())  # the check widens the rounded weights
    free = available_memory(example.device)
    if needed > free:
        raise MemoryError(
            f"the weights in {scheme.name} take {needed / 1e9:.1f} GB at a time, {free / 1e9:.1f} are free; free some"
        )
    return prepare_fused(head, example, scheme)


def _parameters(scheme: Scheme, head: Head) -> dict[str, Tensor]:
    """Return the head's parameters with the weights of both products as stored, in float32."""
    assert isinstance(head, SparseMoEHead)
    weights = (("w1", head.w1), ("w2", head.w2))
    return {**head.state_dict(), **{name: rounded(w, scheme).dequantised() for name, w in weights}}


def _expert_bytes(scheme: Scheme, config: HeadConfig, size: int) -> int:
    """Return the bytes of one expert's weights with their scales, and of its biases, whose values have `size` bytes."""
    D, H, C, W = config.features, config.hidden, config.classes, halves(config.activation) * config.hidden
    return scheme.matrix_bytes(D, W) + scheme.matrix_bytes(H, C) + size * (W + C)


def _form(scheme: Scheme) -> Form:
    return Form(
        f"onnxruntime_{scheme.name}",
        5,
        f"ONNX Runtime's fused operator, lower precision: weights stored in {scheme.name}",
        partial(_unavailable, scheme),
        partial(_prepare, scheme),
        memory_seen=False,
        events=partial(events, partial(fused_model, scheme=scheme)),
        setup=2.0,
        stored=StoredWeights(scheme.name, partial(_parameters, scheme), partial(_expert_bytes, scheme)),
        capturable=False,
        default=False,
    )


FORMS = tuple(map(_form, SCHEMES))
