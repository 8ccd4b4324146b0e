import math

import pytest
import torch
import torch.nn.functional as F

from models.classifier import Classifier
from models.config import BackboneConfig, InputConfig, ModelConfig, head_config
from models.evaluate import evaluate, routing_statistics
from models.images import LabelledImages


def images(count: int) -> LabelledImages:
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (count, 1, 3, 3), dtype=torch.uint8, generator=generator)
    return LabelledImages(pixels, torch.randint(0, 4, (count,), generator=generator))


def model(kind: str) -> Classifier:
    torch.manual_seed(0)
    head = head_config(kind, features=9, hidden=5, classes=4)
    return Classifier(
        ModelConfig(backbone=BackboneConfig(name="identity"), head=head),
        InputConfig(shape=(1, 3, 3), mean=(0.5,), std=(0.3,)),
    )


@pytest.mark.parametrize("kind", ["dense", "soft", "sparse"])
def test_loss_and_accuracy_over_several_batches(kind: str) -> None:
    classifier, part = model(kind), images(1203)
    found = evaluate(classifier, part)
    logits = classifier(part.images)
    assert not classifier.training
    assert found["loss"] == pytest.approx(F.cross_entropy(logits, part.labels).item(), rel=1e-5)
    assert found["accuracy"] == (logits.argmax(1) == part.labels).double().mean().item()
    assert ("load" in found) == (kind != "dense")


def test_statistics_cover_every_row() -> None:
    classifier, part = model("sparse"), images(1203)
    found = evaluate(classifier, part)
    _, routing = classifier.routed(part.images)
    assert routing is not None
    assert found["load"] == pytest.approx((routing.ids.flatten().bincount(minlength=8) / 2406).tolist())
    assert sum(found["importance"]) == pytest.approx(1)


def test_routing_statistics_by_hand() -> None:
    ids = torch.tensor([[0, 1], [0, 2]], dtype=torch.int32)
    weights = torch.tensor([[0.9, 0.1], [0.95, 0.05]])
    scores = torch.tensor([[0.0, 0.0, 0.0, 0.0], [1000.0, 0.0, 0.0, 0.0]])
    found = routing_statistics(ids, weights, scores)
    assert found["load"] == [0.5, 0.25, 0.25, 0]
    assert found["importance"] == pytest.approx([0.925, 0.05, 0.025, 0])
    assert found["utilisation"] == 0.75  # 0.025 is a tenth of an equal share of 0.25
    assert found["gate_entropy"] == pytest.approx(math.log(4) / 2)


def test_a_soft_head_loads_all_experts_alike() -> None:
    assert evaluate(model("soft"), images(10))["load"] == pytest.approx([1 / 8] * 8)
