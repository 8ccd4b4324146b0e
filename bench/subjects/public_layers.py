"""The expert layers of public models as heads: a sparse one, and a dense one with as many expert parameters.

Sizes are those of the models. Biases are zero if a model has none.

The experts of a layer have E (D W + H C) weights, used or not: for Mixtral 2.8 GB in bfloat16 and 5.6 GB in float32.
The dense head takes as much again, and so does every form that copies the weights into another layout. The float64
reference adds 12 bytes per weight of one head in main memory. So widths are divided by the least power of two with
which all this fits into `MEMORY_SHARE` of the free memory and, on a CPU, a call of `ROWS` rows takes at most `SECONDS`.
k and E stay, and D stays at least E, so that rows can be made for any routing.

Letters: N rows, D input width, H hidden width of one expert, E experts, k experts per row, C output width, W = H
columns of an expert's first product, or 2H for swiglu.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import torch
from torch import nn

from bench.errors import BenchError
from bench.subjects.layers import LAYERS, MODELS, Layer
from bench.subjects.subject import Subject
from bench.timing.environment import available_memory
from models.classifier.classifier import Classifier
from models.config import InputConfig, ModelConfig
from models.device import multiplies_bfloat16
from models.heads.cost import flops, parameters
from models.heads.heads import HeadConfig, equal_capacity
from models.routing.top_k import TopKConfig

MEMORY_SHARE = 0.5
COPIES = 3
"""Copies of each head's weights: as drawn, and in two other layouts that forms may hold."""
REFERENCE_BYTES = 12
"""Bytes per weight of one head while the float64 reference computes: widened, and as copied to main memory."""
ROWS, SECONDS = 1024, 0.25
CPU_RATE = {torch.float32: 5e10, torch.bfloat16: 5e10, torch.float16: 2e8}
"""FLOP/s of a thread: about what an AMD EPYC core reaches in medium products, 2026."""
SLOW_BFLOAT16 = 0.2
"""Share of that rate on a CPU without instructions for bfloat16."""


def subjects(
    device: torch.device, dtype: torch.dtype, shrink: int | None = None, names: Sequence[str] = MODELS, seed: int = 0
) -> Iterator[list[Subject]]:
    """Yield a sparse and a dense subject, with as many expert parameters, for each layer of `names`.

    A pair's weights are drawn from `seed` on `device` in `dtype` when the pair is requested. No pair is kept here, so
    only one model is in memory at a time if the caller keeps none. Widths are divided by `shrink`, by default
    `least_factor`. Raises `BenchError` for too little memory.
    """
    for layer in (LAYERS[name] for name in names):
        factor = least_factor(layer, device, dtype) if shrink is None else shrink
        sparse = divided(layer, factor)
        yield [_subject(layer, factor, head, device, dtype, seed) for head in (sparse, equal_capacity(sparse))]


def divided(layer: Layer, factor: int) -> TopKConfig:
    """Return the layer's head with D, H and C divided by `factor`, a divisor of all three."""
    widths = ("features", "hidden", "classes")
    return layer.head.model_copy(update={name: getattr(layer.head, name) // factor for name in widths})


def least_factor(layer: Layer, device: torch.device, dtype: torch.dtype) -> int:
    """Return the least power of two by which the widths must be divided on `device` with its present free memory.

    If a CPU is too slow for all of them, return the greatest. Raises `BenchError` if none fits into memory.
    """
    factors = [1 << power for power in range(layer.head.features.bit_length()) if _divides(layer, 1 << power)]
    fitting = [factor for factor in factors if _fits(divided(layer, factor), device, dtype)]
    if not fitting:
        raise BenchError(
            f"{layer.name} needs more than {MEMORY_SHARE:.0%} of the free memory even with widths divided by "
            f"{factors[-1]}; free some, or leave the model out"
        )
    return next((factor for factor in fitting if _quick(divided(layer, factor), device, dtype)), fitting[-1])


def _divides(layer: Layer, factor: int) -> bool:
    D, H, C = layer.head.features, layer.head.hidden, layer.head.classes
    return math.gcd(D, H, C) % factor == 0 and D // factor >= layer.head.experts


def _fits(sparse: TopKConfig, device: torch.device, dtype: torch.dtype) -> bool:
    weights = parameters(sparse)
    heads, reference = 2 * COPIES * weights * dtype.itemsize, REFERENCE_BYTES * weights
    host = torch.device("cpu")
    if device.type == "cpu":
        return heads + reference <= MEMORY_SHARE * available_memory(host)
    return heads <= MEMORY_SHARE * available_memory(device) and reference <= MEMORY_SHARE * available_memory(host)


def _quick(sparse: TopKConfig, device: torch.device, dtype: torch.dtype) -> bool:
    if device.type != "cpu":
        return True
    rate = CPU_RATE[dtype] * torch.get_num_threads()
    if dtype is torch.bfloat16 and not multiplies_bfloat16():
        rate *= SLOW_BFLOAT16
    return flops(equal_capacity(sparse), ROWS).total <= SECONDS * rate


def _subject(
    layer: Layer, factor: int, head: HeadConfig, device: torch.device, dtype: torch.dtype, seed: int
) -> Subject:
    images = InputConfig(shape=(1, 1, head.features), mean=(0.5,), std=(0.25,))
    with torch.device("meta"):  # shapes alone: the module's initialisation would fill every weight a second time
        model = Classifier(ModelConfig(head=head), images).to(dtype)
    model.head.to_empty(device=device)
    model.to(device).eval().requires_grad_(False)
    _draw(model.head, layer.biased, torch.Generator(device).manual_seed(seed))
    return Subject(
        name=f"{layer.name}-{head.kind}",
        model=model,
        images=images,
        weights="initialised",
        source=layer.source,
        shrunk="" if factor == 1 else f"widths divided by {factor}",
    )


def _draw(head: nn.Module, biased: bool, generator: torch.Generator) -> None:
    """Fill weights uniformly within +-1 / sqrt(fan-in), and biases within +-0.1 or with zeros."""
    for name, value in head.named_parameters():
        if name in ("b1", "b2") or name.endswith("bias"):
            value.uniform_(-0.1, 0.1, generator=generator) if biased else value.zero_()
        else:
            fan_in = value.shape[-2 if name in ("w1", "w2") else -1]  # (..., in, out), of a gate (E, D)
            value.uniform_(-(fan_in**-0.5), fan_in**-0.5, generator=generator)
