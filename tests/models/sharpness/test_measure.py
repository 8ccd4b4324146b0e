"""`measure_sharpness`: what it leaves, that it goes on where it stopped, and what it refuses."""

import json
import math

import pytest
import torch

from models.classifier import checkpoint
from models.config import InputConfig
from models.data.images import DataError
from models.errors import ResumeError
from models.progress import Progress
from models.settings import ConfigError
from models.sharpness import measure as sharpness
from models.sharpness import pieces as sharpness_pieces
from models.sharpness.config import sharpness_config
from models.sharpness.measure import check_names, measure_sharpness
from models.sharpness.pieces import SubsetSharpness, UnstableError
from models.sharpness.trace import SIGMAS
from models.training.recipes import train_config
from models.training.train import train
from tests.models import tiny

FAST = {"images": 40, "probes": 12, "most_steps": 20, "least_steps": 6, "surface": 3, "tolerance": 0.1}


def without_times(result):
    """What must not change from run to run."""
    result = result.model_dump(mode="json")
    result.pop("environment")
    for part in result["parts"]:
        for block in part["blocks"]:
            block.pop("seconds")
    return result


@pytest.fixture(scope="module")
def sparse(tmp_path_factory):
    """A trained sparse head with few experts, since every expert is a block; do not write into it."""
    out = tmp_path_factory.mktemp("trained") / "sparse"
    train(train_config("digits", "sparse", epochs=2, head_changes={"experts": 3, "hidden": 16}), out, device="cpu")
    return out


@pytest.fixture(scope="module")
def unbroken(sparse, tmp_path_factory):
    out = tmp_path_factory.mktemp("unbroken")
    return measure_sharpness(sparse, out, sharpness_config(**FAST), data="digits", device="cpu"), out


def test_everything_asked_for_is_found(unbroken):
    result, out = unbroken
    assert result.kind == "sharpness"
    assert [part.subset for part in result.parts] == ["train", "test"]
    assert sorted(path.name for path in out.iterdir()) == ["sparse.json"]
    for part in result.parts:
        assert part.images == 40
        assert part.agreement <= 1e-5
        names = [block.block for block in part.blocks]
        assert names == ["all", "gate", "experts", *(f"expert {e}" for e in range(3))]
        whole = part.blocks[0]
        assert whole.gradient_norm == pytest.approx(part.gradient_norm)
        assert whole.parameters == sum(block.parameters for block in part.blocks[1:3])
        for block in part.blocks:
            values = [pair.value for pair in block.eigenvalues]
            assert values == sorted(values, reverse=True)
            assert len(values) == 5
            assert all(pair.residual >= 0 for pair in block.eigenvalues)
        traces = {block.block: block.trace for block in part.blocks}
        assert traces["all"].value == pytest.approx(traces["gate"].value + traces["experts"].value)
        lines = [(line.direction, line.range) for line in part.lines]
        directions = ("top eigenvector", "random 0", "random 1")
        assert lines == [(direction, extent) for direction in directions for extent in ("small", "paper")]
        for line in part.lines:
            assert len(line.alphas) == len(line.losses) == len(line.rerouted)
            if line.range == "small":
                assert line.relative_error < 0.02
                assert line.second_difference == pytest.approx(line.curvature, rel=0.02)
            else:
                assert (len(line.alphas), line.alphas[0], line.alphas[-1]) == (21, -0.5, 0.5)
                assert line.losses[10] == pytest.approx(part.loss, rel=1e-6)
        assert len(part.surface.losses) == 3
        assert part.surface.losses[1][1] == pytest.approx(part.loss, rel=1e-6)
        grid, heights = part.density.grid, part.density.density
        assert math.isclose(sum(heights) * (grid[1] - grid[0]), 1, abs_tol=0.02)
        for rises in (part.sam, part.adaptive):
            assert [rise.loss_increase for rise in rises] == sorted(rise.loss_increase for rise in rises)
            assert rises[0].loss_increase > 0
    assert any("noise layer" in note for note in result.notes)


@pytest.mark.parametrize("stop", [1, 23])
def test_a_stopped_measurement_goes_on_to_the_same_numbers(sparse, tmp_path, monkeypatch, unbroken, stop):
    calls = []
    real = SubsetSharpness.run

    def killed(self, name):
        if f"{self.sample.subset}/{name}" not in self.finished.pieces:
            calls.append(name)
            if len(calls) == stop:
                raise KeyboardInterrupt
        return real(self, name)

    config = sharpness_config(**FAST)
    monkeypatch.setattr(SubsetSharpness, "run", killed)
    with pytest.raises(KeyboardInterrupt):
        measure_sharpness(sparse, tmp_path, config, data="digits", device="cpu")
    assert not (tmp_path / "sparse.json").exists()
    assert (tmp_path / "sparse.work").is_dir() == (stop > 1)
    kept = set() if stop == 1 else set(json.loads((tmp_path / "sparse.work" / "pieces.json").read_text())["pieces"])
    again = []

    def counted(self, name):
        if f"{self.sample.subset}/{name}" not in self.finished.pieces:
            again.append(f"{self.sample.subset}/{name}")
        return real(self, name)

    monkeypatch.setattr(SubsetSharpness, "run", counted)
    result = measure_sharpness(sparse, tmp_path, config, data="digits", device="cpu")
    assert without_times(result) == without_times(unbroken[0])
    assert not kept & set(again)
    assert not (tmp_path / "sparse.work").exists()


def test_a_finished_measurement_is_not_repeated_and_never_overwritten(sparse, unbroken, monkeypatch):
    result, out = unbroken
    monkeypatch.setattr(sharpness, "_measure", lambda *_: pytest.fail("measured again"))
    config = sharpness_config(**FAST)
    assert measure_sharpness(sparse, out, config, data="digits", device="cpu") == result
    with pytest.raises(ResumeError, match=r"another seed \(0, now 1\)"):
        measure_sharpness(sparse, out, sharpness_config(**FAST, seed=1), data="digits", device="cpu")
    with pytest.raises(ResumeError, match="another data"):
        measure_sharpness(sparse, out, config, device="cpu")


def test_the_seed_decides_images_and_random_vectors(sparse, tmp_path, unbroken):
    some = {**FAST, "subsets": ("test",), "blocks": ("all", "gate"), "surface": 0}
    same = measure_sharpness(sparse, tmp_path / "0", sharpness_config(**some), data="digits", device="cpu")
    other = measure_sharpness(sparse, tmp_path / "1", sharpness_config(**some, seed=1), data="digits", device="cpu")
    whole = {block.block: block for block in unbroken[0].parts[1].blocks}
    assert same.parts[0].blocks[1].trace == whole["gate"].trace
    assert same.parts[0].loss != other.parts[0].loss
    assert [block.block for block in same.parts[0].blocks] == ["all", "gate"]
    assert same.parts[0].surface is None


def test_without_data_the_head_is_measured_on_the_features_kept(trained, tmp_path):
    config = sharpness_config(**{**FAST, "images": 10**6, "blocks": ("all", "expert 2"), "lines": False, "surface": 0})
    kept = measure_sharpness(trained["soft"], tmp_path / "kept", config, device="cpu")
    data = measure_sharpness(trained["soft"], tmp_path / "data", config, data="digits", device="cpu")
    (part,) = kept.parts
    loaded = checkpoint.load(trained["soft"])
    assert part.images == len(loaded.labels)
    on_test = data.parts[1]
    assert part.images == on_test.images
    assert part.loss == pytest.approx(on_test.loss, rel=1e-6)
    for ours, theirs in zip(part.blocks, on_test.blocks, strict=True):
        assert ours.eigenvalues[0].value == pytest.approx(theirs.eigenvalues[0].value, rel=1e-2)
    assert any("head alone" in note for note in kept.notes)


@pytest.mark.parametrize("name", ["dense", "capacity"])
def test_numbers_of_a_tiny_checkpoint_are_those_of_brute_force(tmp_path, name):
    model, (x, y) = tiny.classifier(name).float(), tiny.rows_of(tiny.classifier(name))
    checkpoint.save(
        tmp_path / "tiny",
        model,
        images=InputConfig(shape=(1, 1, 3), mean=(0.5,), std=(0.25,)),
        data="made up",
        classes=("a", "b", "c"),
        training={},
        metrics={},
        environment={},
        features=x,
        labels=y,
    )
    exact = tiny.brute_force(model.double(), x=x.float().double())
    config = sharpness_config(dtype="float64")
    (part,) = measure_sharpness(tmp_path / "tiny", tmp_path / "out", config, device="cpu").parts
    for block in part.blocks:
        places = tiny.within_all(model, block.block)
        wanted = torch.linalg.eigvalsh(exact[places][:, places]).flip(0)[:5].tolist()
        assert [pair.value for pair in block.eigenvalues] == pytest.approx(wanted, abs=1e-10 * wanted[0])
        trace = exact[places][:, places].trace().item()
        assert abs(block.trace.value - trace) <= 2 * SIGMAS * block.trace.standard_error
    assert part.lines[0].relative_error < 1e-3


def test_a_model_that_gives_two_answers_is_refused(trained, tmp_path, monkeypatch):
    real = sharpness_pieces.Network

    class Noisy(real):
        def routed(self, x):
            return super().routed(x + 0.01 * torch.randn_like(x))

    monkeypatch.setattr(sharpness_pieces, "Network", Noisy)
    with pytest.raises(UnstableError, match="two evaluations of the train images differ"):
        measure_sharpness(trained["dense"], tmp_path, sharpness_config(**FAST), data="digits", device="cpu")


def test_dropout_noise_and_batch_statistics_are_off_even_in_a_model_left_in_training(sparse, tmp_path, monkeypatch):
    load = checkpoint.load

    def training(path):
        loaded = load(path)
        loaded.model.train()
        return loaded

    config = sharpness_config(**{**FAST, "blocks": ("all",), "lines": False, "surface": 0, "worst_case": False})
    plain = measure_sharpness(sparse, tmp_path / "a", config, data="digits", device="cpu")
    monkeypatch.setattr(checkpoint, "load", training)
    left = measure_sharpness(sparse, tmp_path / "b", config, data="digits", device="cpu")
    assert without_times(left) == without_times(plain)


def test_bad_input_is_told_in_a_sentence(trained, sparse, tmp_path):
    def measure(kind="sparse", data="digits", **settings):
        measure_sharpness(trained[kind], tmp_path, sharpness_config(**{**FAST, **settings}), data=data, device="cpu")

    with pytest.raises(ConfigError, match="unknown block 'head'; choose one of all, gate"):
        measure(blocks=("head",))
    with pytest.raises(ConfigError, match="images"):
        measure(images=0)
    with pytest.raises(ConfigError, match="probes"):
        measure(probes=1)
    with pytest.raises(ConfigError, match="subsets"):
        measure(subsets=("val",))
    with pytest.raises(ConfigError, match="dtype"):
        measure(dtype="float16")
    with pytest.raises(ConfigError, match="too few for 20 eigenvalues"):
        measure(eigenvalues=20, most_steps=12)
    with pytest.raises(DataError, match="unknown data"):
        measure(data="nowhere")
    with pytest.raises(DataError, match="test images only"):
        measure(data=None, subsets=("train",))
    with pytest.raises(ResumeError, match="two of the checkpoints are called sparse"):
        check_names([sparse, sparse])
    (tmp_path / "soft.json").write_text("[]")
    with pytest.raises(ResumeError, match="no sharpness measurement"):
        measure("soft")
    (tmp_path / "dense.work").mkdir()
    (tmp_path / "dense.work" / "pieces.json").write_text("{")
    with pytest.raises(ResumeError, match="cannot be read"):
        measure("dense")
    (tmp_path / "dense.work" / "pieces.json").write_text('{"about": {"seed": 3}, "pieces": {}}')
    with pytest.raises(ResumeError, match="unfinished measurement with another"):
        measure("dense")


def test_images_of_another_kind_are_refused(trained, tmp_path):
    from tests.models.pictures import write_folder

    pictures = write_folder(tmp_path / "pictures")
    with pytest.raises(DataError, match="3 x 32 x 32, but"):
        measure_sharpness(trained["dense"], tmp_path, sharpness_config(), data=str(pictures), cache=tmp_path / "cache")


def test_a_model_without_a_finite_loss_is_refused(trained, tmp_path, monkeypatch):
    load = checkpoint.load

    def broken(path):
        loaded = load(path)
        loaded.model.head.b2.data.fill_(math.nan)
        return loaded

    monkeypatch.setattr(checkpoint, "load", broken)
    with pytest.raises(UnstableError, match="loss of the train images is nan"):
        measure_sharpness(trained["dense"], tmp_path, sharpness_config(**FAST), data="digits", device="cpu")


def test_progress_tells_what_was_found_and_how_long_the_rest_takes(trained, tmp_path):
    class Lines(Progress):
        def __init__(self):
            super().__init__()
            self.lines = []

        def say(self, line):
            self.lines.append(line)

    progress = Lines()
    config = sharpness_config(**{**FAST, "blocks": ("all", "head"), "surface": 0})
    measure_sharpness(trained["dense"], tmp_path, config, data="digits", device="cpu", progress=progress)
    assert progress.lines[0].startswith("dense, train: loss ")
    assert all("left" in line for line in progress.lines[:-1])
    assert any("largest eigenvalue" in line for line in progress.lines)
    assert str(tmp_path / "dense.json") in progress.lines[-1]


@pytest.mark.gpu
def test_a_gpu_finds_the_same(sparse, tmp_path):
    config = sharpness_config(**{**FAST, "lines": False})
    ours, theirs = (
        measure_sharpness(sparse, tmp_path / device, config, data="digits", device=device) for device in ("cpu", "cuda")
    )
    for cpu, cuda in zip(ours.parts, theirs.parts, strict=True):
        assert cuda.loss == pytest.approx(cpu.loss, rel=1e-4)
        for ours_block, theirs_block in zip(cpu.blocks, cuda.blocks, strict=True):
            first, second = (block.eigenvalues[0].value for block in (ours_block, theirs_block))
            assert second == pytest.approx(first, rel=0.05)
