"""How much an assignment's expert tells about the image it serves: its class, and the data set it comes from.

Counting gives a mutual information above zero even where expert and class are independent, the more so the fewer
assignments there are. So it stands beside what the same assignments give by chance: the mean over some random
permutations of the images' labels, under which every image keeps its experts.

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

    `class_information` is the mutual information of expert and class, `class_chance` what it is under permutations
    drawn with `seed`, and `class_entropy` the most it could be; the same of the domain. They are None without routing,
    or domains. `classes` is C, and `domain_of_class` has the domain of each, or nothing.
    """
    result: dict[str, float | None] = dict.fromkeys(KEYS)
    if routing is None:
        return result
    generator = torch.Generator().manual_seed(seed)
    orders = [torch.randperm(len(labels), generator=generator).to(labels.device) for _ in range(PERMUTATIONS)]
    found = served(routing, labels, classes)  # (C, E)
    shuffled = [served(routing, labels[order], classes) for order in orders]
    result |= _told("class", found, shuffled)
    if domain_of_class:
        of_domains = [by_domain(counts, domain_of_class) for counts in shuffled]
        result |= _told("domain", by_domain(found, domain_of_class), of_domains)
    return result


def by_domain(counts: Tensor, domain_of_class: Sequence[int]) -> Tensor:
    """Return counts (C, E) of the classes summed over those of each domain, (G, E)."""
    domains = torch.tensor(domain_of_class, device=counts.device)
    return counts.new_zeros(max(domain_of_class) + 1, counts.shape[1]).index_add(0, domains, counts)


def _told(name: str, found: Tensor, shuffled: Sequence[Tensor]) -> dict[str, float | None]:
    """Return information, chance and entropy of the groups in the rows of counts (G, E)."""
    shares = found.sum(dim=1).double() / found.sum().clamp_min(1)  # (G,)
    return {
        f"{name}_information": mutual_information(found),
        f"{name}_chance": sum(mutual_information(counts) for counts in shuffled) / len(shuffled),
        f"{name}_entropy": torch.special.entr(shares).sum().item(),
    }
