"""Our kernels on forced paths and with the routing given: the same outputs, on the path that was asked for."""

import pytest
import torch

from bench.errors import UnavailableError
from bench.forms import form, triton
from tests.bench import oracle

HEADS = [
    ("soft", {"activation": "gelu", "temperature": 0.5}),
    ("sparse", {"features": 23, "hidden": 9, "experts": 7, "k": 3}),
    ("sparse", {"activation": "swiglu", "standardise": False}),
    ("sparse", {"policy": "threshold", "threshold": 0.2}),
    ("sparse", {"bias_correction": True}),
]
PATHS = ("triton_fused", "triton_grouped", "triton_given")


@pytest.mark.parametrize(("kind", "changes"), HEADS, ids=str)
@pytest.mark.parametrize("name", PATHS)
def test_logits_are_those_of_the_formula(name, kind, changes):
    head = oracle.new_head(kind, **changes)
    x = oracle.rows(head, 9)
    if name == "triton_fused" and changes.get("policy") == "threshold":  # rows with different numbers of experts
        with pytest.raises(UnavailableError, match="no path"):
            form(name).prepare(head, x)
        return
    assert oracle.deviation(form(name).prepare(head, x)(x), head, x) < 2e-5


def test_the_path_is_the_one_asked_for():
    head = oracle.new_head("sparse")
    x = oracle.rows(head, 9)
    launches = {name: form(name).prepare(head, x).work([9, 9, 0, 0])["launches"] for name in PATHS[:2]}
    assert launches == {"triton_fused": 1, "triton_grouped": 5}
    assert form("triton_grouped").prepare(head, x).runs_on["options"].startswith("Grouped(")


def test_an_amd_gpu_is_refused_in_one_sentence(monkeypatch):
    monkeypatch.setattr(torch.version, "hip", "6.4")
    config = oracle.new_head("sparse").config
    assert "AMD GPU" in form("triton").unavailable(config, torch.device("cuda"), torch.float16)
    assert form("triton").unavailable(config, torch.device("cpu"), torch.float32) is None


def test_a_head_without_such_a_path_says_so(monkeypatch):
    monkeypatch.setattr(triton, "options_of", lambda problem, machine: [])
    head = oracle.new_head("sparse")
    with pytest.raises(UnavailableError, match="no path FusedTiles or FusedRows takes 9 rows"):
        form("triton_fused").prepare(head, oracle.rows(head, 9))


def test_a_given_routing_is_not_computed_again():
    head = oracle.new_head("sparse")
    x = oracle.rows(head, 9)
    run = form("triton_given").prepare(head, x)
    expected = run(x)
    head.gate.weight.zero_()
    assert torch.equal(run(x), expected)
    assert not form("triton_given").reusable
