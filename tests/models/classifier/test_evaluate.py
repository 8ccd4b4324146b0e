import json
import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from models.classifier.classifier import Classifier
from models.classifier.evaluate import evaluate, joined, mutual_information, routing_statistics, served
from models.config import BackboneConfig, InputConfig, ModelConfig, head_config
from models.data.images import LabelledImages
from models.routing import Routing
from models.routing.policies import POLICIES


def images(count: int) -> LabelledImages:
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (count, 1, 3, 3), dtype=torch.uint8, generator=generator)
    return LabelledImages(pixels, torch.randint(0, 4, (count,), generator=generator))


def model(kind: str, **changes: Any) -> Classifier:
    torch.manual_seed(0)
    head = head_config(kind, features=9, hidden=5, classes=4, **changes)
    return Classifier(
        ModelConfig(backbone=BackboneConfig(name="identity"), head=head),
        InputConfig(shape=(1, 3, 3), mean=(0.5,), std=(0.3,)),
    )


@pytest.mark.parametrize("kind", ["dense", "soft", "sparse"])
def test_loss_and_accuracy_over_several_batches(kind: str) -> None:
    classifier, part = model(kind), images(1203)
    result = evaluate(classifier, part)
    logits = classifier(part.images)
    assert not classifier.training
    assert result["loss"] == pytest.approx(F.cross_entropy(logits, part.labels).item(), rel=1e-5)
    assert result["accuracy"] == (logits.argmax(1) == part.labels).double().mean().item()
    assert ("load" in result) == (kind != "dense")


def test_statistics_cover_every_row() -> None:
    classifier, part = model("sparse"), images(1203)
    result = evaluate(classifier, part)
    _, routing = classifier.routed(part.images)
    assert routing is not None
    assert result["load"] == pytest.approx((routing.experts.bincount(minlength=8) / 2406).tolist())
    assert result["class_information"] == pytest.approx(mutual_information(served(routing, part.labels, 4)))
    assert sum(result["importance"]) == pytest.approx(1)
    assert (result["experts_per_row_mean"], result["experts_per_row_std"], result["dropped"]) == (2, 0, 0)


@pytest.mark.parametrize("policy", POLICIES)
def test_statistics_of_every_policy_are_plain_numbers(policy: str) -> None:
    classifier, part = model("sparse", policy=policy), images(703)
    result = evaluate(classifier, part)
    assert result == evaluate(classifier, part)
    assert json.loads(json.dumps(result, allow_nan=False)) == result
    assert [sum(row) for row in result["class_load"]] == pytest.approx([1] * 4)
    assert sum(result["load"]) == pytest.approx(1)
    assert (result["dropped"] > 0) == (policy == "capacity")
    assert result["experts_per_row_mean"] >= (1 if policy != "capacity" else 0.5)
    assert 0 <= result["class_information"] <= math.log(4)


def routing_by_hand() -> Routing:
    """Return rows 0 to 3, of which row 3 has no expert."""
    return Routing(
        rows=torch.tensor([0, 0, 1, 1, 1, 2]),
        experts=torch.tensor([0, 1, 0, 2, 1, 0]),
        weights=torch.tensor([0.9, 0.1, 0.9, 0.05, 0.05, 1.0]),
        scores=torch.tensor([[0.0, 0, 0, 0], [1000, 0, 0, 0], [1000, 0, 0, 0], [0, 0, 0, 0]]),
        dropped=torch.tensor(2),
    )


def test_routing_statistics_by_hand() -> None:
    result = routing_statistics(routing_by_hand(), torch.tensor([0, 1, 1, 2]), 4, temperature=0.5)
    assert result["load"] == pytest.approx([3 / 6, 2 / 6, 1 / 6, 0])
    assert result["importance"] == pytest.approx([2.8 / 3, 0.15 / 3, 0.05 / 3, 0])
    assert result["utilisation"] == 0.5  # 0.05 / 3 is below a tenth of an equal share of 1 / 4
    assert result["gate_entropy"] == pytest.approx(math.log(4) / 2)
    assert result["experts_per_row_mean"] == 1.5
    assert result["experts_per_row_std"] == pytest.approx(math.sqrt((0.25 + 2.25 + 0.25 + 2.25) / 4))
    assert result["load_cv"] == pytest.approx(math.sqrt((2.25 + 0.25 + 0.25 + 2.25) / 4) / 1.5)
    assert result["dropped"] == 2 / 8
    expected = [[0.5, 0.5, 0, 0], [0.5, 0.25, 0.25, 0], [0, 0, 0, 0], [0, 0, 0, 0]]
    assert torch.allclose(torch.tensor(result["class_load"]), torch.tensor(expected))


def test_batches_join_with_their_rows_shifted() -> None:
    first, second = routing_by_hand(), routing_by_hand()
    both = joined([first, second, first])
    assert both.rows.tolist() == [row + start for start in (0, 4, 8) for row in first.rows.tolist()]
    assert torch.equal(both.matrix(), torch.cat([first.matrix()] * 3))
    assert both.dropped is not None
    assert both.dropped.item() == 6
    assert both.per_row is None


def summed_information(counts: list[list[int]]) -> float:
    """Sum p(a, b) log(p(a, b) / (p(a) p(b))) cell by cell."""
    total = sum(map(sum, counts))
    columns = [sum(column) for column in zip(*counts, strict=True)]
    cells = ((n, sum(row), column) for row in counts for n, column in zip(row, columns, strict=True))
    return sum(n / total * math.log(n * total / (row * column)) for n, row, column in cells if n)


tables = st.integers(1, 4).flatmap(
    lambda width: st.lists(st.lists(st.integers(0, 30), min_size=width, max_size=width), min_size=1, max_size=5)
)


@given(tables)
def test_information_is_the_direct_sum(counts: list[list[int]]) -> None:
    table = torch.tensor(counts)
    assert mutual_information(table) == pytest.approx(summed_information(counts) if table.sum() else 0, abs=1e-12)


def test_information_of_what_is_the_same_and_of_what_is_independent() -> None:
    assert mutual_information(torch.eye(5) * 7) == pytest.approx(math.log(5))
    assert mutual_information(torch.outer(torch.tensor([1, 2, 3]), torch.tensor([4, 5]))) == pytest.approx(0, abs=1e-12)


def test_a_soft_head_loads_all_experts_alike() -> None:
    result = evaluate(model("soft"), images(10))
    assert result["load"] == pytest.approx([1 / 8] * 8)
    assert (result["load_cv"], result["class_information"]) == pytest.approx((0, 0), abs=1e-12)
