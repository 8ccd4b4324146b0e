"""Losses along lines, over planes and in balls, against losses computed here and against quadratics."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from models.sharpness.landscape import along, filter_normalised, resolving_step, second_difference, surface
from models.sharpness.objective import Value
from models.sharpness.spectrum import spectrum
from models.sharpness.worst_case import worst_rise
from tests.models import tiny


class Quadratic:
    """The loss (w - c) A (w - c) / 2 + 1, and rows of which one more is rerouted for every unit of |w|."""

    def __init__(self, curvature, weights, centre):
        self.curvature, self.weights, self.centre = (
            torch.tensor(v, dtype=torch.float64) for v in (curvature, weights, centre)
        )

    def at(self, weights):
        away = weights - self.centre
        served = torch.arange(1, 51)[:, None] < (weights - self.weights).abs().sum()
        return Value((away @ (self.curvature * away) / 2 + 1).item(), 0.0, served)

    def with_gradient(self, weights):
        return self.at(weights), self.curvature * (weights - self.centre)


def loss_at(model, weights, objective):
    """The loss of a tiny model at flat weights of all, from its own head."""
    state = {name: weight.clone() for name, weight in model.head.named_parameters()}
    for item, part in zip(objective.block.slices, objective.split(weights), strict=True):
        state[item.name.removeprefix("head.")] = part
    x, y = tiny.rows_of(model)
    return F.cross_entropy(torch.func.functional_call(model.head, state, (x,)), y).item()


@pytest.mark.parametrize("name", ["dense", "soft", "threshold", "capacity"])
def test_lines_and_planes_are_losses_at_the_shifted_weights(name):
    model = tiny.classifier(name)
    objective = tiny.objective(model, "all")
    first, second = (filter_normalised(objective, torch.Generator().manual_seed(seed)) for seed in (0, 1))
    alphas = [-0.5, -0.1, 0.0, 0.3]
    start = objective.at(objective.weights)
    line = along(objective, first, alphas)
    assert line.losses == pytest.approx(
        [loss_at(model, objective.weights + a * first, objective) for a in alphas], rel=1e-12
    )
    plane = surface(objective, (first, second), alphas, start)
    assert plane.losses[1][3] == pytest.approx(
        loss_at(model, objective.weights - 0.1 * first + 0.3 * second, objective), rel=1e-12
    )
    assert [row[2] for row in plane.losses] == pytest.approx(line.losses, rel=1e-12)
    assert [row[2] for row in plane.rerouted] == line.rerouted
    assert plane.rerouted[2][2] == line.rerouted[2] == 0
    if name == "threshold":
        assert max(map(max, plane.rerouted)) > 0
    if name in ("dense", "soft"):
        assert max(map(max, plane.rerouted)) == 0


def test_rerouted_rows_are_those_with_other_experts():
    model = tiny.classifier("top_k")
    objective = tiny.objective(model, "all")
    direction = torch.zeros_like(objective.weights)
    x, _ = tiny.rows_of(model)
    before = model.head.routing(x).ids.sort(dim=1).values
    shifted = objective.split(direction)
    for item, part in zip(objective.block.slices, shifted, strict=True):
        if item.name == "head.gate.bias":
            part[0] = 1.0  # a view of the direction
    line = along(objective, direction, [0.0, 0.4])
    model.head.gate.bias.data[0] += 0.4
    after = model.head.routing(x).ids.sort(dim=1).values
    assert line.rerouted == [0, int((before != after).any(dim=1).sum())]
    assert line.rerouted[1] > 0


@pytest.mark.parametrize("name", ["dense", "soft", "top_k", "expert_choice"])
def test_second_differences_are_the_curvature(name):
    model = tiny.classifier(name, activation="gelu")
    objective = tiny.objective(model, "all")
    result = spectrum(objective.hessian(), torch.Generator(), count=1, tolerance=1e-9, least=16, most=100)
    start = objective.with_gradient(objective.weights)
    top = second_difference(objective, result.vectors[0], result.values[0], start)
    assert top.value == pytest.approx(result.values[0], rel=1e-3)
    assert top.source == "losses"
    direction = filter_normalised(objective, torch.Generator().manual_seed(3))
    curvature = torch.dot(direction, objective.hessian() @ direction).item()
    assert second_difference(objective, direction, curvature, start).value == pytest.approx(curvature, rel=1e-3)
    assert second_difference(objective, direction, 2 * curvature, start).value == pytest.approx(curvature, rel=1e-3)


def test_slopes_stand_in_where_a_kink_or_jump_is_near():
    class Kinked(Quadratic):
        def at(self, weights):
            value = super().at(weights)
            return Value(value.loss + 3 * max(0.0, (weights - self.weights).sum().item() - 1e-7), 0.0, None)

    plain, kinked = (kind([2.0, 1.0], [0.5, 0.5], [0.0, 0.0]) for kind in (Quadratic, Kinked))
    direction = torch.tensor([1.0, 0.0], dtype=torch.float64)
    smooth, bent = (second_difference(o, direction, 2.0, o.with_gradient(o.weights)) for o in (plain, kinked))
    assert (smooth.source, bent.source) == ("losses", "slopes")
    assert smooth.value == pytest.approx(2, rel=1e-3)
    assert bent.value == pytest.approx(2, rel=1e-3)
    assert bent.line.second_difference() > 100


def test_the_step_grows_with_the_loss_and_falls_with_the_curvature():
    assert resolving_step(4.0, 1.0) == pytest.approx(2 * resolving_step(1.0, 1.0))
    assert resolving_step(1.0, -4.0) == pytest.approx(resolving_step(1.0, 1.0) / 2)
    assert resolving_step(0.0, 1.0) > 0
    assert resolving_step(1.0, 0.0) > 0


def test_every_filter_of_a_random_direction_is_as_long_as_the_trained_one():
    model = tiny.convolutional()
    objective = tiny.objective(model, "all", rows=5)
    names = [item.name for item in objective.block.slices]
    direction = dict(zip(names, objective.split(filter_normalised(objective, torch.Generator())), strict=True))
    for name, weight in zip(names, objective.split(objective.weights), strict=True):
        drawn = direction[name].numpy()
        if name in ("head.b1", "head.b2") or weight.ndim == 1:
            assert not drawn.any()
            continue
        axes = (1,) if name in ("head.w1", "head.w2") else tuple(range(1, weight.ndim))
        np.testing.assert_allclose(np.sqrt((drawn**2).sum(axes)), np.sqrt((weight.numpy() ** 2).sum(axes)), rtol=1e-12)
        assert len(np.unique(drawn)) == drawn.size


def test_the_worst_rise_in_a_ball_is_that_of_a_quadratic():
    curvature, weights, centre = [5.0, 1.0, 0.1], [0.3, 0.2, -0.1], [0.0, 0.0, 0.0]
    objective = Quadratic(curvature, weights, centre)
    rise = worst_rise(objective, 0.01, torch.Generator(), adaptive=False)
    angles = np.linspace(0, 2 * np.pi, 400)
    heights = np.linspace(-1, 1, 201)[:, None]
    ball = np.stack(
        [np.sqrt(1 - heights**2) * np.cos(angles), np.sqrt(1 - heights**2) * np.sin(angles), heights + 0 * angles]
    )
    there = np.array(weights)[:, None, None] + 0.01 * ball
    best = (np.array(curvature)[:, None, None] * there**2).sum(0).max() / 2 + 1 - objective.at(objective.weights).loss
    assert rise.loss_increase == pytest.approx(best, rel=1e-4)
    at_minimum = Quadratic(curvature, centre, centre)
    rise = worst_rise(at_minimum, 0.5, torch.Generator().manual_seed(0), adaptive=False)
    assert 0.5 * 5 * 0.25 * 0.9 < rise.loss_increase <= 0.5 * 5 * 0.25


def test_later_steps_only_help_and_larger_balls_rise_further():
    objective = tiny.objective(tiny.classifier("top_p"), "all")
    weights, gradient = objective.weights, objective.with_gradient(objective.weights)[1]
    for radius in (0.01, 0.1):
        one_step = objective.at(weights + radius * gradient / gradient.norm()).loss - objective.at(weights).loss
        assert worst_rise(objective, radius, torch.Generator(), adaptive=False).loss_increase >= one_step > 0
    rises = [
        worst_rise(objective, radius, torch.Generator(), adaptive=True).loss_increase for radius in (0.01, 0.05, 0.2)
    ]
    assert rises == sorted(rises)


def test_adaptive_sharpness_does_not_change_when_layers_trade_their_scale():
    model, other = tiny.classifier("dense"), tiny.classifier("dense")
    with torch.no_grad():
        for name, factor in (("w1", 8.0), ("b1", 8.0), ("w2", 1 / 8)):
            getattr(other.head, name).mul_(factor)
    adaptive, plain = (
        [
            worst_rise(tiny.objective(m, "all"), 0.2, torch.Generator(), adaptive=kind).loss_increase
            for m in (model, other)
        ]
        for kind in (True, False)
    )
    assert adaptive[0] == pytest.approx(adaptive[1], rel=1e-10)
    assert plain[0] != pytest.approx(plain[1], rel=0.05)
