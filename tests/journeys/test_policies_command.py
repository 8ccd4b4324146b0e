"""`moegap policies`: policies trained, measured and compared; interrupted and continued; what it refuses."""

import json
from functools import partial

import pytest

from models.policies import study as policy_study
from models.training.trainer import DivergedError, Trainer
from reports.reading.files import read
from reports.reading.inputs import gather
from reports.training.policies_section import answer

SMALL = (
    *("--policy", "top_p", "--policy", "top_k", "--seeds", "2", "--epochs", "1", "--batch", "200"),
    "--device",
    "cpu",
)
SHORT = ("--form", "loop", "--form", "grouped_mm", "--form", "eager", "--seconds", "0.01", "--rows", "32")


@pytest.fixture
def moegap(in_process):
    """Run `moegap policies` here and return its status and what it said."""
    return partial(in_process, "policies")


def document(out):
    return json.loads((out / "policies.json").read_text())


def test_policies_are_compared_after_an_interruption(moegap, monkeypatch, tmp_path):
    def interrupted(self):
        if next(epochs) == 3:
            raise KeyboardInterrupt
        real(self)

    epochs, real, out = iter(range(9)), Trainer.run_epoch, tmp_path / "study"
    monkeypatch.setattr(Trainer, "run_epoch", interrupted)
    status, _, error = moegap(*SMALL, *SHORT, "--out", out)
    assert status == 130
    assert f"stopped: {out} keeps what is finished; run the same command again to continue" in error
    kept = document(out)["runs"]
    assert len(kept) == 3
    monkeypatch.setattr(Trainer, "run_epoch", real)

    status, said, _ = moegap(*SMALL, *SHORT, "--out", out)
    assert not status
    assert "run 1 of 1" in said
    assert "parameters of the head: top_k 39,520, top_p 39,520" in said
    assert f"moegap report {out / 'policies.json'}" in said
    found = document(out)
    assert [(run["policy"], run["seed"]) for run in found["runs"]] == [
        ("top_k", 0),
        ("top_p", 0),
        ("top_k", 1),
        ("top_p", 1),
    ]
    assert found["runs"][:3] == kept
    lines = [line.split() for line in said.splitlines()]
    assert {line[0]: line[1] for line in lines if line and line[0] in ("top_k", "top_p")} == {
        "top_k": "2",
        "top_p": "2",
    }
    assert {(part["policy"], part["form"], part["rows"]) for part in found["latency"]} == {
        (policy, form, 32) for policy in ("top_k", "top_p") for form in ("loop", "grouped_mm", "eager")
    }
    for part in found["latency"]:
        assert (part["status"] == "measured") == bool(part["seconds"]) == (not part["reason"])

    status, _, _ = moegap(*SMALL, *SHORT, "--out", out)
    assert not status
    assert document(out) == found, "a finished study is neither trained nor measured again"
    (read_back,) = gather(read([out / "policies.json"])).studies.policies
    assert "dynamic" in answer(read_back).lower()


def test_a_failed_training_is_named_and_the_rest_goes_on(moegap, monkeypatch, tmp_path):
    def failing(config, out, **more):
        if config.head_changes["policy"] == "top_p" and config.seed == 0:
            raise DivergedError("the loss became nan in epoch 1")
        return real(config, out, **more)

    real = policy_study.train
    monkeypatch.setattr(policy_study, "train", failing)
    status, said, complaint = moegap(*SMALL, "--no-latency", "--out", tmp_path)
    assert status == 1
    assert "1 of 4 trainings failed, first top_p with seed 0: the loss became nan in epoch 1" in complaint
    assert "top_p, seed 0 failed: the loss became nan in epoch 1" in said
    assert len(document(tmp_path)["runs"]) == 3
    assert document(tmp_path)["latency"] == []


@pytest.mark.parametrize(
    ("line", "named"),
    [
        ("--policy topk", "unknown policy 'topk'"),
        ("--policy top_p:mass=7", "mass"),
        ("--policy top_k --policy capacity:hidden=9", "equal parameters"),
        ("--data digits+nowhere", "'nowhere' is none"),
        ("--data digits+digits", "name each once"),
        ("--preset best", "unknown preset 'best'"),
        ("--features nowhere", "no checkpoint folder nowhere"),
        ("--form jax", "unknown form 'jax'"),
        ("--epochs 0", "epochs"),
        ("--seeds 0", "seeds"),
        ("--k 9", "k = 9 is more than experts = 8"),
        ("--device tpu", "tpu"),
        ("--out file", "file"),
    ],
)
def test_one_sentence_and_a_status(moegap, monkeypatch, tmp_path, line, named):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("not a folder")
    status, _, said = moegap(*line.split())
    assert status not in (0, None)
    assert said.startswith("moegap: ")
    assert said.count("\n") == 1, said
    assert named in said
    assert sorted(path.name for path in tmp_path.rglob("*.json")) == []
