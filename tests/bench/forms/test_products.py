"""Forms of the products alone: every assignment's expert output, and dense products of equal operations."""

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from bench.correctness.equivalence import deviation
from bench.correctness.reference import Reference
from bench.errors import UnavailableError
from bench.forms import form
from bench.forms.products import expert_outputs
from models.heads.cost import flops, least_bytes
from tests.bench import oracle

CPU = torch.device("cpu")
HEADS = [
    ("soft", {}),
    ("sparse", {"features": 23, "hidden": 9, "experts": 7, "k": 3}),
    ("sparse", {"activation": "swiglu", "standardise": False, "classes": 16}),
    ("sparse", {"experts": 1, "k": 1}),
]


def expected_of(name, head, x):
    wanted = form(name).expected(head, x).numpy()
    return Reference(wanted, np.zeros(len(wanted), dtype=bool))


@pytest.mark.parametrize(("kind", "changes"), HEADS, ids=str)
@pytest.mark.parametrize("name", ["triton_products", "cublas"])
@pytest.mark.parametrize("rows", [1, 9])
def test_outputs_are_the_expected_ones(name, kind, changes, rows):
    head = oracle.new_head(kind, **changes)
    x = oracle.rows(head, rows)
    found = deviation(form(name).prepare(head, x)(x), expected_of(name, head, x), x)
    assert found.error < 2e-5


def test_a_head_whose_products_depend_on_the_rows_is_refused():
    head = oracle.new_head("sparse", policy="top_p", mass=0.6)
    with pytest.raises(UnavailableError, match="different numbers of experts"):
        form("triton_products").prepare(head, oracle.rows(head, 9))


def test_a_mutant_of_the_products_is_stopped():
    head = oracle.new_head("sparse", classes=16)
    x = oracle.rows(head, 33)
    expected = expected_of("triton_products", head, x)
    run = form("triton_products").prepare(head, x)
    assert deviation(run(x), expected, x).acceptable
    for wrong in (run(x).roll(1, 0), run(x.roll(1, 0)), run(x)[:-1], run(x) * 1.01):
        assert not deviation(wrong, expected, x).acceptable


@pytest.mark.parametrize(("kind", "changes"), HEADS, ids=str)
def test_weighted_outputs_add_up_to_the_head(kind, changes):
    head = oracle.new_head(kind, **changes)
    x = oracle.rows(head, 9)
    routing = head.routing(x)
    order = torch.argsort(routing.experts, stable=True)
    weighted = expert_outputs(head, x) * routing.weights[order, None]
    total = torch.zeros(9, head.config.classes, dtype=torch.float64).index_add_(0, routing.rows[order], weighted)
    assert oracle.deviation(total.float(), head, x) < 1e-5


@pytest.mark.parametrize("kind", ["dense", "soft", "sparse"])
def test_cublas_runs_as_many_operations_as_the_experts(kind):
    head = oracle.new_head(kind, activation="swiglu")
    x = oracle.rows(head, 33)
    run = form("cublas").prepare(head, x)
    with FlopCounterMode(display=False) as counter:
        run(x)
    wanted = flops(head.config, 33).experts
    assert counter.get_total_flops() == wanted == form("cublas").work(head.config, 33, x.dtype, CPU, None)[0]


def test_counted_work_of_our_products():
    config = oracle.new_head("sparse", activation="swiglu").config
    counted, moved = form("triton_products").work(config, 100, torch.bfloat16, CPU, 3)
    D, H, C = config.features, config.hidden, config.classes
    expert = D * 2 * H + 2 * H + H * C + C
    assert counted == flops(config, 100).experts
    assert moved == 2 * (3 * expert + 100 * D + 200 * C)
    assert form("triton_products").work(config, 100, torch.bfloat16, CPU, None)[1] > moved  # all four experts
    whole = least_bytes(config, 100, 2, 3)
    assert moved - whole == 2 * (100 * C - (D + 1) * config.experts)  # M rows out instead of N, and no gate
