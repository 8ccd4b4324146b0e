import hashlib
import io
import json
import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file

from models.classifier import checkpoint
from models.classifier.checkpoint import CheckpointError, load
from models.classifier.classifier import Classifier
from models.config import BackboneConfig, InputConfig, ModelConfig, head_config
from models.data.data import load_data
from models.errors import ModelError
from models.routing.policies import POLICIES

IMAGES = InputConfig(shape=(1, 8, 8), mean=(0.5,), std=(0.25,))


def model(seed: int = 0, backbone: str = "small", **changes: Any) -> Classifier:
    torch.manual_seed(seed)
    features = 64 if backbone == "identity" else 16
    head = head_config("sparse", features=features, hidden=5, classes=3, experts=4, **changes)
    config = ModelConfig(backbone=BackboneConfig(name=backbone, width=16), head=head)
    return Classifier(config, IMAGES).eval()


def save(
    path: Path,
    trained: Classifier,
    features: torch.Tensor | None = None,
    labels: torch.Tensor | None = None,
    **metrics: Any,
) -> None:
    checkpoint.save(
        path,
        trained,
        images=IMAGES,
        data="digits",
        classes=("a", "b", "c"),
        training={"lr": 0.1},
        metrics=metrics,
        environment={"python": "3"},
        features=features,
        labels=labels,
    )


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    """Return the folder of a small checkpoint that a test may spoil."""
    save(tmp_path / "saved", model(), torch.randn(6, 16), torch.arange(6) % 3)
    return tmp_path / "saved"


@pytest.mark.parametrize("backbone", ["small", "identity"])
def test_round_trip(tmp_path: Path, backbone: str) -> None:
    trained, labels = model(backbone=backbone), torch.tensor([2, 0, 1, 1, 0, 2])
    features = torch.randn(6, trained.config.head.features)
    images = torch.randint(0, 256, (9, 1, 8, 8), dtype=torch.uint8)
    trained.train()(images)  # moves the statistics of batch normalisation
    trained.eval()
    save(tmp_path, trained, features, labels.to(torch.uint8), test_accuracy=0.5)
    state = torch.get_rng_state()
    result = load(tmp_path)
    assert torch.equal(torch.get_rng_state(), state)
    assert not result.model.training
    assert torch.equal(result.model(images), trained(images))
    assert result.features is not None
    assert torch.equal(result.features, features)
    assert result.labels is not None
    assert result.labels.dtype == torch.int64
    assert torch.equal(result.labels, labels)
    assert (result.path, result.config.data, result.config.classes) == (tmp_path, "digits", ("a", "b", "c"))
    assert (result.config.model, result.config.input) == (trained.config, IMAGES)
    assert (result.metrics, result.environment) == ({"test_accuracy": 0.5}, {"python": "3"})
    result.model.train()(images).sum().backward()  # a loaded model can be trained on


def test_features_and_labels_may_be_absent(tmp_path: Path) -> None:
    save(tmp_path, model())
    result = load(tmp_path)
    assert (result.features, result.labels) == (None, None)


def test_a_correction_is_kept_and_acts(tmp_path: Path) -> None:
    trained, features = model(bias_correction=True, k=1), torch.randn(40, 16)
    plain = trained.head(features)
    trained.head.correction.copy_(torch.tensor([9.0, 0, 0, 0]))
    save(tmp_path, trained)
    result = load(tmp_path).model.head
    assert "head.correction" in load_file(tmp_path / "model.safetensors")
    assert torch.equal(result(features), trained.head(features))
    assert (result.routing(features).experts == 0).all()
    assert not torch.equal(result(features), plain)


def test_parameter_names(saved: Path) -> None:
    names = load_file(saved / "model.safetensors").keys()
    head = {"gate.weight", "gate.bias", "noise.weight", "noise.bias", "w1", "b1", "w2", "b2"}
    assert {name.removeprefix("head.") for name in names if name.startswith("head.")} == head
    assert all(name.startswith(("head.", "backbone.")) for name in names)


@pytest.mark.parametrize("kind", ["dense", "soft", "sparse"])
def test_logits_follow_from_the_files_as_the_docstring_says(trained: dict[str, Path], kind: str) -> None:
    """A stranger's computation in float64 NumPy, from model.safetensors and config.json alone."""
    demo = trained[kind]
    config = json.loads((demo / "config.json").read_text())
    p = {name: tensor.astype(np.float64) for name, tensor in load_file(demo / "model.safetensors").items()}
    m, mean, std = config["model"]["head"], config["input"]["mean"][0], config["input"]["std"][0]
    images = load_data("digits").test.images
    x = (images.double().numpy().reshape(len(images), -1) / 255 - mean) / std

    def expert(e: Any) -> np.ndarray[Any, Any]:
        hidden = np.maximum(x @ p["head.w1"][e] + p["head.b1"][e], 0)
        return hidden @ p["head.w2"][e] + p["head.b2"][e]

    def softmax(scores: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        heights = np.exp(scores - scores.max(axis=-1, keepdims=True))
        return heights / heights.sum(axis=-1, keepdims=True)

    assert (config["model"]["backbone"]["name"], m["activation"]) == ("identity", "relu")
    if m["kind"] == "dense":
        logits = expert(...)
    else:
        y = np.stack([expert(e) for e in range(m["experts"])], axis=1)
        scores = x @ p["head.gate.weight"].T + p["head.gate.bias"]
        if m["kind"] == "sparse":
            scores = (scores - scores.mean(axis=1, keepdims=True)) / scores.std(axis=1, ddof=1, keepdims=True)
            chosen = np.argsort(-scores, axis=1, kind="stable")[:, : m["k"]]
            mask = np.full_like(scores, -math.inf)
            np.put_along_axis(mask, chosen, 0, axis=1)
            assert m["weights_over"] == "selected"
            scores = scores + mask
        logits = np.einsum("ne,nec->nc", softmax(scores / m["temperature"]), y)
    with torch.inference_mode():
        result = load(demo).model(images).double().numpy()
    assert np.abs(result - logits).max() < 1e-4
    metrics = json.loads((demo / "metrics.json").read_text())
    assert (logits.argmax(1) == load_data("digits").test.labels.numpy()).mean() == metrics["test_accuracy"]


POLICY_CHANGES: dict[str, list[dict[str, Any]]] = {
    "top_k": [{}],
    "capacity": [{"capacity_factor": 0.7, "overflow": "drop"}, {"capacity_factor": 0.7, "overflow": "next"}],
    "top_p": [{"mass": 0.6}, {"mass": 0.9, "k": 2}],
    "threshold": [{"threshold": 0.2}, {"threshold": 0.1, "k": 2, "standardise": False}],
    "expert_choice": [{"capacity_factor": 1.3}],
}


@pytest.mark.parametrize(
    ("policy", "changes"), [(policy, changes) for policy in POLICIES for changes in POLICY_CHANGES[policy]]
)
@pytest.mark.parametrize("over", ["selected", "all"])
def test_every_policys_logits_follow_from_the_docstring(
    tmp_path: Path, policy: str, changes: dict[str, Any], over: str
) -> None:
    """A stranger's head in float64 NumPy, from model.safetensors and config.json alone."""
    correction = {} if policy == "expert_choice" else {"bias_correction": True}
    trained = model(policy=policy, weights_over=over, temperature=0.8, **correction, **changes)
    if correction:
        trained.head.correction.copy_(torch.tensor([0.3, -0.2, 0, 0.1]))
    save(tmp_path, trained)
    p = {name: tensor.astype(np.float64) for name, tensor in load_file(tmp_path / "model.safetensors").items()}
    m = json.loads((tmp_path / "config.json").read_text())["model"]["head"]
    x = np.random.default_rng(0).normal(size=(50, 16))

    s = x @ p["head.gate.weight"].T + p["head.gate.bias"]
    if m["standardise"]:
        s = (s - s.mean(axis=1, keepdims=True)) / s.std(axis=1, ddof=1, keepdims=True)
    r = s + p["head.correction"] if m["bias_correction"] else s
    q = np.exp(r / m["temperature"])
    q /= q.sum(axis=1, keepdims=True)
    best = np.argsort(-r, axis=1, kind="stable")
    serves = np.zeros((50, m["experts"]), dtype=bool)
    limit = math.ceil(round(m.get("capacity_factor", 0) * 50 * m["k"] / m["experts"], 9))
    match m["policy"]:
        case "top_k":
            np.put_along_axis(serves, best[:, : m["k"]], True, axis=1)
        case "top_p":
            for n in range(50):
                few = next(
                    few for few in range(1, m["k"] + 1) if few == m["k"] or q[n, best[n, :few]].sum() >= m["mass"]
                )
                serves[n, best[n, :few]] = True
        case "threshold":
            np.put_along_axis(serves, best[:, : m["k"]], True, axis=1)
            serves &= q >= m["threshold"]
            serves[np.arange(50), best[:, 0]] = True
        case "capacity":
            for r_th in range(m["k"] if m["overflow"] == "drop" else m["experts"]):
                for n in range(50):
                    if serves[n].sum() < m["k"] and serves[:, best[n, r_th]].sum() < limit:
                        serves[n, best[n, r_th]] = True
        case "expert_choice":
            order = np.argsort(-q, axis=0, kind="stable")[: min(50, limit)]
            np.put_along_axis(serves, order, True, axis=0)
    heights = np.exp(s / m["temperature"])
    total = np.where(serves | (m["weights_over"] == "all"), heights, 0).sum(axis=1, keepdims=True)
    w = np.where(serves, heights, 0) / np.where(total > 0, total, 1)
    y = np.stack(
        [
            np.maximum(x @ p["head.w1"][e] + p["head.b1"][e], 0) @ p["head.w2"][e] + p["head.b2"][e]
            for e in range(m["experts"])
        ],
        axis=1,
    )
    with torch.inference_mode():
        result = load(tmp_path).model.head.double()(torch.from_numpy(x)).numpy()
    assert np.abs(result - np.einsum("ne,nec->nc", w, y)).max() < 1e-12


def silu(z: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    return z / (1 + np.exp(-z))


FUNCTIONS: dict[str, Callable[[np.ndarray[Any, Any], int], np.ndarray[Any, Any]]] = {
    "relu": lambda z, H: np.maximum(z, 0),
    "gelu": lambda z, H: z * (1 + np.vectorize(math.erf)(z / math.sqrt(2))) / 2,
    "silu": lambda z, H: silu(z),
    "swiglu": lambda z, H: silu(z[:, :H]) * z[:, H:],
}


@pytest.mark.parametrize("activation", FUNCTIONS)
def test_every_activations_logits_follow_from_the_docstring(tmp_path: Path, activation: str) -> None:
    save(tmp_path, model(activation=activation, k=4))
    p = {name: tensor.astype(np.float64) for name, tensor in load_file(tmp_path / "model.safetensors").items()}
    m = json.loads((tmp_path / "config.json").read_text())["model"]["head"]
    x = np.random.default_rng(0).normal(size=(50, 16))
    s = x @ p["head.gate.weight"].T + p["head.gate.bias"]
    w = np.exp((s - s.mean(axis=1, keepdims=True)) / s.std(axis=1, ddof=1, keepdims=True))
    logits = np.zeros((50, 3))
    for e in range(4):
        hidden = FUNCTIONS[m["activation"]](x @ p["head.w1"][e] + p["head.b1"][e], m["hidden"])
        share = w[:, e] / w.sum(axis=1)
        logits += share[:, None] * (hidden @ p["head.w2"][e] + p["head.b2"][e])
    with torch.inference_mode():
        result = load(tmp_path).model.head.double()(torch.from_numpy(x)).numpy()
    assert np.abs(result - logits).max() < 1e-12


def test_weights_of_another_activation_do_not_load(saved: Path) -> None:
    def gated(config: dict[str, Any]) -> None:
        config["model"]["head"]["activation"] = "swiglu"

    edit_config(saved, gated)
    with pytest.raises(CheckpointError, match=r"head\.w1 as \(4, 16, 5\) .* asks for \(4, 16, 10\)"):
        load(saved)


def test_features_are_those_of_the_saved_model(trained: dict[str, Path]) -> None:
    result = load(trained["sparse"])
    with torch.inference_mode():
        every = result.model.features(load_data("digits").test.images)
    assert result.features is not None
    assert sorted(result.features.tolist()) == sorted(every.tolist())


class Killed(BaseException):
    """Nothing in `models` catches it, so it leaves on disk what SIGKILL would."""


@pytest.mark.parametrize("files_written", range(6))
@pytest.mark.parametrize("over_another", [False, True])
def test_a_killed_write_leaves_nothing_that_loads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, files_written: int, over_another: bool
) -> None:
    if over_another:
        save(tmp_path, model(seed=1), torch.zeros(2, 16), torch.zeros(2))
    left = iter([True] * files_written)

    def replace(source: Path, target: Path) -> Path:
        if not next(left, False):
            raise Killed
        return real(source, target)

    real = Path.replace
    monkeypatch.setattr(Path, "replace", replace)
    with pytest.raises(Killed):
        save(tmp_path, model(), torch.ones(2, 16), torch.ones(2))
    monkeypatch.undo()
    with pytest.raises(CheckpointError, match=r"holds no config.json, so it is no finished checkpoint"):
        load(tmp_path)
    save(tmp_path, model(), torch.ones(2, 16), torch.ones(2))
    assert load(tmp_path).features is not None


def edit_config(saved: Path, change: Callable[[dict[str, Any]], None]) -> None:
    config = json.loads((saved / "config.json").read_text())
    change(config)
    (saved / "config.json").write_text(json.dumps(config))


def edit_weights(saved: Path, change: Callable[[dict[str, np.ndarray[Any, Any]]], None]) -> None:
    """Change the weights and the checksum with them, as a careful hand would."""
    tensors = load_file(saved / "model.safetensors")
    change(tensors)
    save_file(tensors, saved / "model.safetensors")
    digest = hashlib.sha256((saved / "model.safetensors").read_bytes()).hexdigest()
    edit_config(saved, lambda config: config["sha256"].update({"model.safetensors": digest}))


def truncate(file: Path, keep: float) -> None:
    content = file.read_bytes()
    file.write_bytes(content[: int(len(content) * keep)])


def flip_bit(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)


def replaced_by_pipe(file: Path) -> None:
    file.unlink()
    os.mkfifo(file)


def replaced_by_link(file: Path, to: Path) -> None:
    file.unlink()
    file.symlink_to(to)


def rewrite(file: Path, content: bytes) -> None:
    """Replace a file of a checkpoint, and its hash in config.json."""
    file.write_bytes(content)
    digest = hashlib.sha256(content).hexdigest()
    edit_config(file.parent, lambda config: config["sha256"].update({file.name: digest}))


def as_npy(array: np.ndarray[Any, Any]) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


def promising(shape: tuple[int, ...]) -> bytes:
    """Return a .npy file whose header names `shape`, with 400 bytes of numbers."""
    buffer = io.BytesIO()
    np.lib.format.write_array_header_1_0(buffer, {"descr": "<f4", "fortran_order": False, "shape": shape})
    return buffer.getvalue() + bytes(400)


HOSTILE_ARRAYS = {
    "object": (as_npy(np.array([{}, 1], dtype=object)), "holds object, not one array of real numbers"),
    "complex": (as_npy(np.zeros((6, 16), complex)), "holds complex128, not one array of real numbers"),
    "text": (as_npy(np.array(["a"])), "holds <U1, not one array of real numbers"),
    "endless": (promising((10**13, 16)), "holds 400 bytes of numbers, but its header promises the shape"),
    "negative": (promising((-6, 16)), "holds 400 bytes of numbers, but its header promises the shape"),
    "twice negative": (promising((-10, -10)), "holds 400 bytes of numbers, but its header promises the shape"),
    "narrow": (as_npy(np.zeros((6, 15), np.float32)), r"holds \(6, 15\) torch\.float32, not \(n, 16\) float32"),
    "double": (as_npy(np.zeros((6, 16))), r"holds \(6, 16\) torch\.float64, not \(n, 16\) float32"),
    "flat": (as_npy(np.zeros(16, np.float32)), r"holds \(16,\) torch\.float32, not \(n, 16\) float32"),
    "pickled": (b"\x80\x04N.", r"is no \.npy file that numpy\.save writes"),
    "deep": (b"\x93NUMPY\x01\x00\xff\xff" + b"(" * 65535, r"is no \.npy file that numpy\.save writes"),
    "cut": (as_npy(np.zeros((6, 16), np.float32))[:90], r"is no \.npy file that numpy\.save writes"),
}
SPOILT: dict[str, tuple[Callable[[Path], Any], str]] = {
    "no config": (lambda p: (p / "config.json").unlink(), r"holds no config\.json, so it is no finished checkpoint"),
    "empty config": (lambda p: truncate(p / "config.json", 0), r"config\.json is not readable as JSON"),
    "half a config": (lambda p: truncate(p / "config.json", 0.5), r"config\.json is not readable as JSON"),
    "binary config": (lambda p: (p / "config.json").write_bytes(b"\xff\xfe"), r"config\.json is not readable as JSON"),
    "a list": (lambda p: (p / "config.json").write_text("[]"), r"config\.json is not from moegap"),
    "somebody else's": (
        lambda p: (p / "config.json").write_text('{"architectures": ["MixtralForCausalLM"]}'),
        r"is not from moegap, so .*saved is somebody else's model: name a folder",
    ),
    "deep config": (lambda p: (p / "config.json").write_text("[" * 10**5), r"config\.json is not readable as JSON"),
    "a pipe": (lambda p: replaced_by_pipe(p / "config.json"), r"config\.json is not readable .*it is no regular file"),
    "a pipe for weights": (
        lambda p: replaced_by_pipe(p / "model.safetensors"),
        r"model\.safetensors cannot be read \(it is no regular file",
    ),
    "endless weights": (
        lambda p: replaced_by_link(p / "model.safetensors", Path("/dev/zero")),
        r"model\.safetensors cannot be read \(it is no regular file",
    ),
    "weights in a circle": (
        lambda p: replaced_by_link(p / "model.safetensors", p / "model.safetensors"),
        r"model\.safetensors cannot be read \(Too many levels of symbolic links",
    ),
    "weights of a terabyte": (
        lambda p: os.truncate(p / "model.safetensors", 2**40),
        r"model\.safetensors cannot be read \(it has more than [\d,]+ bytes",
    ),
    "a width of 1e30": (
        lambda p: edit_config(p, lambda c: c["model"]["head"].update(hidden=10**30)),
        r"config\.json (is no valid configuration|describes a model larger than any memory)",
    ),
    "widths whose product overflows": (
        lambda p: edit_config(p, lambda c: c["model"]["head"].update(hidden=2**31 - 1, experts=2**31 - 1)),
        r"config\.json describes a model larger than any memory",
    ),
    **{
        f"metrics {name}": (lambda p, text=text: rewrite(p / "metrics.json", text), r"metrics\.json is no JSON object")
        for name, text in {"deep": b"[" * 10**5, "list": b"[]", "binary": b"\xff", "none": b""}.items()
    },
    **{
        f"{name} features": (lambda p, npy=npy: rewrite(p / "features.npy", npy), rf"features\.npy {words}")
        for name, (npy, words) in HOSTILE_ARRAYS.items()
    },
    **{
        f"labels {name}": (
            lambda p, labels=labels: rewrite(p / "labels.npy", as_npy(labels)),
            r"labels\.npy does not hold 6 classes from 0 to 2 as int64",
        )
        for name, labels in {
            "below": np.full(6, -1),
            "above": np.full(6, 3),
            "too few": np.zeros(5, int),
            "real": np.zeros(6),
        }.items()
    },
    "format": (
        lambda p: edit_config(p, lambda c: c.update(format=2)),
        r"has checkpoint format 2, but this moegap reads format 1",
    ),
    "head kind": (
        lambda p: edit_config(p, lambda c: c["model"]["head"].update(kind="wide")),
        r"config\.json is no valid configuration \(.*'wide'",
    ),
    "k too large": (
        lambda p: edit_config(p, lambda c: c["model"]["head"].update(k=99)),
        r"config\.json is no valid configuration \(.*k = 99 is more than experts = 4",
    ),
    "no model": (
        lambda p: edit_config(p, lambda c: c.pop("model")),
        r"no valid configuration \(.*model: Field required",
    ),
    "unknown file": (
        lambda p: edit_config(p, lambda c: c["sha256"].update({"../secret": "0"})),
        r"config\.json is no valid configuration",
    ),
    "unlisted weights": (
        lambda p: edit_config(p, lambda c: c["sha256"].pop("model.safetensors")),
        r"config\.json lists no model\.safetensors",
    ),
    "classes": (
        lambda p: edit_config(p, lambda c: c["classes"].append("d")),
        r"config\.json names 4 classes for a head of 3",
    ),
    "features width": (
        lambda p: edit_config(p, lambda c: c["model"]["head"].update(features=99)),
        r"config\.json describes no model \(the head takes 99 features",
    ),
    "huge head": (
        lambda p: edit_config(p, lambda c: c["model"]["head"].update(hidden=10**9)),
        r"model\.safetensors holds head\.\w+ as .*, but config\.json asks for .*1000000000",
    ),
    "no weights": (lambda p: (p / "model.safetensors").unlink(), r"model\.safetensors cannot be read \(No such file"),
    "half the weights": (lambda p: truncate(p / "model.safetensors", 0.5), r"model\.safetensors is not the file"),
    "altered weights": (lambda p: flip_bit(p / "model.safetensors"), r"model\.safetensors is not the file"),
    "altered metrics": (lambda p: flip_bit(p / "metrics.json"), r"metrics\.json is not the file"),
    "altered labels": (lambda p: flip_bit(p / "labels.npy"), r"labels\.npy is not the file"),
    "half the features": (lambda p: truncate(p / "features.npy", 0.5), r"features\.npy is not the file"),
    "missing tensor": (
        lambda p: edit_weights(p, lambda t: t.pop("head.w2")),
        r"model\.safetensors lacks tensor head\.w2",
    ),
    "extra tensor": (
        lambda p: edit_weights(p, lambda t: t.update(more=np.zeros(2))),
        r"model\.safetensors has an extra tensor more",
    ),
    "wrong shape": (
        lambda p: edit_weights(p, lambda t: t.update({"head.b1": np.zeros((4, 6), np.float32)})),
        r"holds head\.b1 as \(4, 6\) torch\.float32, but config\.json asks for \(4, 5\) torch\.float32",
    ),
    "wrong dtype": (
        lambda p: edit_weights(p, lambda t: t.update({"head.b1": np.zeros((4, 5), np.float64)})),
        r"holds head\.b1 as \(4, 5\) torch\.float64",
    ),
}


@pytest.mark.parametrize(("spoil", "words"), SPOILT.values(), ids=SPOILT.keys())
def test_a_spoilt_checkpoint_is_refused_in_one_sentence(saved: Path, spoil: Callable[[Path], Any], words: str) -> None:
    spoil(saved)
    with pytest.raises(CheckpointError, match=words) as caught:
        load(saved)
    message = str(caught.value)
    assert isinstance(caught.value, ModelError)
    assert "\n" not in message
    assert "delete" not in message
    assert str(saved) in message


def test_features_of_another_byte_order_or_layout_are_read(saved: Path) -> None:
    features = np.asfortranarray(np.arange(96, dtype=">f4").reshape(6, 16))
    rewrite(saved / "features.npy", as_npy(features))
    assert np.array_equal(load(saved).features, features)


def test_weights_that_are_no_safetensors_are_refused(saved: Path) -> None:
    (saved / "model.safetensors").write_bytes(b"pickle")
    digest = hashlib.sha256(b"pickle").hexdigest()
    edit_config(saved, lambda config: config["sha256"].update({"model.safetensors": digest}))
    with pytest.raises(CheckpointError, match=r"model\.safetensors is no safetensors file"):
        load(saved)


def test_a_missing_folder_is_refused_with_the_command(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"there is no checkpoint folder .*nowhere; train one with `moegap train"):
        load(tmp_path / "nowhere")
