"""How good a classifier is on images, and how it used its experts on them.

Letters: N images, E experts, k experts per row, C classes.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from models.classifier import Classifier
from models.config import DenseConfig
from models.images import LabelledImages

BATCH = 500
IDLE_BELOW = 0.1
"""An expert whose share is below this part of an equal share counts as idle."""


@torch.inference_mode()
def evaluate(model: Classifier, part: LabelledImages) -> dict[str, Any]:
    """Return `loss` (cross-entropy in nats), `accuracy` (0 to 1) and, for a mixture, its `routing_statistics`."""
    model.eval()
    outputs = [model.routed(images) for images in torch.split(part.images, BATCH)]
    logits = torch.cat([logits for logits, _ in outputs])  # (N, C)
    result: dict[str, Any] = {
        "loss": F.cross_entropy(logits, part.labels).item(),
        "accuracy": (logits.argmax(dim=1) == part.labels).double().mean().item(),
    }
    routings = [routing for _, routing in outputs if routing is not None]
    if routings and not isinstance(model.config.head, DenseConfig):
        ids, weights, scores = (torch.cat(field) for field in list(zip(*routings, strict=True))[:3])
        result |= routing_statistics(ids, weights, scores / model.config.head.temperature)
    return result


def routing_statistics(ids: Tensor, weights: Tensor, scores: Tensor) -> dict[str, Any]:
    """Return how ids (N, k), weights (N, k) and scores (N, E) use the experts.

    `load` (E,): share of the N k assignments. `importance` (E,): share of the weights. `utilisation`: share of
    experts whose importance is at least a tenth of an equal share. `gate_entropy`: mean over rows, in nats, of the
    entropy of softmax(scores).
    """
    experts = scores.shape[-1]
    load = ids.flatten().bincount(minlength=experts) / ids.numel()  # (E,)
    importance = torch.zeros_like(scores).scatter_add(1, ids.long(), weights).sum(dim=0)  # (E,)
    importance = importance / importance.sum()
    return {
        "load": load.tolist(),
        "importance": importance.tolist(),
        "utilisation": (importance >= IDLE_BELOW / experts).double().mean().item(),
        "gate_entropy": torch.special.entr(torch.softmax(scores, dim=-1)).sum(dim=-1).mean().item(),
    }
