"""Hessian products against brute force in float64, for every head, policy and block."""

import pytest
import torch
from torch import nn

from models.sharpness import hessian as module
from models.sharpness.network import Network, network_blocks
from models.sharpness.spectrum import spectrum
from tests.models import tiny

ENTRIES, EIGENVALUES = 1e-12, 1e-10


def matrix(operator, every=1):
    """Return the columns of an operator, or one of `every`."""
    return operator @ torch.eye(operator.shape[0], dtype=operator.dtype)[:, ::every]


@pytest.mark.parametrize("name", tiny.HEADS)
def test_entries_of_every_block_and_eigenvalues_of_all(name):
    model = tiny.classifier(name)
    everything = tiny.brute_force(model)
    for block in tiny.places(model):
        chosen = tiny.within_all(model, block)
        wanted = everything[chosen][:, chosen]
        operator = tiny.objective(model, block).hessian()
        assert (matrix(operator) - wanted).abs().max() <= ENTRIES * wanted.abs().max()
    operator = tiny.objective(model, "all").hessian()
    result = spectrum(operator, torch.Generator(), count=5, tolerance=1e-9, least=16, most=100)
    top = torch.linalg.eigvalsh(everything).flip(0)[:5]
    assert (torch.tensor(result.values, dtype=torch.float64) - top).abs().max() <= EIGENVALUES * top.abs().max()
    assert max(result.residuals) <= 1e-12


def test_entries_of_a_backbone_with_frozen_weights_and_batch_normalisation():
    model = tiny.convolutional()
    everything = tiny.brute_force(model, rows=5)
    for block in ("all", "backbone", "expert 1"):
        chosen = tiny.within_all(model, block)
        wanted = everything[chosen][:, chosen[::3]]
        result = matrix(tiny.objective(model, block, rows=5, size=3).hessian(), every=3)
        assert wanted.abs().max() > 0
        assert (result - wanted).abs().max() <= ENTRIES * wanted.abs().max()


@pytest.mark.parametrize("name", ["dense", "top_k"])
def test_ragged_batches_change_nothing_and_unweighted_ones_would(name):
    model = tiny.classifier(name)
    whole, ragged = (matrix(tiny.objective(model, "all", size=size).hessian()) for size in (tiny.ROWS, 9))
    assert (whole - ragged).abs().max() <= ENTRIES * whole.abs().max()
    parts = tiny.objective(model, "all", size=9)
    alone = [matrix(module.Hessian(parts.model, [batch])) for batch in parts.batches]
    unweighted = sum(alone) / len(alone)
    assert (unweighted - whole).abs().max() > 1e-3 * whole.abs().max()


def test_graphs_built_anew_give_the_same_products(monkeypatch):
    objective = tiny.objective(tiny.classifier("top_p"), "all")
    vector = torch.randn(len(objective.weights), dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    kept = objective.hessian()
    monkeypatch.setattr(module, "_free_bytes", lambda device: 0)
    anew = objective.hessian()
    assert (kept._keeps, anew._keeps) == (True, False)
    assert torch.equal(kept @ vector, anew @ vector)
    assert torch.equal(kept @ vector, kept @ vector)


@pytest.mark.filterwarnings("ignore:`torch.jit:FutureWarning")
def test_products_are_those_of_curvlinops_in_every_format():
    objective = tiny.objective(tiny.classifier("top_k"), "experts")
    ours = objective.hessian()
    theirs = module.HessianLinearOperator(
        objective.model, nn.CrossEntropyLoss(), list(objective.model.parameters()), list(objective.batches)
    )
    vectors = torch.randn(len(objective.weights), 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(ours @ vectors, theirs @ vectors, rtol=1e-11, atol=1e-13)
    parts = objective.split(vectors[:, 0])
    for result, wanted in zip(ours @ list(parts), theirs @ list(parts), strict=True):
        torch.testing.assert_close(result, wanted, rtol=1e-11, atol=1e-13)
    torch.testing.assert_close(
        torch.from_numpy(ours.to_scipy() @ vectors[:, 0].numpy()), ours @ vectors[:, 0], rtol=1e-12, atol=0
    )


def test_an_expert_without_rows_has_no_curvature():
    model = tiny.classifier("top_k")
    with torch.no_grad():
        model.head.gate.bias[1] = -1e3
    operator = tiny.objective(model, "expert 1").hessian()
    result = spectrum(operator, torch.Generator(), count=5, tolerance=1e-9, least=16, most=100)
    assert result.values == [0.0] * 5
    assert result.residuals == [0.0] * 5


def test_blocks_hold_what_trains_and_nothing_else():
    model = tiny.convolutional()
    blocks = network_blocks(Network(model, with_backbone=True))
    assert list(blocks) == ["all", "backbone", "gate", "experts", "expert 0", "expert 1", "expert 2"]
    names = {item.name for item in blocks["all"].slices}
    trained = {name for name, weight in model.named_parameters() if weight.requires_grad}
    assert names == {name for name in trained if not name.startswith("head.noise")}
    assert "backbone.0.weight" not in names
    assert list(network_blocks(Network(tiny.classifier("dense"), with_backbone=True))) == ["all", "head"]


def test_values_and_gradients_are_the_models_own():
    model = tiny.classifier("capacity")
    x, y = tiny.rows_of(model)
    objective = tiny.objective(model, "all")
    value, gradient = objective.with_gradient(objective.weights)
    logits = model.head(x)
    loss = nn.functional.cross_entropy(logits, y)
    weights = dict(model.named_parameters())
    wanted = torch.autograd.grad(loss, [weights[item.name] for item in objective.block.slices])
    torch.testing.assert_close(gradient, torch.cat([part.flatten() for part in wanted]), rtol=1e-12, atol=1e-15)
    assert value.loss == pytest.approx(loss.item(), rel=1e-14)
    assert value.accuracy == (logits.argmax(1) == y).double().mean().item()
    routing = model.head.routing(x)
    assert value.served.sum() == len(routing.rows)
    assert value.served[routing.rows, routing.experts].all()
