"""Tiny trained-like networks in float64, and their Hessians by brute force over one flat vector of weights."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.func import functional_call

from models.classifier.classifier import Classifier
from models.config import BackboneConfig, InputConfig, ModelConfig, head_config
from models.routing.policies import POLICIES
from models.sharpness.hessian import Batches
from models.sharpness.network import Network, network_blocks
from models.sharpness.objective import Objective

HEADS: dict[str, tuple[str, dict[str, Any]]] = {
    "dense": ("dense", {"hidden": 4}),
    "soft": ("soft", {"experts": 3, "hidden": 2}),
    **{policy: ("sparse", {"experts": 3, "hidden": 2, "k": 2, "policy": policy}) for policy in POLICIES},
    "top_1": ("sparse", {"experts": 3, "hidden": 2, "k": 1}),
    "corrected": ("sparse", {"experts": 3, "hidden": 2, "k": 2, "bias_correction": True, "standardise": False}),
}
"""Every head and every routing policy."""
ROWS, FEATURES, CLASSES = 23, 3, 3


def classifier(name: str, seed: int = 0, activation: str = "relu") -> Classifier:
    """Return a model of head `name` on features, with weights large enough to route rows apart."""
    kind, changes = HEADS[name]
    head = head_config(kind, features=FEATURES, classes=CLASSES, activation=activation, **changes)
    return _grown(ModelConfig(head=head), (1, 1, FEATURES), seed)


def convolutional(seed: int = 0) -> Classifier:
    """Return a sparse model behind a small backbone with a frozen first layer and batch normalisation."""
    head = head_config("sparse", features=2, classes=3, hidden=2, experts=3, k=2)
    config = ModelConfig(backbone=BackboneConfig(name="fast", widths=(1, 1, 2)), head=head)
    model = _grown(config, (1, 6, 6), seed)
    for name, buffer in model.named_buffers():
        if name.endswith(("running_mean", "running_var")):
            buffer.uniform_(0.1, 0.6)
    return model


def _grown(config: ModelConfig, shape: tuple[int, int, int], seed: int) -> Classifier:
    torch.manual_seed(seed)
    model = Classifier(config, InputConfig(shape=shape, mean=(0.5,), std=(0.25,)))
    with torch.no_grad():
        for weight in model.parameters():
            weight.mul_(1.5)
        if "correction" in dict(model.head.named_buffers()):
            model.head.correction.uniform_(-0.3, 0.3)
    return model.double().eval()


def rows_of(model: Classifier, rows: int = ROWS, seed: int = 1) -> tuple[Tensor, Tensor]:
    """Return what the network takes, images or features, and labels."""
    generator = torch.Generator().manual_seed(seed)
    shape = (1, 6, 6) if model.config.backbone.name == "fast" else (FEATURES,)
    x = torch.randn(rows, *shape, dtype=torch.float64, generator=generator)
    return x, torch.randint(0, CLASSES, (rows,), generator=generator)


def batches(model: Classifier, x: Tensor, y: Tensor, size: int = 14) -> Batches:
    """Return rows in ragged batches; in one batch if they depend on each other."""
    if model.config.head.batch_coupled:
        size = len(y)
    return list(zip(x.split(size), y.split(size), strict=True))


def objective(model: Classifier, block: str, rows: int = ROWS, size: int = 14) -> Objective:
    """Return the loss of `block` on rows of the model."""
    network = Network(model, with_backbone=model.config.backbone.name == "fast")
    result = network_blocks(network)[block]
    network.requires_grad_(False)
    return Objective(network, result, batches(model, *rows_of(model, rows), size))


def places(model: Classifier) -> dict[str, list[tuple[str, Tensor]]]:
    """Return for each block its tensors' names and the indices of its weights in each, flattened."""
    shapes = {name: weight.shape for name, weight in model.named_parameters()}
    experts = [f"head.{name}" for name in ("w1", "b1", "w2", "b2")]
    indices = {name: torch.arange(shape.numel()).view(shape) for name, shape in shapes.items()}
    backbone = [
        name for name, weight in model.named_parameters() if name.startswith("backbone.") and weight.requires_grad
    ]
    result = {"backbone": [(name, indices[name].flatten()) for name in backbone]} if backbone else {}
    if model.config.head.kind == "dense":
        result["head"] = [(name, indices[name].flatten()) for name in experts]
        result["all"] = [*result.get("backbone", []), *result["head"]]
        return result
    result["gate"] = [(name, indices[name].flatten()) for name in ("head.gate.weight", "head.gate.bias")]
    result["experts"] = [(name, indices[name].flatten()) for name in experts]
    for e in range(model.config.head.experts):
        result[f"expert {e}"] = [(name, indices[name][e].flatten()) for name in experts]
    result["all"] = [*result.get("backbone", []), *result["gate"], *result["experts"]]
    return result


def within_all(model: Classifier, block: str) -> Tensor:
    """Return where the weights of a block stand among all, (P,)."""
    result = places(model)
    ends, start = {}, 0
    for name, index in result["all"]:
        ends[name], start = start, start + len(index)
    return torch.cat([ends[name] + index for name, index in result[block]])


def brute_force(model: Classifier, rows: int = ROWS, x: Tensor | None = None) -> Tensor:
    """Return the Hessian (P, P) of the mean loss over all rows at once, by differentiating twice entry by entry."""
    drawn, y = rows_of(model, rows)
    x = drawn if x is None else x
    state = {name: weight.detach() for name, weight in model.named_parameters()}
    chosen = places(model)["all"]

    def loss(flat: Tensor) -> Tensor:
        here, start = dict(state), 0
        for name, index in chosen:
            part = flat[start : start + len(index)]
            here[name] = here[name].flatten().index_put((index,), part).view(here[name].shape)
            start += len(index)
        backbone = {name.removeprefix("backbone."): weight for name, weight in here.items() if "backbone." in name}
        head = {name.removeprefix("head."): weight for name, weight in here.items() if "head." in name}
        features = functional_call(model.backbone, backbone, (x,)) if backbone else x
        return F.cross_entropy(functional_call(model.head, head, (features,)), y)

    start = torch.cat([state[name].flatten()[index] for name, index in chosen])
    return torch.autograd.functional.hessian(loss, start)
