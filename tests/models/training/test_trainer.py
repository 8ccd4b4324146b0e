import pytest
import torch
from torch import Tensor

from models.classifier.backbones import whitening_weights
from models.classifier.classifier import Classifier
from models.classifier.evaluate import evaluate
from models.data.data import Dataset, split
from models.data.images import LabelledImages, Source
from models.progress import SILENT
from models.routing import Routing
from models.training import trainer as module
from models.training.recipes import TrainConfig, train_config
from models.training.trainer import DivergedError, Trainer, batch_count, epoch_seed, product_dtype


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

    def same(actual: list[Tensor], expected: Tensor) -> bool:
        return sorted(torch.cat(actual).flatten(1).tolist()) == sorted(expected.flatten(1).tolist())

    assert same([images for images, *_ in augmented], data.train.images)
    assert {(shift, flip) for _, shift, flip in augmented} == {(1, True)}
    assert same(seen[True], 255 - data.train.images)
    assert same(seen[False], data.val.images)


def test_augmented_draws_differ_between_epochs_for_training_images_alone(
    data: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[dict[bytes, bytes]] = []
    evaluated: list[Tensor] = []

    def augment(images: Tensor, shift: int, flip: bool) -> Tensor:
        result = real_augment(images, shift, flip)
        for before, after in zip(images, result, strict=True):
            drawn[-1][before.numpy().tobytes()] = after.contiguous().numpy().tobytes()
        return result

    def routed(self: Classifier, images: Tensor) -> tuple[Tensor, Routing | None]:
        if not self.training:
            evaluated.append(images)
        return real_routed(self, images)

    real_augment, real_routed = module.augment, Classifier.routed
    monkeypatch.setattr(module, "augment", augment)
    monkeypatch.setattr(Classifier, "routed", routed)
    run = trainer(data)
    for _ in range(2):
        drawn.append({})
        run.run_epoch()
    evaluate(run.model, run.test)
    first, second = drawn
    assert first.keys() == second.keys() == {image.numpy().tobytes() for image in data.train.images}
    assert sum(first[image] != second[image] for image in first) > len(first) * 2 / 3
    assert torch.equal(torch.cat(evaluated), torch.cat([data.val.images, data.val.images, data.test.images]))


def test_squares_are_cut_out_of_training_images_alone(data: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[bool, list[Tensor]] = {True: [], False: []}

    def routed(self: Classifier, images: Tensor) -> tuple[Tensor, Routing | None]:
        seen[self.training].append(images)
        return real(self, images)

    real = Classifier.routed
    monkeypatch.setattr(Classifier, "routed", routed)
    run = trainer(data, shift=0, flip=False, cutout=12)  # as large as can be: whatever its place, a corner is covered
    run.run_epoch()
    mean = torch.tensor(run.images.mean).mul(255).round().to(torch.uint8)
    covered = (torch.cat(seen[True]) == mean[:, None, None]).all(dim=1)
    assert bool(covered.flatten(1).any(dim=1).all())
    assert torch.equal(torch.cat(seen[False]), data.val.images)


@pytest.mark.parametrize(
    ("preset", "device", "able", "expected"),
    [
        ("fast", "cpu", True, "bfloat16"),
        ("fast", "cpu", False, "float32"),
        ("fast", "cuda", False, "bfloat16"),
        ("paper", "cuda", False, "bfloat16"),
        ("paper", "cpu", True, "float32"),
    ],
)
def test_products_are_in_bfloat16_where_asked_for_and_fast(
    preset: str, device: str, able: bool, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "multiplies_bfloat16", lambda: able)
    assert product_dtype(train_config("cifar10", "sparse", preset), torch.device(device)) == expected


def fast(data: Dataset, **changes: object) -> Trainer:
    settings = {"backbone": {"name": "fast", "widths": (8, 8, 12)}, "batch": 16, "epochs": 3, **changes}
    return Trainer(train_config("noise", "sparse", "fast", **settings), data, torch.device("cpu"), SILENT)


def test_early_epochs_train_on_smaller_images_and_all_are_judged_on_whole_ones(
    data: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[bool, int]] = []

    def routed(self: Classifier, images: Tensor) -> tuple[Tensor, Routing | None]:
        seen.append((self.training, images.shape[-1]))
        return real(self, images)

    real = Classifier.routed
    monkeypatch.setattr(Classifier, "routed", routed)
    run = fast(data, resolutions=((0.5, 1), (2 / 3, 1), (1, 1)))
    for side in (3, 4, 6):
        seen.clear()
        run.run_epoch()
        assert set(seen) == {(True, side), (False, 6)}


def test_the_first_filters_whiten_the_training_images_and_stay(data: Dataset) -> None:
    run = fast(data)
    before = {name: value.clone() for name, value in run.model.backbone.state_dict().items()}
    assert torch.equal(before["0.weight"], whitening_weights(run.model.normalise(data.train.images)))
    run.run_epoch()
    after = run.model.backbone.state_dict()
    unchanged = {name for name in before if torch.equal(before[name], after[name])}
    norms = {name for name in before if name.endswith("running_mean")}
    assert unchanged == {"0.weight"} | {name.replace("running_mean", "weight") for name in norms}
    assert torch.equal(run.state.model["backbone.0.weight"], before["0.weight"])


def test_a_loss_is_looked_at_seldom(data: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    checks: list[float] = []
    monkeypatch.setattr(Trainer, "_check_finite", lambda self, loss, epoch: checks.append(loss))
    trainer(data, batch=2).run_epoch()
    assert len(checks) == 3  # of 30 steps: the first, all of them, and the validation


@pytest.mark.parametrize("head", ["dense", "soft", "sparse"])
def test_an_epoch_leaves_its_record(data: Dataset, head: str) -> None:
    run = trainer(data, head)
    run.run_epoch()
    (row,) = run.state.history
    expected = {"epoch", "learning_rate", "train_loss", "train_accuracy", "val_loss", "val_accuracy", "seconds"}
    if head != "dense":
        expected |= {"load", "importance", "utilisation", "gate_entropy"}
    assert row.keys() >= expected
    assert ("load" in row) == (head != "dense")
    assert row["learning_rate"] == pytest.approx(run.config.lr / 5)
    names = {f"{name}.momentum_buffer" for name, _ in run.model.named_parameters()}
    assert run.state.optimizer.keys() == names


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


@pytest.mark.parametrize(("head", "terms"), [("soft", {"kl": 0}), ("sparse", {"importance": 0, "load": 0})])
def test_the_balance_terms_are_part_of_the_loss(data: Dataset, head: str, terms: dict[str, float]) -> None:
    def loss(balance: dict[str, float]) -> float:
        run = trainer(data, head, balance=balance, lr=1e-30)
        run.run_epoch()
        return float(run.state.history[0]["train_loss"])

    assert loss(dict.fromkeys(terms, 5.0)) > loss({}) > loss(terms)


def test_the_choice_is_corrected_after_each_step_by_the_rate(data: Dataset) -> None:
    head = {"bias_correction": True, "experts": 4, "k": 1}
    run = trainer(data, head_changes=head, balance={"correction": 0.25})
    run.run_epoch()
    steps = batch_count(60, 16)
    correction = run.model.get_buffer("head.correction") / 0.25
    assert torch.equal(correction, correction.round())
    assert 0 < correction.abs().max() <= steps
    assert torch.equal(run.state.best["head.correction"], run.model.get_buffer("head.correction"))


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
    features, labels = run.some_features()
    every = run.model.features(data.test.images)
    assert not torch.equal(features, every)
    pairs = [[*row, label] for row, label in zip(features.tolist(), labels.tolist(), strict=True)]
    expected = [[*row, label] for row, label in zip(every.tolist(), data.test.labels.tolist(), strict=True)]
    assert sorted(pairs) == sorted(expected)


@pytest.mark.gpu
def test_training_on_a_gpu(data: Dataset) -> None:
    config: TrainConfig = train_config("noise", "sparse", "quick", epochs=1, backbone={"name": "small", "width": 16})
    run = Trainer(config, data, torch.device("cuda"), SILENT)
    run.run_epoch()
    assert run.state.history[0]["val_loss"] > 0
