"""The expert layers of public models: their sizes, and the sources of these.

Special routers (sigmoid scores, weights over all experts, a shared expert) are not modelled: a softmax over the k best
scores weighs the experts.

Letters: D input width, H hidden width of one expert, E experts, k experts per row, C output width.
"""

from __future__ import annotations

from dataclasses import dataclass

from models.config import head_config
from models.routing.top_k import TopKConfig


@dataclass(frozen=True)
class Layer:
    """A public model's expert layer as a head; `source` says where its sizes stand, `biased` whether it has biases."""

    name: str
    head: TopKConfig
    source: str
    biased: bool = False


def _swiglu(width: int, hidden: int, experts: int, k: int) -> TopKConfig:
    """Return a transformer's layer, C = D = `width`."""
    sizes = {"features": width, "hidden": hidden, "classes": width, "experts": experts, "k": k}
    return TopKConfig.model_validate({**sizes, "activation": "swiglu", "standardise": False})


def _paper() -> TopKConfig:
    config = head_config("sparse", "paper")
    assert isinstance(config, TopKConfig)
    return config


_GPT_OSS = "config.json of openai/gpt-oss-{}; plain swiglu stands for its clamped one"
_DEEPSEEK = (
    "config.json of deepseek-ai/DeepSeek-V3: one of 8 groups of 32 experts; a row takes 8 from at most 4 groups, so 2 "
    "here; without the shared expert, and a softmax stands for the sigmoid scores"
)
LAYERS = {
    layer.name: layer
    for layer in (
        Layer("mixtral-8x7b", _swiglu(4096, 14336, 8, 2), "config.json of mistralai/Mixtral-8x7B-v0.1"),
        Layer("olmoe-1b-7b", _swiglu(2048, 1024, 64, 8), "config.json of allenai/OLMoE-1B-7B-0924"),
        Layer("qwen3-30b-a3b", _swiglu(2048, 768, 128, 8), "config.json of Qwen/Qwen3-30B-A3B; Liger's own benchmark"),
        Layer("deepseek-v3-rank", _swiglu(7168, 2048, 32, 2), _DEEPSEEK),
        Layer("gpt-oss-20b", _swiglu(2880, 2880, 32, 4), _GPT_OSS.format("20b"), biased=True),
        Layer("gpt-oss-120b", _swiglu(2880, 2880, 128, 4), _GPT_OSS.format("120b"), biased=True),
        Layer("paper", _paper(), "arXiv 2601.15021: ResNet-18's features to CIFAR-10", biased=True),
    )
}
MODELS = [name for name in LAYERS if name != "paper"]
"""The layers of language models."""
