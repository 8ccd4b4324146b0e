import pytest
import torch
from torch import Tensor

from models import trainer as module
from models.balance import importance_loss, kl_to_uniform, load_loss
from models.classifier import Classifier
from models.data import Dataset, split
from models.images import LabelledImages, Source
from models.progress import SILENT
from models.recipes import BalanceWeights, TrainConfig, train_config
from models.routing import Routing
from models.trainer import DivergedError, Trainer, balance_loss, batch_count, epoch_seed


@pytest.fixture
def data() -> Dataset:
    """Return 60 + 20 + 30 images of 2 classes, all different, with values below 128."""
    generator = torch.Generator().manual_seed(0)

    def part(count: int) -> LabelledImages:
        images = torch.randint(0, 128, (count, 3, 6, 6), dtype=torch.uint8, generator=generator)
        return LabelledImages(images, torch.randint(0, 2, (count,), generator=generator))

    return split(Source("noise", ("a", "b"), part(80), part(30)), 0.25, seed=0)


def trainer(data: Dataset, head: str = "sparse", **changes: object) -> Trainer:
    settings = {"epochs": 2, "batch": 16, "shift": 1, "flip": True, **changes}
    return Trainer(train_config("noise", head, "demo", **settings), data, torch.device("cpu"), SILENT)


def test_augmentation_reaches_the_training_part_alone(data: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    augmented: list[tuple[Tensor, int, bool]] = []
    seen: dict[bool, list[Tensor]] = {True: [], False: []}

    def augment(images: Tensor, shift: int, flip: bool) -> Tensor:
        augmented.append((images, shift, flip))
        return 255 - images

    def routed(self: Classifier, images: Tensor) -> tuple[Tensor, Routing | None]:
        seen[self.training].append(images)
        return real(self, images)

    real = Classifier.routed
    monkeypatch.setattr(module, "augment", augment)
    monkeypatch.setattr(Classifier, "routed", routed)
    trainer(data).run_epoch()

    def same(found: list[Tensor], expected: Tensor) -> bool:
        return sorted(torch.cat(found).flatten(1).tolist()) == sorted(expected.flatten(1).tolist())

    assert same([images for images, *_ in augmented], data.train.images)
    assert {(shift, flip) for _, shift, flip in augmented} == {(1, True)}
    assert same(seen[True], 255 - data.train.images)
    assert same(seen[False], data.val.images)


@pytest.mark.parametrize("head", ["dense", "soft", "sparse"])
def test_an_epoch_leaves_its_record(data: Dataset, head: str) -> None:
    run = trainer(data, head)
    run.run_epoch()
    (row,) = run.state.history
    expected = {"epoch", "learning_rate", "train_loss", "train_accuracy", "val_loss", "val_accuracy", "seconds"}
    if head != "dense":
        expected |= {"load", "importance", "utilisation", "gate_entropy"}
    assert row.keys() == expected
    assert row["learning_rate"] == pytest.approx(run.config.lr / 5)
    assert run.state.momentum.keys() == dict(run.model.named_parameters()).keys()


def test_the_best_epochs_weights_are_kept(data: Dataset) -> None:
    run = trainer(data, epochs=6, lr=0.3)
    weights = []
    for _ in range(6):
        run.run_epoch()
        weights.append(run.model.head.w1.detach().clone())
    accuracies = [row["val_accuracy"] for row in run.state.history]
    losses = [row["val_loss"] for row in run.state.history]
    best = max(range(6), key=lambda epoch: (accuracies[epoch], -losses[epoch]))
    assert torch.equal(run.state.best["head.w1"], weights[best])


def test_two_runs_are_alike_and_another_seed_is_not(data: Dataset) -> None:
    def weights(seed: int) -> Tensor:
        run = trainer(data, seed=seed)
        run.run_epoch()
        return run.model.head.w1.detach()

    assert torch.equal(weights(1), weights(1))
    assert not torch.equal(weights(1), weights(2))


def test_epochs_and_seeds_do_not_share_their_randomness() -> None:
    assert len({epoch_seed(seed, epoch) for seed in range(20) for epoch in range(20)}) == 400


def test_a_loss_that_is_no_number_stops_the_run_in_one_sentence(data: Dataset) -> None:
    run = trainer(data, lr=1e30)
    with pytest.raises(DivergedError, match=r"the loss became (nan|inf) in epoch 1; use a lower --lr than 1e\+30"):
        run.run_epoch()


@pytest.mark.parametrize("head", ["dense", "soft", "sparse"])
def test_balance_losses_belong_to_their_heads(data: Dataset, head: str) -> None:
    run = trainer(data, head)
    with torch.inference_mode():
        _, routing = run.model.routed(data.train.images)
    found = float(balance_loss(run.config.head, routing, BalanceWeights(kl=2, importance=3, load=5)))
    if routing is None:
        assert found == 0
    elif head == "soft":
        assert found == pytest.approx(2 * kl_to_uniform(routing.weights).item())
    else:
        assert found == pytest.approx(3 * importance_loss(routing).item() + 5 * load_loss(routing).item())


@pytest.mark.parametrize(("images", "batch", "count"), [(45_000, 128, 352), (100, 50, 2), (101, 50, 3), (7, 500, 1)])
def test_batches_have_at_most_the_size_asked_for(images: int, batch: int, count: int) -> None:
    assert batch_count(images, batch) == count


@pytest.mark.parametrize("batch", [2, 3, 16])
def test_no_batch_has_a_single_image(batch: int) -> None:
    for images in range(2, 60):
        sizes = [len(part) for part in torch.arange(images).tensor_split(batch_count(images, batch))]
        assert min(sizes) >= 2
        assert max(sizes) <= max(batch, 3)


def test_some_features_are_those_of_test_images(data: Dataset) -> None:
    run = trainer(data)
    run.model.eval()
    features = run.some_features()
    every = run.model.features(data.test.images)
    assert sorted(features.tolist()) == sorted(every.tolist())
    assert not torch.equal(features, every)


@pytest.mark.gpu
def test_training_on_a_gpu(data: Dataset) -> None:
    config: TrainConfig = train_config("noise", "sparse", "quick", epochs=1, backbone={"name": "small", "width": 16})
    run = Trainer(config, data, torch.device("cuda"), SILENT)
    run.run_epoch()
    assert run.state.history[0]["val_loss"] > 0
