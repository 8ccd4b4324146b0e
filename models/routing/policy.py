"""What a routing policy is: the configuration of a sparse head, and what follows from it alone.

A policy is added by one file in this folder whose `POLICY` is a subclass of `SparseConfig`; the registry finds it.

Letters: N rows, E experts, k experts per row.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, Self

import numpy as np
from pydantic import Field, model_validator
from torch import Tensor

from models.routing import Assignments
from models.routing.decision import Decision, Float64, Ranked
from models.settings import MixtureConfig, Width


class SparseConfig(MixtureConfig):
    """E experts D -> H -> C, of which a routing policy runs few per row.

    With `bias_correction` a number per expert, moved by the load and by no loss, is added to the scores when experts
    are chosen and not when they are weighed.

    `weights_over` says over which scores the softmax that weighs the experts of a row runs. With `selected` the
    executed weights sum to one; if a row has a single expert that weight is the constant 1 and the gate would
    learn nothing from the task, so k = 1 and the policies that can leave one expert take `all`, the chosen expert's
    share among all E (Fedus et al. 2021). For the same reason two experts' scores are not standardised by default:
    they would always be +-1 / sqrt(2).
    """

    kind: Literal["sparse"] = "sparse"
    k: Width
    policy: str
    bias_correction: bool = False
    standardise: bool = True
    noise_floor: Annotated[float, Field(ge=0)] = 0.3
    weights_over: Literal["selected", "all"]

    noisy: ClassVar[bool] = True
    rank: ClassVar[int]
    """Place among the policies, the plainest first."""
    k_is: ClassVar[Literal["wanted", "limit", "mean"]]
    """What k says: every row wants k experts, has at most k (by default all), or has k on average."""
    usual_balance: ClassVar[dict[str, float]]
    """The balance losses by which a head is trained unless asked otherwise, with their weights."""

    @abstractmethod
    def route(self, ranking: Tensor, scores: Tensor) -> Assignments:
        """Return who serves whom: `ranking` (N, E) decides who is chosen, `scores` (N, E) weigh them."""

    @abstractmethod
    def decide(self, ranked: Ranked) -> Decision:
        """Return whom the policy chooses, in float64 and written apart from `route`."""

    @classmethod
    def settings(cls) -> dict[str, Any]:
        """Return the settings that this policy has and not every policy, with their defaults."""
        shared = SparseConfig.model_fields
        return {name: field.default for name, field in cls.model_fields.items() if name not in shared}

    def decision(self, ranking: Float64, error: Float64) -> Decision:
        """Return `decide` by `ranking` (N, E), of which float32 tells values apart that differ by `error` (N,)."""
        with np.errstate(invalid="ignore"):  # infinity less infinity is close to nothing
            return self.decide(Ranked.by(ranking / self.temperature, error / self.temperature))

    @property
    def most_experts(self) -> int:
        """How many experts a row has at most."""
        return self.experts if self.k_is == "mean" else self.k

    @property
    def default_balance(self) -> dict[str, float]:
        """The balance losses, with their weights; the correction of the choice is there to do without them."""
        return {"correction": 0.001} if self.bias_correction else self.usual_balance

    def refusal(self, term: str) -> str | None:
        """Return why the head cannot have the balance loss `term`, or None if it can."""
        if (term == "load" and self.k_is == "wanted") or (term == "correction" and self.bias_correction):
            return None
        return super().refusal(term)

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """Return a copy with single fields changed, validated as any other head."""
        return self.model_validate({**self.model_dump(), **(update or {})})

    @model_validator(mode="before")
    @classmethod
    def _fill_defaults(cls, data: Any) -> Any:
        """Fill in what depends on other settings; a setting of another policy may be there, as None."""
        if not isinstance(data, dict):
            return data
        given = {name: value for name, value in data.items() if value is not None}
        if unknown := sorted(given.keys() - cls.model_fields.keys()):
            policy, known = cls.model_fields["policy"].default, ", ".join(cls.settings()) or "none of its own"
            raise ValueError(f"policy {policy} has no setting {unknown[0]}; it has {known}")
        if cls.k_is == "limit":
            given = {"k": given.get("experts"), **given}
        alone = given.get("k") == 1 or cls.k_is != "wanted"
        return {"weights_over": "all" if alone else "selected", "standardise": given.get("experts") != 2, **given}

    @model_validator(mode="after")
    def _check_routing(self) -> Self:
        if self.k > self.experts:
            raise ValueError(f"k = {self.k} is more than experts = {self.experts}; choose k from 1 to {self.experts}")
        if self.k == 1 < self.experts and self.weights_over == "selected":
            raise ValueError("k = 1 with weights_over = selected gives the gate no gradient; use weights_over = all")
        if self.bias_correction and self.even_load:
            raise ValueError(f"{self.policy} gives every expert as many rows; leave bias_correction out")
        return self
