"""How accurate a classifier is on images, and how it uses its experts on them.

Letters: N images, E experts, M assignments of an image to an expert, C classes, G groups of images.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from models.classifier.classifier import Classifier
from models.data.images import LabelledImages
from models.routing import Routing

BATCH = 500
"""Images evaluated together. If a policy couples the rows of a batch, their routing depends on this."""
IDLE_BELOW = 0.1
"""An expert counts as idle if its share is below this part of an equal share."""


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
    if routings:
        head = model.config.head
        result |= routing_statistics(joined(routings), part.labels, head.classes, head.temperature)
    return result


def joined(routings: Sequence[Routing]) -> Routing:
    """Return the routings of batches as one routing of all their rows, without noise."""
    starts = accumulate((len(routing.scores) for routing in routings), initial=0)
    dropped = [routing.dropped for routing in routings if routing.dropped is not None]
    return Routing(
        rows=torch.cat([routing.rows + start for routing, start in zip(routings, starts, strict=False)]),
        experts=torch.cat([routing.experts for routing in routings]),
        weights=torch.cat([routing.weights for routing in routings]),
        scores=torch.cat([routing.scores for routing in routings]),
        per_row=routings[0].per_row,
        dropped=torch.stack(dropped).sum() if dropped else None,
    )


def routing_statistics(routing: Routing, labels: Tensor, classes: int, temperature: float) -> dict[str, Any]:
    """Return how `routing` uses the experts on images with classes `labels` (N,), out of C = `classes`.

    - `load` (E,): share of the M assignments that each expert serves
    - `importance` (E,): share of the weights that each expert has
    - `utilisation`: share of experts whose importance is at least a tenth of an equal share
    - `gate_entropy`: mean over rows, in nats, of the entropy of softmax(scores / temperature)
    - `experts_per_row_mean`, `experts_per_row_std`: over rows
    - `load_cv`: standard deviation / mean, over experts, of their assignments
    - `dropped`: share of the wanted assignments for which there was no place
    - `unserved`: share of the rows without experts, whose logits are zero
    - `class_load` (C, E): share of a class's assignments that each expert serves, zeros for a class without any
    - `class_information`: mutual information in nats between expert and class, over assignments

    Standard deviations are of the population.
    """
    rows, experts = routing.scores.shape
    counts = served(routing, labels, classes)  # (C, E)
    load = counts.sum(dim=0).double()  # (E,)
    importance = routing.matrix().sum(dim=0).double()  # (E,)
    importance = importance / importance.sum()
    per_row = routing.rows.bincount(minlength=rows).double()  # (N,)
    dropped = 0 if routing.dropped is None else int(routing.dropped)
    by_class = counts.double()
    return {
        "load": (load / load.sum()).tolist(),
        "importance": importance.tolist(),
        "utilisation": (importance >= IDLE_BELOW / experts).double().mean().item(),
        "gate_entropy": torch.special.entr(torch.softmax(routing.scores / temperature, -1)).sum(dim=-1).mean().item(),
        "experts_per_row_mean": per_row.mean().item(),
        "experts_per_row_std": per_row.std(correction=0).item(),
        "load_cv": (load.std(correction=0) / load.mean()).item(),
        "dropped": dropped / (dropped + routing.rows.shape[0]),
        "unserved": (per_row == 0).double().mean().item(),
        "class_load": (by_class / by_class.sum(dim=1, keepdim=True).clamp_min(1)).tolist(),
        "class_information": mutual_information(counts),
    }


def served(routing: Routing, groups: Tensor, count: int) -> Tensor:
    """Return how many assignments each expert serves for the rows of each group, (G, E) int64.

    `groups` (N,) has the group of each row, 0 to G - 1 with G = `count`: its class, or its data set.
    """
    experts = routing.scores.shape[1]
    cells = groups.long()[routing.rows] * experts + routing.experts  # (M,)
    return cells.bincount(minlength=count * experts).view(count, experts)


def mutual_information(counts: Tensor) -> float:
    """Return the mutual information in nats of two things that occur together `counts` (A, B) times; 0 if never."""
    joint = counts.double() / counts.sum().clamp_min(1)  # (A, B)
    a, b, both = (torch.special.entr(p).sum().item() for p in (joint.sum(dim=1), joint.sum(dim=0), joint))
    return max(0.0, float(a + b - both))  # rounding can take it just below zero
