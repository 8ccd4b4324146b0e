"""How much the expert of an assignment tells about the image: its class, and the data set that it comes from.

Counted mutual information is above zero even if expert and class are independent, and more so with few assignments. So
it is reported with what the same assignments give by chance: the mean over random permutations of the labels, under
which every image keeps its experts.

Letters: N images, C classes, G domains, E experts, M assignments of an image to an expert.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from models.classifier.evaluate import mutual_information, served
from models.routing import Routing

PERMUTATIONS = 20
KEYS = tuple(f"{of}_{what}" for of in ("class", "domain") for what in ("information", "chance", "entropy"))


def information(
    routing: Routing | None, labels: Tensor, classes: int, domain_of_class: Sequence[int], seed: int = 0
) -> dict[str, float | None]:
    """Return what experts tell about the classes `labels` (N,) and their domains, in nats over M assignments.

    `class_information` is the mutual information of expert and class, `class_chance` its mean under permutations drawn
    with `seed`, and `class_entropy` the most it could be. `domain_information` and so on say the same about the domain.
    All are None without routing, and those of the domain also without domains. `classes` is C, and `domain_of_class`
    (C,) has the domain of each class, or is empty.
    """
    result: dict[str, float | None] = dict.fromkeys(KEYS)
    if routing is None:
        return result
    generator = torch.Generator().manual_seed(seed)
    orders = [torch.randperm(len(labels), generator=generator).to(labels.device) for _ in range(PERMUTATIONS)]
    counts = served(routing, labels, classes)  # (C, E)
    shuffled = [served(routing, labels[order], classes) for order in orders]
    result |= _statistics("class", counts, shuffled)
    if domain_of_class:
        by_chance = [by_domain(table, domain_of_class) for table in shuffled]
        result |= _statistics("domain", by_domain(counts, domain_of_class), by_chance)
    return result


def by_domain(counts: Tensor, domain_of_class: Sequence[int]) -> Tensor:
    """Return counts (C, E) by class, summed over the classes of each domain, (G, E)."""
    domains = torch.tensor(domain_of_class, device=counts.device)
    return counts.new_zeros(max(domain_of_class) + 1, counts.shape[1]).index_add(0, domains, counts)


def _statistics(name: str, counts: Tensor, shuffled: Sequence[Tensor]) -> dict[str, float | None]:
    """Return information, chance and entropy of the groups in the rows of counts (G, E)."""
    shares = counts.sum(dim=1).double() / counts.sum().clamp_min(1)  # (G,)
    return {
        f"{name}_information": mutual_information(counts),
        f"{name}_chance": sum(mutual_information(table) for table in shuffled) / len(shuffled),
        f"{name}_entropy": torch.special.entr(shares).sum().item(),
    }
