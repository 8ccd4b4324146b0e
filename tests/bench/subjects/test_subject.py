"""Subjects, rows and suites."""

import pytest
import torch

from bench.errors import BenchError
from bench.subjects.subject import feature_rows, load_subjects, preset_subjects, working_set
from bench.suites.suite import SUITES, chosen_forms, groups, suite_named
from bench.timing.precision import resolve_dtype
from models.heads import cost
from tests.bench.checkpoints import sparse_checkpoint

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def paper():
    return preset_subjects()


def test_the_presets_are_the_papers_heads(paper):
    assert [cost.parameters(subject.head.config) for subject in paper] == [267_786, 271_960, 276_064]
    assert {subject.weights for subject in paper} == {"initialised"}


def test_the_backbone_counts_as_published(paper):
    """ResNet-18 for CIFAR is 0.56 G multiply-adds (arXiv 2601.15021's stem, torchvision's blocks)."""
    assert paper[0].backbone_flops == pytest.approx(2 * 0.556e9, rel=0.01)


def test_every_suite_yields_each_case_once(paper):
    for suite in SUITES.values():
        ids = [case.id for group in groups(suite, paper, chosen_forms(()), CPU, [torch.float32]) for case in group]
        assert len(ids) == len(set(ids)) > 0


def test_a_group_shares_its_shape(paper):
    for group in groups(suite_named("paper"), paper, ["eager", "loop", "triton"], CPU, [torch.float32]):
        assert len({case.shape for case in group}) == 1
        if group[0].shape.part == "classifier":
            assert {case.form for case in group} == {"eager"}


def test_rows_are_real_where_there_are_real_ones():
    features = torch.arange(12.0).view(4, 3)
    known = {tuple(row) for row in features.tolist()}
    assert {tuple(row) for row in feature_rows(features, 3, 4).tolist()} == known
    many = feature_rows(features, 3, 100)
    assert many.shape == (100, 3)
    assert {tuple(row) for row in many.tolist()} == known
    assert feature_rows(None, 3, 5).shape == (5, 3)
    assert feature_rows(features, 3, 0).shape == (0, 3)
    assert torch.equal(feature_rows(None, 3, 5, seed=7), feature_rows(None, 3, 5, seed=7))
    assert not torch.equal(feature_rows(None, 3, 5, seed=7), feature_rows(None, 3, 5, seed=8))


def test_the_working_set_covers_the_widest_values(paper):
    for subject in paper:
        config = subject.head.config
        hidden = config.hidden * getattr(config, "experts", 1)
        assert working_set(subject.head, 1000, torch.float32) > 1000 * 4 * (config.features + 2 * hidden)


@pytest.mark.parametrize(
    ("call", "names"),
    [
        (lambda: suite_named("x"), "demo, paper, batch"),
        (lambda: resolve_dtype("fp8"), "float32, float16, bfloat16"),
        (lambda: chosen_forms(["jax"]), "loop, eager"),
    ],
)
def test_an_unknown_name_lists_the_known_ones(call, names):
    with pytest.raises(BenchError, match=names):
        call()


def test_two_checkpoints_of_one_name_are_refused(trained, tmp_path):
    (tmp_path / trained["dense"].name).symlink_to(trained["dense"])
    with pytest.raises(BenchError, match="two checkpoints are named"):
        load_subjects([trained["dense"], trained["dense"]])


def test_a_checkpoint_without_an_accuracy_is_a_subject_all_the_same(tmp_path):
    (subject,) = load_subjects([sparse_checkpoint(tmp_path / "bare")])
    assert subject.test_accuracy is None


def test_a_trained_subject_brings_its_features(trained):
    (subject,) = load_subjects([trained["sparse"]])
    assert subject.weights == "trained"
    assert subject.features.shape[1] == subject.head.config.features
    assert len(subject.weights_sha256) == 64
    assert subject.on(CPU, torch.float32) is subject.on(CPU, torch.float32)
    half = subject.on(CPU, torch.float16)
    assert half is not subject.model
    assert {value.dtype for value in half.parameters()} == {torch.float16}
    assert {value.dtype for value in subject.model.parameters()} == {torch.float32}
