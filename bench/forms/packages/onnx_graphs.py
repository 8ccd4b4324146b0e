"""Plain top-k heads as ONNX graphs of few nodes, written node by node.

The exporter's graph of the head's definition has a dozen nodes for each expert. Here NonZero lists the assignments by
expert, Split deals their rows, and an expert is left with its two products and the activation.

Letters: N rows, D input width, H hidden width of one expert, E experts, k experts per row, M = N k assignments, C
output width, W = H columns of the first product, or 2H for swiglu.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor

from bench.errors import UnavailableError
from bench.forms.packages.integers import Scheme, rounded
from kernels.problem.experts import interleave
from models.heads.sparse import SparseMoEHead
from models.settings import Activation

ELEMENT_TYPES = {torch.float32: TensorProto.FLOAT, torch.float16: TensorProto.FLOAT16}
LARGEST = 2**31 - 2**20
"""Bytes of constants in a model: protobuf's limit less what the nodes take."""
SMALLEST_DEVIATION = 1e-100
"""Of a row of scores, so that equal scores get equal weights; no two float32 scores differ so little."""


class Graph:
    """An ONNX graph as it is written: a call adds one node and returns the name of its output."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def __call__(self, op: str, *inputs: str | Tensor, **attributes: Any) -> str:
        """Add a node with one output; tensors among its inputs become constants of the graph."""
        (output,) = self.several(1, op, *inputs, **attributes)
        return output

    def several(self, outputs: int, op: str, *inputs: str | Tensor, domain: str = "", **attributes: Any) -> list[str]:
        """Add a node with so many `outputs` and return their names."""
        number = len(self.nodes)
        names = [each if isinstance(each, str) else self._constant(each) for each in inputs]
        results = [f"{op}_{number}_{place}" for place in range(outputs)]
        self.nodes.append(helper.make_node(op, names, results, domain=domain, **attributes))
        return results

    def _constant(self, value: Tensor) -> str:
        name = f"constant_{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(value.detach().cpu().contiguous().numpy(), name))
        return name

    def model(self, head: SparseMoEHead, logits: str) -> bytes:
        """Return the graph with input `x` (N, D) and output `logits` (N, C), serialised.

        Raises `UnavailableError` if it is larger than ONNX allows.
        """
        size = sum(len(constant.raw_data) for constant in self.constants)
        if size > LARGEST:
            raise UnavailableError(f"an ONNX model holds at most 2 GiB, and this one's weights take {size / 2**30:.1f}")
        element = ELEMENT_TYPES[head.w1.dtype]
        self.nodes.append(helper.make_node("Identity", [logits], ["logits"]))
        widths = {"x": head.config.features, "logits": head.config.classes}
        x, out = (helper.make_tensor_value_info(name, element, ["N", width]) for name, width in widths.items())
        graph = helper.make_graph(self.nodes, "head", [x], [out], self.constants)
        versions = [helper.make_opsetid("", 20), helper.make_opsetid("com.microsoft", 1)]
        model: bytes = helper.make_model(graph, opset_imports=versions, ir_version=10).SerializeToString()
        return model


def split(head: SparseMoEHead) -> bytes:
    """Return a plain top-k head as a graph that gives each expert its rows, (N, D) -> (N, C)."""
    g, dtype = Graph(), head.w1.dtype
    E, k, C = head.config.experts, head.config.k, head.config.classes
    ids, weights, _ = _routed(g, head)  # (N, k), (N, k)
    every = torch.arange(E)[:, None]
    chosen = g("Equal", every, g("Reshape", ids, torch.tensor([1, -1])))  # (E, M)
    order = g("Gather", g("NonZero", chosen), torch.tensor(1))  # (M,), of the assignments by expert
    loads = g("ReduceSum", g("Cast", chosen, to=TensorProto.INT64), torch.tensor([1]), keepdims=0)  # (E,)
    rows = g("Gather", "x", g("Div", order, torch.tensor(k)))  # (M, D)
    sent = g.several(E, "Split", rows, loads, axis=0)  # (m, D) each
    outputs = [_expert(g, head, e, x) for e, x in enumerate(sent)]  # (m, C) each
    y = g("Concat", *outputs, axis=0)  # (M, C)
    unset = g("ConstantOfShape", g("Shape", y), value=numpy_helper.from_array(np.zeros(1, _numpy(dtype))))
    by_row = g("ScatterND", unset, g("Unsqueeze", order, torch.tensor([1])), y)  # (M, C), in the order of the rows
    by_row = _cast(g, g("Reshape", by_row, torch.tensor([-1, k, C])), dtype, torch.float32)
    mixed = g("MatMul", g("Unsqueeze", weights, torch.tensor([1])), by_row)  # (N, 1, C)
    return g.model(head, _cast(g, g("Squeeze", mixed, torch.tensor([1])), torch.float32, dtype))


def fused(head: SparseMoEHead, scheme: Scheme | None = None) -> tuple[bytes, int]:
    """Return a plain top-k head as a graph around `com.microsoft::MoE`, (N, D) -> (N, C), and its number of nodes.

    C is at most D. With a scheme the operator is `com.microsoft::QMoE`, whose weights are integers.

    The operator gives equal scores to the highest id and turns NaN into numbers. So the graph selects: it passes the
    logarithm of a chosen expert's weight, and almost nothing for the others; and it multiplies the outputs with the sum
    of the weights, which is 1, or NaN if a score is.
    """
    g, dtype = Graph(), head.w1.dtype
    C = head.config.classes
    ids, weights, scores = _routed(g, head)
    almost_nothing = numpy_helper.from_array(np.array([-1e4], np.float32))
    others = g("ConstantOfShape", g("Shape", scores), value=almost_nothing)  # (N, E)
    passed = _cast(g, g("ScatterElements", others, ids, g("Log", weights), axis=1), torch.float32, dtype)
    gated = head.config.activation == "swiglu"  # whose halves the operator wants in turn
    w1, b1 = (interleave(each) if gated else each for each in (head.w1, head.b1))
    w2, b2 = (_widened(each, head.config.features) for each in (head.w2, head.b2))
    weights1, weights2 = (_stored(w, scheme) for w in (w1, w2))  # (E, W, D) and (E, D, H), with scales in a scheme
    swiglu = {"activation_alpha": 1.0, "activation_beta": 0.0, "swiglu_fusion": 1}
    wide = g(
        "QMoE" if scheme else "MoE", "x", passed, *weights1, b1, *weights2, b2, domain="com.microsoft",
        k=head.config.k, normalize_routing_weights=1, activation_type=head.config.activation,
        **(swiglu if gated else {}), **_storage(scheme),
    )  # (N, D)  # fmt: skip
    logits = g("Slice", wide, torch.tensor([0]), torch.tensor([C]), torch.tensor([1]))
    total = g("ReduceSum", weights, torch.tensor([1]))  # (N, 1)
    return g.model(head, g("Mul", logits, _cast(g, total, torch.float32, dtype))), len(g.nodes)


def _stored(w: Tensor, scheme: Scheme | None) -> tuple[Tensor, ...]:
    """Return weights (E, D, W) as the fused operators take them: (E, W, D), or packed integers and their scales."""
    return rounded(w, scheme).packed() if scheme else (w.transpose(1, 2),)


def _storage(scheme: Scheme | None) -> dict[str, int]:
    """Return the attributes that tell QMoE how weights are stored."""
    if scheme is None:
        return {}
    return {"expert_weight_bits": scheme.bits, **({"block_size": scheme.group} if scheme.group else {})}


def _routed(g: Graph, head: SparseMoEHead) -> tuple[str, str, str]:
    """Add the routing: ids (N, k), weights (N, k) and scores (N, E), in float32 like the head's.

    As in `bench.forms.routing` it ranks the scores of the gate themselves, and only their weights need the deviation.
    """
    config = head.config
    gate = head.gate.weight.float(), head.gate.bias.float()
    scores = g("Gemm", _cast(g, "x", head.w1.dtype, torch.float32), *gate, transB=1)  # (N, E)
    best, ids = g.several(2, "TopK", scores, torch.tensor([config.k]))  # (N, k) each; equal scores by lowest id
    known = best if config.weights_over == "selected" else scores
    wide = g("Cast", known, to=TensorProto.DOUBLE)
    factor = torch.tensor(1 / config.temperature, dtype=torch.float64)
    scale: str | Tensor = factor
    if config.standardise:
        every = wide if known is scores else g("Cast", scores, to=TensorProto.DOUBLE)
        deviation = g("Sub", every, g("ReduceMean", every, torch.tensor([1])))
        size = g("ReduceL2", deviation, torch.tensor([1]))  # (N, 1)
        smallest = torch.tensor(SMALLEST_DEVIATION, dtype=torch.float64)
        scale = g("Div", factor * math.sqrt(config.experts - 1), g("Max", size, smallest))
    weights = g("Cast", g("Softmax", g("Mul", wide, scale), axis=1), to=TensorProto.FLOAT)
    return ids, weights if known is best else g("GatherElements", weights, ids, axis=1), scores


def _expert(g: Graph, head: SparseMoEHead, e: int, x: str) -> str:
    """Add expert e for its rows `x` (m, D), and return its outputs (m, C)."""
    h = _activated(g, head.config.activation, g("Gemm", x, head.w1[e], head.b1[e]))
    return g("Gemm", h, head.w2[e], head.b2[e])


def _activated(g: Graph, activation: Activation, h: str) -> str:
    match activation:
        case "relu":
            return g("Relu", h)
        case "gelu":
            return g("Gelu", h)
        case "silu":
            return g("Mul", h, g("Sigmoid", h))
        case "swiglu":
            gate, value = g.several(2, "Split", h, axis=1, num_outputs=2)
            return g("Mul", g("Mul", gate, g("Sigmoid", gate)), value)


def _cast(g: Graph, value: str, held: torch.dtype, wanted: torch.dtype) -> str:
    """Return `value`, cast if its dtype `held` is not the one wanted."""
    return value if held == wanted else g("Cast", value, to=ELEMENT_TYPES[wanted])


def _widened(weight: Tensor, width: int) -> Tensor:
    """Return weights (..., C) with zeros appended up to `width`."""
    return torch.cat([weight, weight.new_zeros(*weight.shape[:-1], width - weight.shape[-1])], dim=-1)


def _numpy(dtype: torch.dtype) -> Any:
    return torch.empty(0, dtype=dtype).numpy().dtype
