"""The comparison of policies: who takes part, what is found, what happens after a kill or a failure."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from safetensors.numpy import load_file

from models.classifier import checkpoint
from models.data.data import load_data
from models.data.images import DataError
from models.device import pick_device
from models.errors import ModelError, ResumeError
from models.heads.dense import DenseConfig
from models.policies import study as policy_study
from models.policies.contenders import ALL, contenders, equal_parameters
from models.policies.frozen_features import frozen_features
from models.policies.information import by_domain, information
from models.policies.results import PolicyResults
from models.policies.study import Plan, run_policies
from models.progress import SILENT
from models.routing import Routing
from models.routing.policy import SparseConfig
from models.settings import ConfigError
from models.training.recipes import train_config
from models.training.train import train
from models.training.trainer import DivergedError, Trainer
from tests.models.pictures import write_folder

QUICK: dict[str, Any] = {"epochs": 1, "batch": 200}
TIMES = ("seconds",)


def plan(*policies: str, seeds: tuple[int, ...] = (0, 1), data: str = "digits", **more: Any) -> Plan:
    return Plan(data, contenders(policies, {}), seeds, changes=QUICK, **more)


def study(plan: Plan, out: Path, **more: Any) -> PolicyResults:
    return run_policies(plan, out, device="cpu", cache=out.parent / "cache", **more)


def timeless(out: Path) -> dict[str, Any]:
    """Return what policies.json says, without times and dates."""
    document: dict[str, Any] = json.loads((out / "policies.json").read_text())
    del document["environment"]["date"]
    for run in document["runs"]:
        assert run.pop("seconds") > 0
    return document


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of an undisturbed study; do not write into it."""
    out = tmp_path_factory.mktemp("undisturbed") / "study"
    study(plan("top_k", "top_p:mass=0.6"), out)
    return out


# Contenders


def test_by_default_all_take_part_with_as_many_parameters() -> None:
    result = contenders([], {})
    assert [one.label for one in result] == list(ALL)
    counts = equal_parameters(result, 512, 10)
    assert {counts[one.label] for one in result if one.head == "sparse"} == {276_064}
    assert (counts["dense"], counts["soft"]) == (267_786, 271_960)


def test_the_dense_head_is_as_wide_as_all_experts() -> None:
    (dense,) = contenders(["dense"], {"experts": 5, "hidden": 12, "k": 3})
    config = dense.config(64, 10)
    assert isinstance(config, DenseConfig)
    assert config.hidden == 60
    assert config.dropout == 0.1


def test_settings_are_read_and_named() -> None:
    (one,) = contenders(["top_p: mass = 0.60,k=4"], {"experts": 6, "k": 2})
    assert (one.label, one.folder(0)) == ("top_p:mass=0.6,k=4", "top_p-mass-0.6-k-4-seed0")
    config = one.config(64, 10)
    assert isinstance(config, SparseConfig)
    assert (config.policy, config.mass, config.k, config.experts) == ("top_p", 0.6, 4, 6)


def test_a_shared_k_is_no_limit() -> None:
    configs = {one.label: one.config(64, 10) for one in contenders([], {"k": 3})}
    result = {name: config.k for name, config in configs.items() if isinstance(config, SparseConfig)}
    assert result == {"top_k": 3, "capacity": 3, "expert_choice": 3, "top_p": 8, "threshold": 8}


def test_contenders_named_twice_take_part_once_and_stand_in_one_order() -> None:
    names = ["soft", "threshold", "top_k:k=1", "top_k", "threshold:threshold=0.2", "top_k: k=1 "]
    labels = [one.label for one in contenders(names, {})]
    assert labels == ["top_k", "top_k:k=1", "threshold", "threshold:threshold=0.2", "soft"]


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("topk", "unknown policy 'topk'; choose one of top_k, capacity, top_p"),
        ("top_p:mas=1", "unknown setting in policy 'top_p:mas=1': 'mas'; choose one of activation"),
        ("top_p:features=3", "unknown setting"),
        ("top_p:mass", "'top_p:mass' is not written as NAME:SETTING=VALUE,SETTING=VALUE"),
        ("top_p:", "'top_p:' is not written as"),
        ("top_p:mass=0.5,mass=0.6", "with each setting once"),
        ("top_p:mass=2", "mass: Input should be less than or equal to 1"),
        ("top_p:mass=much", "mass: Input should be a valid number"),
        ("top_k:mass=0.5", "policy top_k has no setting mass"),
        ("dense:hidden=3", "the dense head has no policy and takes no settings"),
    ],
)
def test_a_contender_that_cannot_be_is_told_in_one_sentence(spec: str, words: str) -> None:
    with pytest.raises(ConfigError) as refused:
        contenders([spec], {})
    assert words in str(refused.value)
    assert "\n" not in str(refused.value)


def test_policies_of_unequal_size_are_refused() -> None:
    unequal = contenders(["top_k", "top_p:hidden=80", "dense"], {})
    with pytest.raises(ConfigError, match=r"top_p:hidden=80 has .* parameters and top_k .* more than 1% apart"):
        equal_parameters(unequal, 512, 10)


# Information


def brute_force(joint: NDArray[np.float64]) -> float:
    p = joint / joint.sum()
    total = 0.0
    for a, b in zip(*np.nonzero(p), strict=True):
        total += p[a, b] * np.log(p[a, b] / (p[a].sum() * p[:, b].sum()))
    return total


def routing(rows: list[int], experts: list[int], count: int, width: int) -> Routing:
    return Routing(torch.tensor(rows), torch.tensor(experts), torch.ones(len(rows)), torch.zeros(count, width))


@settings(max_examples=30, deadline=None)
@given(st.data())
def test_information_is_that_of_counting(data: st.DataObject) -> None:
    width, domain_of_class = 4, (0, 1, 1, 0, 2)
    labels = data.draw(st.lists(st.integers(0, 4), min_size=3, max_size=30))
    chosen = [data.draw(st.sets(st.integers(0, width - 1), max_size=3)) for _ in labels]
    chosen[0] |= {0}
    rows, experts = zip(*((row, e) for row, ids in enumerate(chosen) for e in sorted(ids)), strict=True)
    result = information(
        routing(list(rows), list(experts), len(labels), width), torch.tensor(labels), 5, domain_of_class
    )
    classes, domains = np.zeros((5, width)), np.zeros((3, width))
    for row, expert in zip(rows, experts, strict=True):
        classes[labels[row], expert] += 1
        domains[domain_of_class[labels[row]], expert] += 1
    for name, joint in (("class", classes), ("domain", domains)):
        share = joint.sum(1) / joint.sum()
        assert result[f"{name}_information"] == pytest.approx(brute_force(joint), abs=1e-12)
        assert result[f"{name}_entropy"] == pytest.approx(-sum(p * np.log(p) for p in share if p), abs=1e-12)
    assert torch.equal(by_domain(torch.tensor(classes), domain_of_class), torch.tensor(domains))


def test_chance_is_what_unrelated_experts_would_tell() -> None:
    """Plug-in information of independent things is about (C - 1)(E - 1) / 2M nats (Miller 1955), and so is chance."""
    generator = np.random.default_rng(0)
    experts, labels = generator.integers(0, 8, 1000), torch.tensor(generator.integers(0, 10, 1000))
    unrelated = routing(list(range(1000)), experts.tolist(), 1000, 8)
    result = information(unrelated, labels, 10, [0] * 5 + [1] * 5)
    assert result["class_chance"] == pytest.approx(9 * 7 / 2000, rel=0.15)
    assert result["domain_chance"] == pytest.approx(7 / 2000, rel=0.5)
    assert result["class_information"] == pytest.approx(result["class_chance"], rel=0.4)
    telling = information(routing(list(range(1000)), (labels % 8).tolist(), 1000, 8), labels, 10, ())
    assert telling["class_information"] > 20 * telling["class_chance"]
    assert telling["domain_information"] is None


def test_information_is_drawn_by_seed_and_is_none_without_routing() -> None:
    one = routing([0, 1, 2, 3, 3], [0, 1, 0, 2, 1], 4, 3)
    labels = torch.tensor([0, 1, 1, 0])
    assert information(one, labels, 2, (), seed=3) == information(one, labels, 2, (), seed=3)
    assert set(information(None, labels, 2, (0, 1)).values()) == {None}


# Studies


def numpy_top_p(folder: Path, images: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Return which experts (N, E) serve images, in float64 from the files of a checkpoint alone."""
    weights = {name: value.astype(np.float64) for name, value in load_file(folder / "model.safetensors").items()}
    config = json.loads((folder / "config.json").read_text())
    (mean,), (std,) = config["input"]["mean"], config["input"]["std"]
    x = ((images / 255 - mean) / std).reshape(len(images), -1)
    g = x @ weights["head.gate.weight"].T + weights["head.gate.bias"]
    s = (g - g.mean(1, keepdims=True)) / g.std(1, ddof=1, keepdims=True)
    q = np.exp(s) / np.exp(s).sum(1, keepdims=True)
    chosen = np.zeros(q.shape, dtype=bool)
    for row, share in enumerate(q):
        total = 0.0
        for expert in np.argsort(-share, kind="stable"):
            if total >= config["model"]["head"]["mass"]:
                break
            chosen[row, expert] = True
            total += share[expert]
    return chosen


def test_a_run_tells_what_its_checkpoint_does(finished: Path) -> None:
    document = timeless(finished)
    data = load_data("digits")
    (run,) = (run for run in document["runs"] if (run["policy"], run["seed"]) == ("top_p:mass=0.6", 1))
    chosen = numpy_top_p(finished / run["folder"], data.test.images.numpy())
    per_row, joint = chosen.sum(1), np.zeros((10, 8))
    for label, experts in zip(data.test.labels.tolist(), chosen, strict=True):
        joint[label] += experts
    assert run["experts_per_row_mean"] == pytest.approx(per_row.mean())
    assert run["experts_per_row_std"] == pytest.approx(per_row.std())
    assert run["load"] == pytest.approx((joint.sum(0) / joint.sum()).tolist())
    assert run["load_cv"] == pytest.approx(joint.sum(0).std() / joint.sum(0).mean())
    assert np.array(run["class_load"]) == pytest.approx(joint / joint.sum(1, keepdims=True))
    assert run["class_information"] == pytest.approx(brute_force(joint))
    assert 0 < run["class_chance"] < run["class_information"] < run["class_entropy"]
    assert run["flops_per_row"] == pytest.approx(2 * 64 * 8 + (2 * (64 * 64 + 64 * 10) + 2 * 10) * per_row.mean())
    assert run["dropped"] == 0
    assert run["domain_information"] is None


def test_the_file_is_as_agreed(finished: Path) -> None:
    document = timeless(finished)
    assert (document["format"], document["kind"]) == (1, "policies")
    assert (document["data"], document["preset"], document["epochs"]) == ("digits", "demo", 1)
    assert (document["domains"], document["failed"], document["latency"]) == (None, [], [])
    assert document["parameters"] == {"top_k": 39_520, "top_p:mass=0.6": 39_520}
    order = [(run["seed"], run["policy"]) for run in document["runs"]]
    assert order == [(0, "top_k"), (0, "top_p:mass=0.6"), (1, "top_k"), (1, "top_p:mass=0.6")]
    for run in document["runs"]:
        metrics = checkpoint.load(finished / run["folder"]).metrics
        assert run["test_accuracy"] == metrics["test_accuracy"]
        assert run["val_accuracy"] == metrics["history"][0]["val_accuracy"]
        assert run["parameters"] == 39_520


def test_policies_start_and_see_images_alike(finished: Path) -> None:
    configs = {
        (run["policy"], run["seed"]): checkpoint.read_config(finished / run["folder"]).training
        for run in timeless(finished)["runs"]
    }
    for name in ("seed", "split_seed", "epochs", "lr", "batch"):
        assert configs["top_k", 1][name] == configs["top_p:mass=0.6", 1][name]
    assert configs["top_k", 0]["seed"] != configs["top_k", 1]["seed"]


@pytest.mark.parametrize("epochs_before", [0, 2, 3])
def test_a_killed_study_ends_with_the_same_file(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, epochs_before: int
) -> None:
    class Killed(BaseException):
        pass

    def deadly(self: Trainer) -> None:
        if next(epochs) == epochs_before:
            raise Killed
        real(self)

    epochs, real, out = iter(range(9)), Trainer.run_epoch, tmp_path / "study"
    monkeypatch.setattr(Trainer, "run_epoch", deadly)
    with pytest.raises(Killed):
        study(plan("top_k", "top_p:mass=0.6"), out)
    if epochs_before:
        assert len(timeless(out)["runs"]) == epochs_before
    monkeypatch.setattr(Trainer, "run_epoch", real)
    trained = count_trainings(monkeypatch)
    study(plan("top_k", "top_p:mass=0.6"), out)
    assert len(trained) == 4 - epochs_before
    assert timeless(out) == timeless(finished)


def count_trainings(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Return a list to which the folder of every training that is called for from now on is added."""
    called: list[Path] = []

    def counted(config: Any, out: Path, **more: Any) -> dict[str, Any]:
        called.append(out)
        return train(config, out, **more)

    monkeypatch.setattr(policy_study, "train", counted)
    return called


def test_policies_and_seeds_may_be_added(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "study"
    study(plan("top_k", seeds=(1,)), out)
    trained = count_trainings(monkeypatch)
    study(plan("dense", "top_k", seeds=(0, 1)), out)
    assert [path.name for path in trained] == ["top_k-seed0", "dense-seed0", "dense-seed1"]
    runs = timeless(out)["runs"]
    assert [(run["seed"], run["policy"]) for run in runs] == [(0, "top_k"), (0, "dense"), (1, "top_k"), (1, "dense")]
    assert runs[1]["experts_per_row_mean"] is None
    assert runs[1]["flops_per_row"] == 2 * (64 * 512 + 512 * 10)


@pytest.fixture
def one_run(tmp_path: Path) -> Iterator[Path]:
    out = tmp_path / "one"
    study(plan("top_k", seeds=(0,)), out)
    yield out
    assert [run["policy"] for run in timeless(out)["runs"]] == ["top_k"]


def test_another_study_in_the_same_folder_is_refused(one_run: Path, tmp_path: Path) -> None:
    pictures = write_folder(tmp_path / "pictures", train=20)
    others = [
        (Plan("digits", contenders([], {}), [0], changes={"epochs": 2, "batch": 200}), r"epochs \(1, now 2\)"),
        (
            Plan("digits", contenders([], {"k": 1}), [0], shared={"k": 1}, changes=QUICK),
            r"settings.head.k \(None, now 1\)",
        ),
        (Plan("digits", contenders([], {}), [0], changes={**QUICK, "lr": 0.5}), r"settings.lr \(0.2, now 0.5\)"),
        (Plan(str(pictures), contenders([], {}), [0], "demo", changes=QUICK), r"data \(digits, now pictures\)"),
    ]
    for other, words in others:
        with pytest.raises(ResumeError, match=f"policies.json holds a study with another {words}; use another --out"):
            study(other, one_run)


OF_ANOTHER_VERSION = (
    '{"format": 1, "kind": "policies", "data": "digits", "preset": "demo", "epochs": 1, "runs": [{"policy": "gone", '
    '"seed": 0, "head": "sparse", "folder": "gone-seed0", "test_accuracy": 0.5}]}'
)


@pytest.mark.parametrize(
    "content", ["", "{}", '{"kind": "training", "data": 1}', "[1]", '{"kind": "policies"}', OF_ANOTHER_VERSION]
)
def test_a_file_that_is_no_study_is_left_alone(tmp_path: Path, content: str) -> None:
    (tmp_path / "policies.json").write_text(content)
    with pytest.raises(ResumeError, match="is no policy study that can be continued; use another --out"):
        study(plan("top_k"), tmp_path)
    assert (tmp_path / "policies.json").read_text() == content


def test_a_run_that_fails_stops_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(config: Any, out: Path, **more: Any) -> dict[str, Any]:
        if config.head == "soft":
            raise DivergedError("the loss became nan")
        return train(config, out, **more)

    monkeypatch.setattr(policy_study, "train", failing)
    results = study(plan("top_k", "soft", seeds=(0, 1)), tmp_path / "study")
    assert [(run.policy, run.seed) for run in results.runs] == [("top_k", 0), ("top_k", 1)]
    assert [(one["policy"], one["seed"]) for one in timeless(tmp_path / "study")["failed"]] == [
        ("soft", 0),
        ("soft", 1),
    ]
    monkeypatch.undo()
    assert study(plan("soft", seeds=(0,)), tmp_path / "study").failed == []
    assert len(timeless(tmp_path / "study")["runs"]) == 3


def test_what_would_fail_every_run_is_refused_at_once(tmp_path: Path) -> None:
    for other in (plan("top_k", data="mnist"), plan("top_k", preset="best"), plan("top_k", "capacity:hidden=8")):
        with pytest.raises(ModelError):
            study(other, tmp_path / "study")
    assert not (tmp_path / "study" / "policies.json").exists()


def test_a_mixture_tells_of_its_domains(tmp_path: Path) -> None:
    pictures = write_folder(tmp_path / "pictures", train=60, test=40)
    out = tmp_path / "study"
    study(plan("top_k", data=f"digits+{pictures}", seeds=(0,), preset="demo"), out)
    document = timeless(out)
    (run,) = document["runs"]
    assert document["domains"] == ["digits", "pictures"]
    assert run["domain_information"] <= run["class_information"] + 1e-9  # the class tells the domain
    assert 0 <= run["domain_chance"] < run["domain_entropy"] < np.log(2)


# Frozen features


@pytest.fixture(scope="module")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a model with a trained backbone; do not write into it."""
    out = tmp_path_factory.mktemp("backbone") / "digits"
    config = train_config("digits", "dense", "quick", epochs=1, backbone={"name": "small", "width": 16}, val_share=0.2)
    train(config, out, device="cpu")
    return out


def test_frozen_features_are_those_of_the_backbone(backbone: Path, tmp_path: Path) -> None:
    source, data = checkpoint.load(backbone), load_data("digits")
    kept = tmp_path / "features.safetensors"
    result = frozen_features(source, data, kept, pick_device("cpu"), SILENT)
    for part in ("train", "val", "test"):
        with torch.inference_mode():
            expected = source.model.features(getattr(data, part).images)
        assert getattr(result, part).images[:, :, 0, 0] == pytest.approx(expected.numpy(), abs=1e-5)
        assert torch.equal(getattr(result, part).labels, getattr(data, part).labels)
    assert result.input_shape == (16, 1, 1)
    seen = result.train.images[:, :, 0, 0].double().numpy()
    assert result.mean == pytest.approx(seen.mean(0))
    assert result.std == pytest.approx(np.where(seen.std(0) > 0, seen.std(0), 1))
    again = frozen_features(source, data, kept, pick_device("cpu"), SILENT)
    assert torch.equal(again.test.images, result.test.images)


def test_kept_features_of_other_images_are_not_used(backbone: Path, tmp_path: Path) -> None:
    source, kept = checkpoint.load(backbone), tmp_path / "features.safetensors"
    first = frozen_features(source, load_data("digits"), kept, pick_device("cpu"), SILENT)
    other = frozen_features(source, load_data("digits", split_seed=7), kept, pick_device("cpu"), SILENT)
    assert not torch.equal(first.train.images, other.train.images)
    kept.write_bytes(kept.read_bytes()[:100])
    assert torch.equal(
        frozen_features(source, load_data("digits", split_seed=7), kept, pick_device("cpu"), SILENT).train.images,
        other.train.images,
    )


def test_heads_are_trained_alone_on_frozen_features(backbone: Path, tmp_path: Path) -> None:
    out, source = tmp_path / "study", checkpoint.load(backbone)
    study(Plan("digits", contenders(["top_k", "dense"], {}), [0], source=source, changes=QUICK), out)
    document = timeless(out)
    assert document["preset"] == "demo on frozen features of digits"
    trained = checkpoint.load(out / "top_k-seed0")
    assert trained.config.model.backbone.name == "identity"
    assert trained.config.model.head.features == 16
    assert trained.config.training["val_share"] == 0.2
    assert document["settings"]["val_share"] == 0.2
    test = load_data("digits", val_share=0.2).test
    mean, std = torch.tensor(trained.config.input.mean), torch.tensor(trained.config.input.std)
    with torch.inference_mode():
        logits = trained.model.head((source.model.features(test.images) - mean) / std)
    accuracy = (logits.argmax(1) == test.labels).double().mean().item()
    assert document["runs"][0]["test_accuracy"] == pytest.approx(accuracy)


def test_features_of_other_images_or_a_whole_preset_are_refused(backbone: Path, tmp_path: Path) -> None:
    source = checkpoint.load(backbone)
    pictures = write_folder(tmp_path / "pictures", train=20)
    with pytest.raises(DataError, match=r"takes images of shape \(1, 8, 8\), and those of pictures have \(3, 32, 32\)"):
        study(plan("top_k", data=str(pictures), source=source), tmp_path / "study")
    with pytest.raises(ConfigError, match=r"preset quick trains a backbone.* leave --preset out or choose demo"):
        study(plan("top_k", preset="quick", source=source), tmp_path / "study")
