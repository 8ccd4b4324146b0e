"""`moegap sharpness`: from a trained folder to numbers and a picture, through a kill."""

import json
import sys

import pytest

from bench import cli
from models.sharpness.pieces import SubsetSharpness
from tests.killed import Killed

QUICK = ("--data", "digits", "--quick", "--images", "60", "--device", "cpu")


def run(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["moegap", *map(str, arguments)])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    return stop.value.code


def numbers(path):
    found = json.loads(path.read_text())
    for part in found["parts"]:
        for block in part["blocks"]:
            del block["seconds"]
    return found["parts"]


def until_killed(measure, pieces):
    """Return `measure` with a kill once it measured so many pieces."""
    left = iter(range(pieces))

    def measured(self, name):
        if next(left, None) is None:
            raise Killed
        return measure(self, name)

    return measured


def test_killed_and_started_again_it_continues(trained, tmp_path, monkeypatch, capsys):
    folder, pieces = tmp_path / "out", tmp_path / "out" / "soft.work" / "pieces.json"
    few = ("--subset", "train", "--block", "all", "--block", "gate", "--block", "experts")
    arguments = ("sharpness", trained["soft"], *QUICK, *few, "--out", folder)
    with monkeypatch.context() as patch:
        patch.setattr(SubsetSharpness, "run", until_killed(SubsetSharpness.run, pieces=3))
        with pytest.raises(Killed):
            run(patch, *arguments)
    kept = json.loads(pieces.read_text())["pieces"]
    assert len(kept) == 3
    assert not (folder / "soft.json").exists()
    assert not run(monkeypatch, *arguments)
    assert "soft.json" in capsys.readouterr().out
    assert not pieces.exists()
    block = json.loads((folder / "soft.json").read_text())["parts"][0]["blocks"][0]
    assert block["seconds"] == kept["train/block all"]["seconds"] if "train/block all" in kept else True
    assert (folder / "soft.svg").read_text().startswith("<svg")
    assert not run(monkeypatch, *arguments)
    assert "already measured" in capsys.readouterr().out


def test_options_choose_what_is_measured(trained, tmp_path, monkeypatch, capsys):
    only = ("--subset", "test", "--block", "experts", "--block", "expert 3", "--eigenvalues", "2", "--dtype", "float64")
    both = (trained["soft"], trained["sparse"])
    assert not run(monkeypatch, "sharpness", *both, *QUICK, *only, "--seed", "7", "--out", tmp_path)
    for name in ("soft", "sparse"):
        found = json.loads((tmp_path / f"{name}.json").read_text())
        (part,) = found["parts"]
        assert (part["subset"], part["images"], found["seed"], found["dtype"]) == ("test", 60, 7, "float64")
        assert [block["block"] for block in part["blocks"]] == ["experts", "expert 3"]
        assert {len(block["eigenvalues"]) for block in part["blocks"]} == {2}
        assert part["lines"] == []
        assert "density" not in part
        assert found["command"].startswith("moegap sharpness")
        assert found["environment"]["torch"]
        assert not (tmp_path / f"{name}.svg").exists()
    without = ("--block", "all", "--no-surface", "--no-lines", "--no-worst-case", "--no-density")
    assert not run(monkeypatch, "sharpness", trained["dense"], *QUICK, *without, "--out", tmp_path)
    for part in numbers(tmp_path / "dense.json"):
        assert [block["block"] for block in part["blocks"]] == ["all"]
        assert part["lines"] == []
        assert not {"surface", "sam", "density"} & part.keys()
    capsys.readouterr()


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("nowhere",), "no checkpoint folder nowhere"),
        (("CHECKPOINT", "--data", "nowhere"), "unknown data 'nowhere'"),
        (
            ("CHECKPOINT", "--data", "digits", "--block", "backbone"),
            "unknown block 'backbone'; choose one of all, gate",
        ),
        (("CHECKPOINT", "--subset", "validation"), "unknown subset 'validation'"),
        (("CHECKPOINT", "--images", "0"), "images"),
        (("CHECKPOINT", "--dtype", "bfloat16"), "dtype"),
        (("CHECKPOINT", "--device", "tpu"), "unknown device 'tpu'"),
        (("CHECKPOINT", "CHECKPOINT"), "two of the checkpoints are called sparse"),
    ],
)
def test_bad_input_is_one_sentence(trained, tmp_path, monkeypatch, capsys, arguments, sentence):
    given = [trained["sparse"] if word == "CHECKPOINT" else word for word in arguments]
    assert run(monkeypatch, "sharpness", *given, "--out", tmp_path / "out") == 1
    shown = capsys.readouterr().err
    assert sentence in shown
    assert len(shown.strip().splitlines()) == 1
    assert "Traceback" not in shown
