"""The layers that are timed: their sizes, with where these come from, and random tensors of them on a device.

Letters: N rows, D input width, H hidden width of one expert, E experts, k experts per row, C output width,
M = N k assignments.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from bench.subjects import skew
from bench.subjects.skew import _even_experts as even_experts
from bench.subjects.skew import _raising as raising
from kernels.problem.activation import Activation, halves
from kernels.problem.problem import Problem
from kernels.problem.routes import Gate, TopK
from models.heads.experts import ACTIVATIONS
from reports.records.timing import Routing


@dataclass(frozen=True)
class Layer:
    """Sizes of a MoE layer; `biased` says whether gate and experts have biases, `source` where the sizes stand."""

    name: str
    D: int
    H: int
    E: int
    k: int
    C: int
    activation: Activation
    source: str
    biased: bool = False
    standardise: bool = False

    @property
    def halves(self) -> int:
        """Column blocks of w1 that make one hidden value: 2 for swiglu, else 1."""
        return halves(self.activation)

    def problem(self, rows: int, dtype: torch.dtype) -> Problem:
        """Return the sizes of a call with N rows as the kernels' cost model takes them."""
        described = tuple(width * dtype.itemsize % 16 == 0 for width in (self.halves * self.H, self.C))
        return Problem(
            rows, self.D, self.H, self.E, self.C, self.k, rows * self.k, dtype, self.activation,
            described=(described[0], described[1]),
        )  # fmt: skip

    def product_flops(self, rows: int) -> int:
        """Return the operations of both products of N rows' experts, 2 per multiply-add."""
        return 2 * rows * self.k * (self.D * self.halves * self.H + self.H * self.C)

    def flops(self, rows: int) -> int:
        """Return the operations of the layer, gate included."""
        return self.product_flops(rows) + 2 * rows * self.D * self.E

    def least_bytes(self, rows: int, item: int, used: int) -> int:
        """Return the bytes to move for N rows: `used` experts' weights, gate, rows in and rows out, once each."""
        expert = self.halves * self.H * (self.D + self.biased) + self.C * (self.H + self.biased)
        return item * (used * expert + self.E * (self.D + self.biased) + rows * (self.D + self.C))

    def dense_hidden(self) -> int:
        """Return the hidden width of the dense head of as many expert parameters."""
        return self.E * self.H


PAPER = Layer(
    "paper", 512, 64, 8, 2, 10, "relu", "arXiv 2601.15021: ResNet-18's features to CIFAR-10", True, standardise=True
)
MIXTRAL = Layer("mixtral", 4096, 14336, 8, 2, 4096, "swiglu", "config.json of mistralai/Mixtral-8x7B-v0.1")
OLMOE = Layer("olmoe", 2048, 1024, 64, 8, 2048, "swiglu", "config.json of allenai/OLMoE-1B-7B-0924")
E128 = Layer("e128", 2048, 768, 128, 8, 2048, "swiglu", "config.json of Qwen/Qwen3-30B-A3B; Liger's own benchmark")
DEEPSEEK = Layer(
    "deepseek-rank", 7168, 2048, 32, 2, 7168, "swiglu",
    "config.json of deepseek-ai/DeepSeek-V3: one of 8 groups of 32 experts; a row takes 8 from at most 4 groups, so 2 "
    "here; without the shared expert, and a softmax stands for the sigmoid scores",
)  # fmt: skip
GPT_OSS_20B = Layer(
    "gpt-oss-20b", 2880, 2880, 32, 4, 2880, "swiglu",
    "config.json of openai/gpt-oss-20b; plain swiglu stands for its clamped one", biased=True,
)  # fmt: skip
GPT_OSS_120B = replace(GPT_OSS_20B, name="gpt-oss-120b", E=128, source=GPT_OSS_20B.source.replace("20b", "120b"))
LAYERS = {layer.name: layer for layer in (PAPER, MIXTRAL, OLMOE, E128, DEEPSEEK, GPT_OSS_20B, GPT_OSS_120B)}

PUSH = 10.0
"""Added to the scores of the experts that a row shall choose: far beyond what chance and rounding do to a score."""


@dataclass(frozen=True)
class Tensors:
    """A layer's weights and the rows of one case, on one device.

    `xs` are sets of other rows with the same routing, so that no set need be in a cache when its turn comes.
    """

    layer: Layer
    xs: tuple[Tensor, ...]  # (N, D) each
    ids: Tensor  # (N, k) int64, what the gate decides, best first or not
    gate: Tensor  # (E, D)
    gate_bias: Tensor | None  # (E,)
    w1: Tensor  # (E, D, H), or (E, D, 2H) for swiglu
    b1: Tensor | None
    w2: Tensor  # (E, H, C)
    b2: Tensor | None

    @property
    def x(self) -> Tensor:
        """The first set of rows."""
        return self.xs[0]

    def routing(self) -> Gate:
        """Return the gate as the kernels take it."""
        return Gate(self.gate, self.gate_bias, self.layer.k, standardise=self.layer.standardise)

    def used_experts(self) -> int:
        """Return how many experts have rows."""
        return int(torch.unique(self.ids).numel())


def new_tensors(
    layer: Layer, rows: int, dtype: torch.dtype, device: torch.device, routings: Sequence[Routing], sets: int = 2
) -> dict[Routing, Tensors]:
    """Return seeded random tensors of `layer` for each routing, with the same weights; see `routed_rows`."""
    generator = torch.Generator(device).manual_seed(2601)

    def normal(*shape: int, scale: float = 1.0) -> Tensor:
        return torch.randn(shape, generator=generator, device=device, dtype=dtype).mul_(scale)

    D, H, E, C, wide = layer.D, layer.H, layer.E, layer.C, layer.halves * layer.H
    weights = {
        "gate": normal(E, D, scale=D**-0.5),
        "gate_bias": normal(E, scale=0.1) if layer.biased else None,
        "w1": normal(E, D, wide, scale=D**-0.5),
        "b1": normal(E, wide, scale=0.1) if layer.biased else None,
        "w2": normal(E, H, C, scale=H**-0.5),
        "b2": normal(E, C, scale=0.1) if layer.biased else None,
    }
    found: dict[Routing, Tensors] = {}
    for routing in routings:
        ids = chosen_experts(routing, rows, E, layer.k).to(device)
        gate = weights["gate"]
        assert gate is not None
        xs = tuple(routed_rows(normal(rows, D), gate, ids) for _ in range(sets))
        found[routing] = Tensors(layer, xs, ids, **weights)  # type: ignore[arg-type]
    return found


def routed_rows(noise: Tensor, gate: Tensor, ids: Tensor) -> Tensor:
    """Return x (N, D) = noise plus what raises the scores of `ids` (N, k) by PUSH under the gate (E, D), D >= E.

    The gate then chooses just these; among themselves they keep the differences of the noise, hence unequal weights.
    """
    push = raising(gate, PUSH)  # (E, D)
    return noise.add_(torch.nn.functional.embedding_bag(ids, push.to(noise), mode="sum"))


def chosen_experts(routing: Routing, rows: int, experts: int, k: int, seed: int = 0) -> Tensor:
    """Return ids (N, k) int64, distinct in a row, on the CPU.

    "balanced" gives every expert as many rows as can be; "zipf" draws experts by 1 / rank without replacement; "hot"
    puts expert 0 in every row and balances the rest.
    """
    if routing == "balanced":
        return even_experts(rows, experts, k, torch.Generator().manual_seed(seed))
    return skew.chosen_experts("zipf1" if routing == "zipf" else "hot", rows, experts, k, seed)


def tolerance(dtype: torch.dtype) -> float:
    """Return the greatest deviation that rounding may cause in `dtype`."""
    return {torch.float32: 1e-4, torch.float16: 5e-3, torch.bfloat16: 3e-2}[dtype]


def deviation(found: Tensor, expected: Tensor) -> float:
    """Return the greatest difference, relative to its row's largest value or to the median row's; NaN becomes inf."""
    if found.shape != expected.shape:
        return math.inf
    if expected.numel() == 0:
        return 0.0
    size = expected.abs().amax(dim=1)  # (N,)
    difference = (found.to(expected.dtype) - expected).abs().amax(dim=1)
    error = float((difference / size.clamp_min(float(size.median()))).max())
    return error if math.isfinite(error) else math.inf


def given_routing(tensors: Tensors, x: Tensor) -> TopK:
    """Return what the gate decides for x (N, D) as ids int32 and weights fp32, both (N, k), computed in float64."""
    weights = _weights(tensors, x.double())
    return TopK(tensors.ids.int(), weights.float())


def _weights(tensors: Tensors, x: Tensor) -> Tensor:
    """Return the softmax (N, k) over the scores of `ids`, from x (N, D) in float64."""
    scores = x @ tensors.gate.double().T  # (N, E)
    if tensors.gate_bias is not None:
        scores = scores + tensors.gate_bias.double()
    if tensors.layer.standardise:
        scores = (scores - scores.mean(dim=1, keepdim=True)) / scores.std(dim=1, keepdim=True)
    return torch.softmax(scores.gather(1, tensors.ids), dim=1)


def expert_outputs(tensors: Tensors, x: Tensor) -> Tensor:
    """Return the output (M, C) in float64 of each assignment of x (N, D), in the stable order by expert."""
    order = torch.argsort(tensors.ids.flatten(), stable=True)  # (M,)
    counts = torch.bincount(tensors.ids.flatten(), minlength=tensors.layer.E).tolist()
    parts = torch.split(order // tensors.layer.k, counts)
    return torch.cat([_expert(tensors, e, x[rows].double()) for e, rows in enumerate(parts)])


def layer_output(tensors: Tensors, x: Tensor) -> Tensor:
    """Return the layer's output (N, C) for x (N, D), in float64 throughout."""
    order = torch.argsort(tensors.ids.flatten(), stable=True)
    weights = _weights(tensors, x.double()).flatten()[order]  # (M,)
    weighted = expert_outputs(tensors, x).mul_(weights[:, None])
    out = weighted.new_zeros(x.shape[0], tensors.layer.C)
    return out.index_add_(0, order // tensors.layer.k, weighted)


def _expert(tensors: Tensors, e: int, x: Tensor) -> Tensor:
    """Return expert e's output (m, C) for x (m, D) in float64."""
    h = x @ tensors.w1[e].double()
    if tensors.b1 is not None:
        h = h + tensors.b1[e].double()
    y = activate(tensors.layer.activation, h) @ tensors.w2[e].double()
    return y if tensors.b2 is None else y + tensors.b2[e].double()


def activate(name: Activation, h: Tensor) -> Tensor:
    """Return the activation of h (m, H), or (m, 2H) for swiglu, in plain PyTorch: (m, H)."""
    return ACTIVATIONS[name](h)
