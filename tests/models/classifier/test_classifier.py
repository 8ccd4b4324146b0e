import pytest
import torch

from models.classifier.classifier import Classifier
from models.config import BackboneConfig, InputConfig, ModelConfig, head_config
from models.settings import ConfigError

IMAGES = InputConfig(shape=(3, 8, 8), mean=(0.1, 0.5, 0.9), std=(0.2, 0.4, 0.8))


def model(kind: str = "sparse", backbone: str = "small", features: int = 16) -> Classifier:
    torch.manual_seed(0)
    head = head_config(kind, features=features, classes=4)
    return Classifier(ModelConfig(backbone=BackboneConfig(name=backbone, width=16), head=head), IMAGES)


def test_images_are_normalised_by_channel() -> None:
    images = torch.randint(0, 256, (5, 3, 8, 8), dtype=torch.uint8)
    expected = (images.double() / 255 - torch.tensor([0.1, 0.5, 0.9]).view(3, 1, 1)) / torch.tensor(
        [0.2, 0.4, 0.8]
    ).view(3, 1, 1)
    classifier = model()
    assert torch.allclose(classifier.normalise(images).double(), expected, atol=1e-6)
    assert torch.allclose(classifier.normalise(images / 255), classifier.normalise(images))


@pytest.mark.parametrize("kind", ["dense", "soft", "sparse"])
def test_logits_are_the_heads_of_the_features(kind: str) -> None:
    classifier = model(kind).eval()
    images = torch.randint(0, 256, (5, 3, 8, 8), dtype=torch.uint8)
    logits, routing = classifier.routed(images)
    assert torch.equal(classifier(images), logits)
    assert torch.allclose(classifier.head(classifier.features(images)), logits)
    assert (routing is None) == (kind == "dense")


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_a_model_in_another_precision_takes_the_same_images(dtype: torch.dtype) -> None:
    classifier = model().eval().to(dtype)
    images = torch.randint(0, 256, (5, 3, 8, 8), dtype=torch.uint8)
    assert classifier(images).dtype == dtype
    assert classifier(images / 255).dtype == dtype


def test_statistics_are_no_weights() -> None:
    assert {name.partition(".")[0] for name in model().state_dict()} == {"backbone", "head"}


def test_a_head_of_another_width_is_refused() -> None:
    with pytest.raises(ConfigError, match="takes 17 features, but backbone small gives 16"):
        model(features=17)
