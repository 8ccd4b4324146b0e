"""The timed layers: routing as asked, and a reference that agrees with an oracle written row by row."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn.functional import silu

from bench.subjects.layers import (
    E128,
    LAYERS,
    PAPER,
    chosen_experts,
    deviation,
    expert_outputs,
    given_routing,
    layer_output,
    new_tensors,
    tolerance,
)
from models.config import head_config
from models.heads.cost import flops, least_bytes

CPU = torch.device("cpu")
SMALL = replace(E128, D=48, H=12, E=6, k=2, C=20)
BIASED = replace(SMALL, activation="relu", biased=True, standardise=True)
ROUTINGS = ("balanced", "zipf", "hot")


@pytest.mark.parametrize("layer", LAYERS.values(), ids=LAYERS)
@pytest.mark.parametrize("routing", ROUTINGS)
def test_every_row_has_distinct_experts(layer, routing):
    ids = chosen_experts(routing, 200, layer.E, layer.k)
    assert ids.shape == (200, layer.k)
    assert all(len(set(row)) == layer.k for row in ids.tolist())
    assert 0 <= int(ids.min()) <= int(ids.max()) < layer.E


def test_routings_spread_rows_as_they_say():
    counts = {name: torch.bincount(chosen_experts(name, 4096, 64, 8).flatten(), minlength=64) for name in ROUTINGS}
    assert counts["balanced"].max() - counts["balanced"].min() <= 1
    assert counts["hot"][0] == 4096
    assert counts["hot"][1:].max() - counts["hot"][1:].min() <= 1
    assert counts["zipf"][0] > 3 * counts["zipf"][10] > 6 * counts["zipf"][60] > 0
    assert {int(count.sum()) for count in counts.values()} == {4096 * 8}


@pytest.mark.parametrize("routing", ROUTINGS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("layer", [PAPER, SMALL, replace(E128, D=256, H=2, C=2)], ids=["paper", "small", "e128"])
def test_the_gate_decides_as_planned(layer, dtype, routing):
    for x in (tensors := new_tensors(layer, 130, dtype, CPU, (routing,))[routing]).xs:
        scores = x.float() @ tensors.gate.float().T  # a rounding of bf16 must not decide
        if tensors.gate_bias is not None:
            scores = scores + tensors.gate_bias.float()
        found = scores.topk(layer.k, dim=1).indices.sort(dim=1).values
        assert torch.equal(found, tensors.ids.sort(dim=1).values)
    assert not torch.equal(tensors.xs[0], tensors.xs[1])


@pytest.mark.parametrize("layer", [SMALL, BIASED])
def test_the_reference_agrees_with_a_loop_over_rows(layer):
    tensors = new_tensors(layer, 9, torch.float32, CPU, ("zipf",))["zipf"]
    out = layer_output(tensors, tensors.x)
    for n, row in enumerate(tensors.x.double()):
        scores = tensors.gate.double() @ row
        if tensors.gate_bias is not None:
            scores = scores + tensors.gate_bias
        if layer.standardise:
            scores = (scores - scores.mean()) / scores.std()
        ids = torch.argsort(scores, descending=True)[: layer.k]
        weights = torch.softmax(scores[ids], 0)
        total = torch.zeros(layer.C, dtype=torch.float64)
        for weight, e in zip(weights, ids, strict=True):
            h = row @ tensors.w1[e].double() + (0 if tensors.b1 is None else tensors.b1[e])
            h = silu(h[: layer.H]) * h[layer.H :] if layer.activation == "swiglu" else h.clamp_min(0)
            total += weight * (h @ tensors.w2[e].double() + (0 if tensors.b2 is None else tensors.b2[e]))
        np.testing.assert_allclose(out[n], total, rtol=1e-9, atol=1e-12)


def test_expert_outputs_stand_by_expert_and_weights_are_those_of_the_gate():
    tensors = new_tensors(SMALL, 5, torch.float32, CPU, ("balanced",))["balanced"]
    order = torch.argsort(tensors.ids.flatten(), stable=True)
    given = given_routing(tensors, tensors.x)
    outputs = expert_outputs(tensors, tensors.x)
    total = torch.zeros(5, SMALL.C, dtype=torch.float64)
    for place, assignment in enumerate(order.tolist()):
        total[assignment // 2] += given.weights[assignment // 2, assignment % 2] * outputs[place]
    assert deviation(total, layer_output(tensors, tensors.x)) < 1e-6


def test_a_deviation_sees_every_mistake():
    tensors = new_tensors(PAPER, 64, torch.float32, CPU, ("balanced",))["balanced"]
    right = layer_output(tensors, tensors.x)
    swapped = replace(tensors, w1=tensors.w1.roll(1, 0))
    unweighted = replace(tensors, gate=torch.zeros_like(tensors.gate))
    unbiased = replace(tensors, b1=None)
    wrong = [layer_output(mutant, tensors.x) for mutant in (swapped, unbiased)]
    wrong += [right.roll(1, 0), torch.where(torch.arange(64)[:, None] == 3, 0, right), right[:-1], right * torch.nan]
    assert all(deviation(output, right) > 2 * tolerance(torch.bfloat16) for output in wrong)
    assert deviation(layer_output(unweighted, tensors.x), right) > tolerance(torch.bfloat16)
    assert deviation(right.float(), right) < 1e-6
    assert deviation(right[:0], right[:0]) == 0


@pytest.mark.parametrize("rows", [1, 300])
def test_counts_are_those_of_the_models(rows):
    config = head_config("sparse", "paper", features=512, classes=10)
    assert PAPER.flops(rows) == pytest.approx(flops(config, rows).total, rel=0.01)  # which counts the combine too
    assert PAPER.least_bytes(rows, 4, 8) == least_bytes(config, rows, 4, 8)
