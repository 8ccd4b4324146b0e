"""Heads against oracles in float64 NumPy, written from the formulas, one row and one expert at a time."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from models.config import head_config
from models.heads.heads import Head, build_head
from models.routing import Routing

Array = np.ndarray[Any, Any]

ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "relu": lambda z: np.where(z > 0, z, 0 * z),
    "gelu": np.vectorize(lambda z: z * (1 + math.erf(z / math.sqrt(2))) / 2),
    "silu": lambda z: z * np.exp(-np.logaddexp(0, -z)),
    "swiglu": lambda z: ACTIVATIONS["silu"](z[: len(z) // 2]) * z[len(z) // 2 :],
}


def softmax(scores: Array) -> Array:
    heights = np.exp(scores - np.max(scores))
    return heights / heights.sum()


class Oracle:
    """A head's logits, from its parameters and its configuration."""

    def __init__(self, head: Head) -> None:
        self.config = head.config
        self.p = {name: value.double().numpy() for name, value in head.state_dict().items()}
        self.f = ACTIVATIONS[self.config.activation]

    def expert(self, x: Array, e: Any = ...) -> Array:
        w1, b1, w2, b2 = (self.p[name][e] for name in ("w1", "b1", "w2", "b2"))
        return self.f(x @ w1 + b1) @ w2 + b2

    def scores(self, x: Array) -> Array:
        scores = self.p["gate.weight"] @ x + self.p["gate.bias"]
        if self.config.kind == "sparse" and self.config.standardise:
            if np.all(scores == scores[0]):
                return np.zeros_like(scores)
            return (scores - scores.mean()) / scores.std(ddof=1)
        return scores

    def row(self, x: Array) -> Array:
        if np.isnan(x).any():
            return np.full(self.config.classes, np.nan)
        if self.config.kind == "dense":
            return self.expert(x)
        scores = self.scores(x)
        experts = list(range(self.config.experts))
        if self.config.kind == "sparse":
            experts = sorted(experts, key=lambda e: (-scores[e], e))[: self.config.k]
        if self.config.kind == "sparse" and self.config.weights_over == "selected":
            weights = dict(zip(experts, softmax(scores[experts] / self.config.temperature), strict=True))
        else:
            weights = dict(enumerate(softmax(scores / self.config.temperature)))
        return sum(weights[e] * self.expert(x, e) for e in experts)

    def decided(self, x: Array) -> bool:
        """Whether float32 can tell which experts a row goes to."""
        if self.config.kind != "sparse" or self.config.k == self.config.experts or np.isnan(x).any():
            return True
        ranked = np.sort(self.scores(x))[::-1]
        return ranked[self.config.k - 1] - ranked[self.config.k] > 1e-4

    def __call__(self, x: Array) -> Array:
        return np.array([self.row(row) for row in x]).reshape(len(x), self.config.classes)


def rows(kind: str, n: int, features: int = 12) -> Array:
    x = np.random.default_rng(1).normal(size=(n, features))
    match kind:
        case "equal":
            x[:] = x[:1]
        case "zero":
            x[:] = 0
        case "huge":
            x *= 10.0 ** np.linspace(4, 18, max(n, 1))[:n, None]
        case "nan":
            x[n // 2 : n // 2 + 1, 3] = np.nan
    return x


HEADS: dict[str, tuple[str, dict[str, Any]]] = {
    "dense": ("dense", {}),
    "dense gelu": ("dense", {"activation": "gelu"}),
    "dense swiglu, odd width": ("dense", {"activation": "swiglu", "hidden": 7}),
    "soft": ("soft", {"experts": 5}),
    "soft silu, temperature": ("soft", {"experts": 3, "activation": "silu", "temperature": 0.4}),
    "soft, one expert": ("soft", {"experts": 1}),
    "soft swiglu": ("soft", {"experts": 3, "activation": "swiglu", "hidden": 5}),
    "sparse": ("sparse", {"experts": 7, "k": 2}),
    "sparse, over all, raw scores": ("sparse", {"experts": 6, "k": 3, "weights_over": "all", "standardise": False}),
    "sparse gelu, k = 1": ("sparse", {"experts": 4, "k": 1, "activation": "gelu", "temperature": 2.0}),
    "sparse, k = E": ("sparse", {"experts": 3, "k": 3}),
    "sparse swiglu": ("sparse", {"experts": 7, "k": 2, "activation": "swiglu", "hidden": 5}),
    "sparse swiglu, E = 1, one hidden value": ("sparse", {"experts": 1, "k": 1, "activation": "swiglu", "hidden": 1}),
    "sparse, E = 1": ("sparse", {"experts": 1, "k": 1}),
}


@pytest.fixture(params=HEADS.values(), ids=list(HEADS))
def head(request: pytest.FixtureRequest) -> Head:
    kind, changes = request.param
    torch.manual_seed(7)
    return build_head(head_config(kind, **{"features": 12, "hidden": 6, "classes": 4, **changes})).eval()


def difference(result: Array, expected: Array) -> float:
    """Return the largest deviation relative to the largest logit of the row; both must be NaN in the same places."""
    assert np.array_equal(np.isnan(result), np.isnan(expected))
    scale = np.abs(expected).max(axis=1, keepdims=True, initial=1)
    return np.nanmax(np.abs(result - expected) / scale, initial=0)


@pytest.mark.parametrize("n", [0, 1, 7, 257])
@pytest.mark.parametrize("kind", ["normal", "equal", "zero", "huge", "nan"])
def test_logits_are_the_oracles(head: Head, kind: str, n: int) -> None:
    x = rows(kind, n)
    oracle = Oracle(head)
    with torch.inference_mode():
        single = head(torch.from_numpy(x).float()).double().numpy()
        double = head.double()(torch.from_numpy(x)).numpy()
    assert difference(double, oracle(x)) < 1e-12
    rounded = x.astype(np.float32).astype(np.float64)
    decided = np.array([oracle.decided(row) for row in rounded], dtype=bool)
    assert decided.mean() > 0.9 if kind == "normal" and n else True
    rounding = 1e-4 if kind == "huge" else 1e-5  # where sums of huge terms cancel, more of a logit is rounding
    assert difference(single[decided], oracle(rounded)[decided]) < rounding


def test_a_nan_row_touches_no_other(head: Head) -> None:
    x = torch.from_numpy(rows("normal", 7)).float()
    spoilt = x.clone()
    spoilt[3, 0] = float("nan")
    with torch.inference_mode():
        clean, dirty = head(x), head(spoilt)
    others = [0, 1, 2, 4, 5, 6]
    assert dirty[3].isnan().all()
    assert torch.allclose(dirty[others], clean[others], atol=1e-6)


def test_rows_are_independent_of_their_order(head: Head) -> None:
    x = torch.from_numpy(rows("normal", 31))
    order = torch.randperm(31)
    head.double()
    with torch.inference_mode():
        assert torch.allclose(head(x)[order], head(x[order]), atol=1e-12)


def test_mixing_takes_any_flat_routing() -> None:
    torch.manual_seed(0)
    head = build_head(head_config("sparse", features=12, hidden=6, classes=4, experts=3, k=2)).double().eval()
    x = torch.from_numpy(rows("normal", 5))
    sent, experts = torch.tensor([0, 2, 2, 2, 4]), torch.tensor([1, 2, 0, 1, 2])  # rows 1 and 3 have no expert
    weights = torch.tensor([0.5, 1.0, 0.25, -2.0, 0.0], dtype=torch.float64)
    expected = np.zeros((5, 4))
    for n, e, weight in zip(sent.tolist(), experts.tolist(), weights.tolist(), strict=True):
        expected[n] += weight * Oracle(head).expert(x[n].numpy(), e)
    with torch.inference_mode():
        result = head.mix(x, Routing(sent, experts, weights, torch.zeros(5, 3, dtype=torch.float64)))
    assert np.abs(result.numpy() - expected).max() < 1e-12


def test_dropout_acts_in_training_only() -> None:
    torch.manual_seed(0)
    for kind in ("dense", "soft", "sparse"):
        head = build_head(head_config(kind, features=12, hidden=40, classes=4, dropout=0.5))
        x = torch.randn(5, 12)
        assert not torch.equal(head(x), head(x))
        head.eval()
        assert torch.equal(head(x), head(x))


def test_parameter_names_and_shapes() -> None:
    shapes = {
        kind: {name: tuple(value.shape) for name, value in build_head(head_config(kind)).state_dict().items()}
        for kind in ("dense", "soft", "sparse")
    }
    experts = {"w1": (8, 512, 64), "b1": (8, 64), "w2": (8, 64, 10), "b2": (8, 10)}
    gate = {"gate.weight": (8, 512), "gate.bias": (8,)}
    assert shapes["dense"] == {"w1": (512, 512), "b1": (512,), "w2": (512, 10), "b2": (10,)}
    assert shapes["soft"] == {**experts, **gate}
    assert shapes["sparse"] == {**experts, **gate, "noise.weight": (8, 512), "noise.bias": (8,)}


@pytest.mark.parametrize("kind", ["dense", "soft", "sparse"])
def test_swiglu_doubles_the_first_weights_alone(kind: str) -> None:
    plain, gated = (build_head(head_config(kind, activation=name)) for name in ("silu", "swiglu"))
    for name, value in plain.state_dict().items():
        width = value.shape[-1] * (2 if name in ("w1", "b1") else 1)
        assert gated.state_dict()[name].shape == (*value.shape[:-1], width), name


def test_the_halves_of_swiglu_are_gate_then_value() -> None:
    head = build_head(head_config("dense", features=2, hidden=2, classes=2, activation="swiglu")).double().eval()
    with torch.no_grad():
        head.w1.copy_(torch.tensor([[1.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 1.0]]))  # x0 feeds gate 0, x1 value 1
        head.b1.copy_(torch.tensor([0.0, -3.0, 5.0, 0.0]))
        head.w2.copy_(torch.eye(2))
        head.b2.zero_()
        result = head(torch.tensor([[2.0, 7.0]], dtype=torch.float64))[0].tolist()
    assert result == pytest.approx([2 / (1 + math.exp(-2)) * 5, -3 / (1 + math.exp(3)) * 7], rel=1e-12)


def test_initial_weights_stay_within_their_own_fan_in() -> None:
    head = build_head(head_config("sparse"))
    assert head.w1.abs().max() <= 1 / math.sqrt(512)
    assert 1 / math.sqrt(512) < head.w2.abs().max() <= 1 / math.sqrt(64)
    assert len({tuple(expert.flatten().tolist()) for expert in head.w1}) == 8


def test_training_runs_under_autocast(head: Head) -> None:
    head.train()
    with torch.autocast("cpu", torch.bfloat16):
        loss = head(torch.randn(9, 12)).float().square().sum()
    loss.backward()
    assert loss.isfinite()
