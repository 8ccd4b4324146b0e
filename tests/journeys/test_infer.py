"""`moegap infer`: every form's logits against float64 from model.safetensors and config.json alone."""

import json
import sys
from functools import partial

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

from bench import cli
from bench.forms import default_forms
from models.classifier.checkpoint import save
from models.classifier.classifier import Classifier
from models.config import BackboneConfig, InputConfig, ModelConfig, head_config
from models.routing.policies import POLICIES
from tests.bench import oracle

# onnxscript, torch.onnx and their like warn of their own deprecations; the interpreter's NumPy warns of NaN rows
pytestmark = pytest.mark.filterwarnings(
    "ignore::DeprecationWarning",
    "ignore::FutureWarning",
    "ignore:All-NaN:RuntimeWarning",
    "ignore:invalid value:RuntimeWarning",
)


SLOW = ("compile", "triton")
"""Forms whose every call captures or interprets."""
LEFT = ("onnxruntime",)
"""Forms whose every call exports; tests/bench/forms/test_forms.py gives them rows like these."""


def run(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["moegap", *map(str, arguments)])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    return stop.value.code


def softmax(z):
    e = np.exp(z - z.max())
    return e / e.sum()


def logits_of(folder, x):
    """The formula of models/classifier/checkpoint.py's docstring, row by row, for the demo recipe's relu heads."""
    m = json.loads((folder / "config.json").read_text())["model"]["head"]
    p = {name: value.astype(np.float64) for name, value in load_file(folder / "model.safetensors").items()}
    assert m["activation"] == "relu"
    out = []
    for row in x.astype(np.float64):
        if m["kind"] == "dense":
            out.append(np.maximum(row @ p["head.w1"] + p["head.b1"], 0) @ p["head.w2"] + p["head.b2"])
            continue
        g = p["head.gate.weight"] @ row + p["head.gate.bias"]
        experts = [
            np.maximum(row @ p["head.w1"][e] + p["head.b1"][e], 0) @ p["head.w2"][e] + p["head.b2"][e]
            for e in range(m["experts"])
        ]
        if m["kind"] == "soft":
            weights, chosen = softmax(g / m["temperature"]), range(m["experts"])
        else:
            s = (g - g.mean()) / g.std(ddof=1) if m["standardise"] else g
            chosen = sorted(range(m["experts"]), key=lambda e: (-s[e], e))[: m["k"]]
            weights = np.zeros(m["experts"])
            weights[chosen] = softmax(s[chosen] / m["temperature"])
        out.append(sum(weights[e] * experts[e] for e in chosen))
    return np.array(out).reshape(len(x), m["classes"])


def awkward(rows, width):
    x = np.random.default_rng(rows).normal(size=(rows, width)).astype(np.float32)
    if rows > 5:
        x[1], x[2], x[4] = np.nan, 0, x[3]
        x[5] *= 1e12
    return x


HEADS = ("dense", "soft", "sparse")
RUNS = [
    (kind, form)
    for kind in HEADS
    for form in default_forms()
    if form not in LEFT and (kind == "sparse" or form not in SLOW)
]


@pytest.mark.parametrize(("kind", "form"), RUNS)
def test_every_form_gives_the_logits_of_the_formula(trained, tmp_path, monkeypatch, capsys, kind, form):
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="eager"))  # captures, and compiles no C++
    config = json.loads((trained[kind] / "config.json").read_text())["model"]["head"]
    for rows in (7,) if form in SLOW else (0, 1, 7, 257):
        x = awkward(rows, config["features"])
        np.save(tmp_path / "x.npy", x)
        arguments = ("infer", trained[kind], tmp_path / "x.npy", "--form", form, "--out", tmp_path / "y.npy")
        reason = _refusal(kind, form, config)
        if reason:
            assert run(monkeypatch, *arguments) == 1
            assert reason in capsys.readouterr().err
            return
        assert not run(monkeypatch, *arguments)
        found, wanted = np.load(tmp_path / "y.npy"), logits_of(trained[kind], x)
        assert found.dtype == np.float32
        assert found.shape == wanted.shape
        nan = np.isnan(x).any(axis=1)
        assert np.isnan(found[nan]).all()
        scale = np.abs(wanted[~nan]).max(axis=1, keepdims=True, initial=0)
        assert (np.abs(found[~nan] - wanted[~nan]) <= 2e-5 * scale).all()
    torch._dynamo.reset()


def _refusal(kind, form, config):
    if kind == "dense" and form == "loop":
        return "no experts"
    if kind != "sparse" and form == "grouped_mm":
        return f"a {kind} head"
    return ""


@pytest.mark.parametrize("form", ["loop", "eager", "grouped_mm"])
@pytest.mark.parametrize("policy", POLICIES)
def test_all_rows_are_one_batch_under_every_policy(tmp_path, monkeypatch, policy, form):
    torch.manual_seed(0)
    head = head_config("sparse", features=16, classes=3, hidden=8, policy=policy)
    images = InputConfig(shape=(1, 4, 4), mean=(0.5,), std=(0.25,))
    model = Classifier(ModelConfig(backbone=BackboneConfig(name="identity"), head=head), images).eval()
    labels = {"data": "none", "classes": ("a", "b", "c"), "training": {}, "metrics": {"test_accuracy": 0.5}}
    save(tmp_path / "model", model, images=images, environment={}, **labels)
    shown = np.random.default_rng(1).random((300, 1, 4, 4), dtype=np.float32)  # more than the backbone takes at once
    np.save(tmp_path / "x.npy", shown)
    asked = ("infer", tmp_path / "model", tmp_path / "x.npy", "--images", "--form", form, "--out", tmp_path / "y.npy")
    assert not run(monkeypatch, *asked)
    features = torch.from_numpy((shown - 0.5) / 0.25).flatten(1)
    assert oracle.deviation(torch.from_numpy(np.load(tmp_path / "y.npy")), model.head, features) < 2e-5


def test_images_go_through_the_backbone(trained, tmp_path, monkeypatch):
    images = np.random.default_rng(0).integers(0, 256, size=(9, 1, 8, 8), dtype=np.uint8)
    np.save(tmp_path / "images.npy", images)
    arguments = ("infer", trained["dense"], tmp_path / "images.npy", "--images", "--out", tmp_path / "y.npy")
    assert not run(monkeypatch, *arguments)
    statistics = json.loads((trained["dense"] / "config.json").read_text())["input"]
    mean, std = (np.array(statistics[name]).reshape(-1, 1, 1) for name in ("mean", "std"))
    x = ((images / 255 - mean) / std).reshape(9, -1)
    np.testing.assert_allclose(np.load(tmp_path / "y.npy"), logits_of(trained["dense"], x), rtol=1e-4, atol=1e-4)
    np.save(tmp_path / "images.npy", images / 255)
    assert not run(monkeypatch, *arguments)
    np.testing.assert_allclose(np.load(tmp_path / "y.npy"), logits_of(trained["dense"], x), rtol=1e-4, atol=1e-4)
