"""Our Triton kernels with the experts' weights stored in 8 or 4 bits: one form for each scheme.

Few rows take about as long as their experts' weights take to be read, and these have a half or a quarter of the bytes.
The outputs are those of rounded weights, of lower precision than those of other forms: the case says by how much.

Letters: D input width, H hidden width of one expert, C output width, W = H columns of an expert's first product, or 2H
for swiglu.
"""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from bench.execution.form import Form, StoredWeights
from bench.forms.triton import prepare, steps, unavailable, untimeable
from kernels.problem.stored import GROUP, SCHEMES, Scheme, matrix_bytes, stored
from models.heads.heads import Head, HeadConfig
from models.settings import halves


def _unavailable(scheme: Scheme, config: HeadConfig, device: torch.device, dtype: torch.dtype) -> str | None:
    reason = unavailable(config, device, dtype)
    D, H = config.features, config.hidden
    if reason is None and scheme == "mxfp4" and (D % GROUP or H % GROUP):
        return f"in mxfp4 {GROUP} weights along a sum share a scale, and {D} or {H} is no multiple of {GROUP}"
    return reason


def _parameters(scheme: Scheme, head: Head) -> dict[str, Tensor]:
    """Return the head's parameters with the weights of both products as stored, in float32."""
    rounded = {name: stored(w, scheme).dequantised() for name, w in (("w1", head.w1), ("w2", head.w2))}
    return {**head.state_dict(), **rounded}


def _expert_bytes(scheme: Scheme, config: HeadConfig, size: int) -> int:
    """Return the bytes of one expert's weights with their scales, and of its biases, whose values have `size` bytes."""
    D, H, C, W = config.features, config.hidden, config.classes, halves(config.activation) * config.hidden
    return matrix_bytes(scheme, D, W, size) + matrix_bytes(scheme, H, C, size) + size * (W + C)


def _form(scheme: Scheme) -> Form:
    return Form(
        f"triton_{scheme}",
        11,
        f"our kernels, lower precision: weights stored in {scheme}",
        partial(_unavailable, scheme),
        partial(prepare, scheme=scheme),
        untimeable=untimeable,
        steps=partial(steps, scheme=scheme),
        setup=4.0,
        stored=StoredWeights(scheme, partial(_parameters, scheme), partial(_expert_bytes, scheme)),
        default=False,
    )


FORMS = tuple(map(_form, SCHEMES))
