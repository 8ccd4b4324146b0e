"""What each head costs, as formulas: parameters, floating-point operations, least bytes.

Letters: N rows, D input width, H hidden width of one expert, E experts, k experts per row, M assignments of a row to an
expert, C output width, W = H columns of an expert's first product, or 2H for swiglu.
A multiply-add counts as two operations; biases, activations, softmax and the selection are not counted, as is
usual for products that dwarf them. Costs are those of evaluation: the noise layer of the sparse head is a
parameter that is neither read nor multiplied.
"""

from __future__ import annotations

from dataclasses import dataclass

from models.config import DenseConfig, HeadConfig, SparseConfig, halves


@dataclass(frozen=True)
class Flops:
    """Operations by part of a head, for all N rows together."""

    gate: int
    experts: int
    combine: int

    @property
    def total(self) -> int:
        """All parts together."""
        return self.gate + self.experts + self.combine


def parameters(config: HeadConfig) -> int:
    """Return the number of trained values of the head, biases included."""
    expert = _expert_parameters(config)
    if isinstance(config, DenseConfig):
        return expert
    gates = 2 if isinstance(config, SparseConfig) else 1  # the sparse head's noise layer is a second gate
    return config.experts * expert + gates * (config.features + 1) * config.experts


def _expert_parameters(config: HeadConfig) -> int:
    """Return (D + 1) W + (H + 1) C, the values of one expert."""
    return (config.features + 1) * _wide(config) + (config.hidden + 1) * config.classes


def _wide(config: HeadConfig) -> int:
    return halves(config.activation) * config.hidden


def flops(config: HeadConfig, rows: int, assignments: int | None = None) -> Flops:
    """Return the operations of the head for N = `rows`, of which M = `assignments` to an expert really run.

    Experts: 2 (D W + H C) per assignment. Gate: 2 D E per row. Combine: 2 C per assignment, a multiplication by its
    weight and an addition. Without `assignments` M is `most_assignments`, which is exact where M does not depend on x.
    """
    executed = most_assignments(config, rows) if assignments is None else assignments
    experts = 2 * (config.features * _wide(config) + config.hidden * config.classes) * executed
    if isinstance(config, DenseConfig):
        return Flops(gate=0, experts=experts, combine=0)
    gate = 2 * config.features * config.experts * rows
    return Flops(gate=gate, experts=experts, combine=2 * config.classes * executed)


def most_assignments(config: HeadConfig, rows: int) -> int:
    """Return the most assignments to experts that N = `rows` can have.

    They have as many for any x under `top_k`, `expert_choice`, in a soft head and in a dense one, a single expert;
    fewer may run under `capacity`, `top_p` and `threshold`.
    """
    if isinstance(config, SparseConfig) and config.batch_coupled:
        places = config.experts * min(rows, config.capacity(rows))
        return places if config.policy == "expert_choice" else min(rows * config.k, places)
    return rows * executed_experts(config)


def least_bytes(config: HeadConfig, rows: int, element_size: int, distinct_experts: int | None = None) -> int:
    """Return the bytes that any execution must move: features and weights read once, logits written once.

    `element_size` is in bytes. `distinct_experts` is how many experts the rows really use; without it, as many as
    N rows can reach. The few bytes of a correction of the choice are not counted.
    """
    expert = _expert_parameters(config)
    activations = rows * (config.features + config.classes)
    if rows == 0:
        return 0
    if isinstance(config, DenseConfig):
        return element_size * (expert + activations)
    if distinct_experts is None:
        distinct_experts = min(config.experts, most_assignments(config, rows))
    gate = (config.features + 1) * config.experts
    return element_size * (distinct_experts * expert + gate + activations)


def executed_experts(config: HeadConfig) -> int:
    """Return how many experts run for one row: 1 for dense, E for soft, k for sparse.

    k is a number for each row under `top_k`, a mean under `expert_choice` with a capacity factor of 1, and the most
    that a row can have under `capacity`, `top_p` and `threshold`.
    """
    if isinstance(config, DenseConfig):
        return 1
    return config.k if isinstance(config, SparseConfig) else config.experts
