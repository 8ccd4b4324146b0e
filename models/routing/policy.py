"""What a routing policy is: the configuration of a sparse head, and everything that follows from it alone.

To add a policy, add one file to this folder with a `POLICY` that is a subclass of `SparseConfig`.

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
    """E experts D -> H -> C, and a routing policy that runs few of them per row.

    With `bias_correction` the scores that choose experts, not those that weigh them, get a number per expert added.
    The load moves it, no loss does.

    The softmax that weighs the experts of a row runs over the scores that `weights_over` names. With `selected` the
    weights of a row sum to one. But a row with a single expert then has the constant weight 1, from which the gate
    learns nothing. So k = 1 and the policies that can leave one expert use `all`: the share of the chosen expert among
    all E (Fedus et al. 2021). For the same reason the scores of two experts are not standardised by default: they would
    always be +-1 / sqrt(2).
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
    """What k means: every row wants k experts, has at most k (by default all), or has k on average."""
    usual_balance: ClassVar[dict[str, float]]
    """The balance losses that training uses unless asked otherwise, with their weights."""

    @abstractmethod
    def route(self, ranking: Tensor, scores: Tensor) -> Assignments:
        """Return which experts serve which rows: `ranking` (N, E) chooses them, `scores` (N, E) weigh them."""

    @abstractmethod
    def decide(self, ranked: Ranked) -> Decision:
        """Return which experts serve which rows, in float64 with NumPy and written apart from `route`.

        `bench.correctness` compares every form with it before timing; see `models.routing.decision`.
        """

    @classmethod
    def settings(cls) -> dict[str, Any]:
        """Return the settings that not every policy has, with their defaults."""
        shared = SparseConfig.model_fields
        return {name: field.default for name, field in cls.model_fields.items() if name not in shared}

    def decision(self, ranking: Float64, error: Float64) -> Decision:
        """Return `decide` by `ranking` (N, E); float32 cannot tell apart values closer than `error` (N,)."""
        with np.errstate(invalid="ignore"):  # infinity less infinity is close to nothing
            return self.decide(Ranked.by(ranking / self.temperature, error / self.temperature))

    @property
    def most_experts(self) -> int:
        """How many experts a row has at most."""
        return self.experts if self.k_is == "mean" else self.k

    @property
    def default_balance(self) -> dict[str, float]:
        """The balance losses, with their weights; a head with `bias_correction` does without losses."""
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
        """Fill in what depends on other settings; settings of other policies may be there, as None."""
        if not isinstance(data, dict):
            return data
        chosen = {name: value for name, value in data.items() if value is not None}
        if unknown := sorted(chosen.keys() - cls.model_fields.keys()):
            policy, known = cls.model_fields["policy"].default, ", ".join(cls.settings()) or "none of its own"
            raise ValueError(f"policy {policy} has no setting {unknown[0]}; it has {known}")
        if cls.k_is == "limit":
            chosen = {"k": chosen.get("experts"), **chosen}
        weights_over = "all" if chosen.get("k") == 1 or cls.k_is != "wanted" else "selected"
        return {"weights_over": weights_over, "standardise": chosen.get("experts") != 2, **chosen}

    @model_validator(mode="after")
    def _check_routing(self) -> Self:
        if self.k > self.experts:
            raise ValueError(f"k = {self.k} is more than experts = {self.experts}; choose k from 1 to {self.experts}")
        if self.k == 1 < self.experts and self.weights_over == "selected":
            raise ValueError("k = 1 with weights_over = selected gives the gate no gradient; use weights_over = all")
        if self.bias_correction and self.even_load:
            raise ValueError(f"{self.policy} gives every expert as many rows; leave bias_correction out")
        return self
