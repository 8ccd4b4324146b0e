"""The sparse head from features and scores to logits: routing, dispatch, two grouped products, combine.

N rows, D input width, H hidden width of one expert, E experts, k experts per row, C output width, M = N k.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor

from kernels.activation import Activation, check_activation
from kernels.checks import FLOATS, bind_shapes, require_dtype
from kernels.combine import combine, combine_reference
from kernels.dispatch import dispatch_reference, dispatch_rows
from kernels.grouped_gemm import grouped_gemm, grouped_gemm_reference
from kernels.launch import require_device
from kernels.options import Options, default_options
from kernels.routing import WeightsOver, top_k_routing, top_k_routing_reference

Stage = Callable[[str], AbstractContextManager[object]]


def _unnamed(name: str) -> AbstractContextManager[object]:
    return nullcontext()


EXACT_COLUMNS = 128
"""Up to this C the experts' outputs stay fp32 until they are combined; beyond, that would cost bandwidth."""


def sparse_moe(
    x: Tensor,
    scores: Tensor,
    w1: Tensor,
    b1: Tensor,
    w2: Tensor,
    b2: Tensor,
    *,
    k: int,
    activation: Activation,
    temperature: float,
    standardise: bool,
    weights_over: WeightsOver,
    options: Options | None = None,
    stage: Stage = _unnamed,
) -> Tensor:
    """Return the logits (N, C) of the k best of E experts per row, in the dtype of `x`.

    Args:
        x: (N, D) fp32, fp16 or bf16, any strides; N may be 0.
        scores: (N, E) fp32.
        w1: (E, D, H) in the dtype of `x`, any strides, as the next three.
        b1: (E, H).
        w2: (E, H, C).
        b2: (E, C).
        k: Experts per row, 1 to E.
        activation: "relu", "gelu" (exact, with erf) or "silu".
        temperature: Divides the scores in the softmax; above 0.
        standardise: Shift and scale each row's scores to mean 0 and standard deviation 1 first.
        weights_over: Softmax over the "selected" k, or over "all" E and not renormalised.
        options: Tile sizes; by default chosen by dtype and rows per expert.
        stage: Names the steps route, dispatch, experts and combine for a profiler; by default they go unnamed.

    Inference only. Never waits for the device, so a CUDA graph of it may be replayed with other routing;
    repeated runs are bit-identical.

    Raises:
        ValueError: An argument has the wrong shape, dtype, range or device, or needs a gradient.
    """
    tensors = {"x": x, "w1": w1, "b1": b1, "w2": w2, "b2": b2}
    require_device(**tensors, scores=scores)
    require_dtype(*FLOATS, **tensors)
    _require_no_gradient(**tensors, scores=scores)
    check_activation(activation)
    N, D, E, H, C = bind_shapes(
        x=(x, "N D"),
        scores=(scores, "N E"),
        w1=(w1, "E D H"),
        b1=(b1, "E H"),
        w2=(w2, "E H C"),
        b2=(b2, "E C"),
    ).values()
    options = options or default_options(x.dtype, rows_per_expert=N * k / E, features=D, hidden=H, outputs=C)
    y_dtype = torch.float32 if C <= EXACT_COLUMNS else x.dtype
    with stage("route"):
        ids, weights = top_k_routing(
            scores, k, temperature=temperature, standardise=standardise, weights_over=weights_over
        )  # (N, k), (N, k)
    with stage("dispatch"):
        dispatch = dispatch_rows(ids, E, tile_rows=options.tile_rows)
    with stage("experts"):
        hidden = grouped_gemm(x, w1, b1, dispatch, gather=True, activation=activation, options=options.first)  # (M, H)
        y = grouped_gemm(
            hidden, w2, b2, dispatch, gather=False, activation=None, options=options.second, out_dtype=y_dtype
        )  # (M, C)
    with stage("combine"):
        return combine(y, weights, dispatch.slots, out_dtype=x.dtype)


def sparse_moe_reference(
    x: Tensor,
    scores: Tensor,
    w1: Tensor,
    b1: Tensor,
    w2: Tensor,
    b2: Tensor,
    *,
    k: int,
    activation: Activation,
    temperature: float,
    standardise: bool,
    weights_over: WeightsOver,
) -> Tensor:
    """Return what `sparse_moe` does, step by step in plain PyTorch on any device; fp64 operands stay fp64."""
    ids, weights = top_k_routing_reference(
        scores, k, temperature=temperature, standardise=standardise, weights_over=weights_over
    )
    dispatch = dispatch_reference(ids, w1.shape[0], tile_rows=1)
    hidden = grouped_gemm_reference(x, w1, b1, dispatch, gather=True, activation=activation)
    exact = torch.promote_types(x.dtype, torch.float32)
    y = grouped_gemm_reference(hidden, w2, b2, dispatch, gather=False, activation=None, out_dtype=exact)
    return combine_reference(y, weights, dispatch.slots, out_dtype=x.dtype)


def _require_no_gradient(**tensors: Tensor) -> None:
    for name, tensor in tensors.items():
        if torch.is_grad_enabled() and tensor.requires_grad:
            raise ValueError(f"sparse_moe is inference only, but {name} requires a gradient: use torch.no_grad()")
