"""What each head costs, as formulas: parameters, floating-point operations, least bytes.

Letters: N rows, D input width, H hidden width of one expert, E experts, k experts per row, M assignments of a row to an
expert, C output width, W = H columns of an expert's first product, or 2H for swiglu.
A multiply-add counts as two operations. As usual, biases, activations, softmax and the selection are not counted: the
products dwarf them. Costs are those of evaluation, so the noise layer of the sparse head counts as parameters alone: it
is neither read nor multiplied.

Training is a forward and a backward pass. The gradient of a product X W takes two products of equal size, dX = dY W^T
and dW = X^T dY, so training takes three times the operations. At least it moves, beside the bytes of the forward pass,
the gradient of the logits in, and those of the features and of all parameters, used or not, out.
"""

from __future__ import annotations

from dataclasses import dataclass

from models.heads.heads import HeadConfig
from models.settings import halves


@dataclass(frozen=True)
class Flops:
    """Operations of each part of a head, for all N rows together."""

    gate: int
    experts: int
    combine: int

    @property
    def total(self) -> int:
        """All parts together."""
        return self.gate + self.experts + self.combine


def parameters(config: HeadConfig) -> int:
    """Return the number of trained values of the head, biases included."""
    return config.experts * _expert_parameters(config) + (config.gated + config.noisy) * _gate_parameters(config)


def _expert_parameters(config: HeadConfig) -> int:
    """Return (D + 1) W + (H + 1) C, the values of one expert."""
    return (config.features + 1) * _wide(config) + (config.hidden + 1) * config.classes


def _gate_parameters(config: HeadConfig) -> int:
    """Return (D + 1) E, the values of a gate, and of a noise layer."""
    return (config.features + 1) * config.experts


def _wide(config: HeadConfig) -> int:
    return halves(config.activation) * config.hidden


TRAINING = 3
"""Operations of a forward and a backward pass over those of the forward pass."""


def flops(config: HeadConfig, rows: int, assignments: int | None = None, *, training: bool = False) -> Flops:
    """Return the operations of the head for N = `rows` and the M = `assignments` that really run.

    Experts: 2 (D W + H C) per assignment. Gate: 2 D E per row. Combine: 2 C per assignment, one multiplication by the
    weight and one addition. Without `assignments`, M is the most there can be: exact if M does not depend on x.
    `training` is three times all of it.
    """
    passes = TRAINING if training else 1
    executed = config.most_assignments(rows) if assignments is None else assignments
    experts = 2 * (config.features * _wide(config) + config.hidden * config.classes) * executed * passes
    if not config.gated:
        return Flops(gate=0, experts=experts, combine=0)
    gate = 2 * config.features * config.experts * rows * passes
    return Flops(gate=gate, experts=experts, combine=2 * config.classes * executed * passes)


def least_bytes(
    config: HeadConfig,
    rows: int,
    element_size: int,
    distinct_experts: int | None = None,
    *,
    training: bool = False,
    expert_bytes: int | None = None,
) -> int:
    """Return the bytes that any execution must move: features and weights read once, logits written once.

    `element_size` is in bytes. `distinct_experts` is the number of experts that the rows really use, by default as many
    as N rows can reach. The few bytes of a correction of the choice are not counted. With `training` each value also
    has a gradient: that of the logits is read, and those of the features and of all experts are written.
    `expert_bytes` are those of one expert if its weights are stored in fewer bits.
    """
    if rows == 0:
        return 0
    if distinct_experts is None or not config.gated:
        distinct_experts = min(config.experts, config.most_assignments(rows))
    expert = element_size * _expert_parameters(config)
    gate = _gate_parameters(config) if config.gated else 0
    others = element_size * (gate + rows * (config.features + config.classes))
    forward = distinct_experts * (expert if expert_bytes is None else expert_bytes) + others
    return forward + (config.experts * expert + others if training else 0)
