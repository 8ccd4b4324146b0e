"""A trained classifier as a folder, and what its numbers mean.

    config.json         format, model, input, data, classes, training, sha256 of every other file
    model.safetensors   the weights, float32: backbone.* and head.*
    metrics.json        history by epoch, test accuracy, how the test images were routed
    environment.json    what it was trained with
    features.npy        features (n, D) float32 of up to 1,024 test images, to route without the data; may be absent
    labels.npy          the classes of the same images, (n,) int64, 0 to C - 1; may be absent

config.json is written last and removed first, so a folder that was only half written does not load.

The logits (N, C) of features x (N, D) follow from model.safetensors and config.json alone. All products and sums
are in float64; W.T is a transpose; `m` is config["model"]["head"]; x_n and s_n are rows. With

    g       = x head.gate.weight.T + head.gate.bias                                          (N, E)
    y_e     = f(x head.w1[e] + head.b1[e]) head.w2[e] + head.b2[e]                           (N, C), for each expert e
    f       = m.activation:  relu: max(z, 0);  gelu: z (1 + erf(z / sqrt 2)) / 2;  silu: z / (1 + exp(-z));
              swiglu: silu(z[:H]) z[H:] with H = m.hidden, for a row z of 2H values, so that w1[e] is (D, 2H) and
              b1[e] (2H,); for the others they are (D, H) and (H,)

    dense   logits = f(x head.w1 + head.b1) head.w2 + head.b2

    soft    p      = softmax over e of g / m.temperature
            logits = sum over all e of p[:, e] y_e

    sparse  s_n    = (g_n - mean g_n) / sd g_n  if m.standardise, else g_n; mean and sd over the E scores of the row,
                     sd with divisor E - 1; s_n = 0 if all scores of the row are equal, as for E = 1
            r_n    = s_n + head.correction  if m.bias_correction, else s_n; the best experts of a row have the
                     largest r_n, and the lowest ids if equal
            S_n    = the experts that serve row n; for each m.policy the formula is at the top of its file in
                     models/routing
            w_n    = softmax of s_n / m.temperature, over the experts in S_n if m.weights_over is "selected",
                     over all E if it is "all"
            logits = sum over e in S_n of w_n[e] y_e[n]; zero where S_n is empty

            q_n    = softmax over all e of r_n / m.temperature
            P      = ceil(m.capacity_factor N m.k / E), with the factor as the decimal number in config.json

Under a policy with places P, S_n depends on all N rows that are computed together; under the others on x_n alone.
head.noise.* and dropouts act in training only. In a whole classifier x = backbone((image / 255 - mean) / std), with
mean and std per channel from config["input"] and image in 0 to 255. Backbone `identity` flattens (C, H, W) in that
order; the others are in `models.classifier.backbones`, and their batch normalisation uses its stored statistics.
"""

from __future__ import annotations

import hashlib
import io
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import numpy as np
import torch
from pydantic import Field, TypeAdapter, model_validator
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor

from models.classifier.classifier import Classifier
from models.classifier.npy import array
from models.config import InputConfig, ModelConfig
from models.errors import ModelError
from models.settings import Config, ConfigError, validated
from reports.records.files import LARGEST, make_folder, read, read_json, write

FORMAT = 1
CONFIG = "config.json"
FileName = Literal["model.safetensors", "metrics.json", "environment.json", "features.npy", "labels.npy"]
WEIGHTS: FileName = "model.safetensors"
METRICS: FileName = "metrics.json"
ENVIRONMENT: FileName = "environment.json"
FEATURES: FileName = "features.npy"
LABELS: FileName = "labels.npy"
LONGEST_HEADER = 2**20
"""Bytes of the header of model.safetensors."""
TRAINING = "training"
"""The folder, inside that of a checkpoint, that holds an unfinished training."""


class CheckpointError(ModelError):
    """A folder that is no checkpoint, or a damaged checkpoint."""


class CheckpointConfig(Config):
    """What config.json holds: `data` names the source, `training` is the dumped `TrainConfig`, `sha256` is by file."""

    format: Literal[1] = 1
    model: ModelConfig
    input: InputConfig
    data: str
    classes: Annotated[tuple[str, ...], Field(min_length=1)]
    training: dict[str, Any]
    sha256: dict[FileName, str]

    @model_validator(mode="after")
    def _check_split(self) -> Self:
        for name, value in self.split.items():
            if not isinstance(value, int if name == "split_seed" else int | float):
                raise ValueError(f"training.{name} is no number")  # noqa: TRY004 - pydantic takes it for a sentence
        return self

    @property
    def split(self) -> dict[str, Any]:
        """The arguments with which `data.load_data` set validation images aside; empty if unknown."""
        return {name: self.training[name] for name in ("val_share", "split_seed") if name in self.training}


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """A loaded checkpoint, with the model in float32 on the CPU in evaluation mode.

    `features` (n, D) float32 and their classes `labels` (n,) int64 may each be None.
    """

    path: Path
    model: Classifier
    config: CheckpointConfig
    metrics: dict[str, Any]
    environment: dict[str, Any]
    features: Tensor | None
    labels: Tensor | None


def save(
    path: Path,
    model: Classifier,
    *,
    images: InputConfig,
    data: str,
    classes: tuple[str, ...],
    training: dict[str, Any],
    metrics: dict[str, Any],
    environment: dict[str, Any],
    features: Tensor | None = None,
    labels: Tensor | None = None,
) -> None:
    """Write a checkpoint into the folder `path`, replacing any that is there.

    `features` (n, D) are those of some test images, and `labels` (n,) their classes. Raises `StorageError` if the
    checkpoint cannot be written.
    """
    files: dict[FileName, bytes] = {
        WEIGHTS: save_tensors({name: value.cpu().contiguous() for name, value in model.state_dict().items()}),
        METRICS: _json(metrics),
        ENVIRONMENT: _json(environment),
    }
    if features is not None:
        files[FEATURES] = _npy(features.float())
    if labels is not None:
        files[LABELS] = _npy(labels.long())
    config = CheckpointConfig(
        model=model.config,
        input=images,
        data=data,
        classes=classes,
        training=training,
        sha256={name: _sha256(content) for name, content in files.items()},
    )
    make_folder(path)
    (path / CONFIG).unlink(missing_ok=True)
    for name, content in files.items():
        write(path / name, content)
    write(path / CONFIG, _json(config.model_dump(mode="json")))


def load(path: Path) -> Checkpoint:
    """Return the checkpoint in the folder `path`.

    Raises `CheckpointError` for a folder that is missing, unfinished, damaged or of another format.
    """
    config = read_config(path)
    for name in (WEIGHTS, METRICS, ENVIRONMENT):
        if name not in config.sha256:
            raise _damaged(path / CONFIG, f"lists no {name}")
    model = _without_weights(path, config)
    most = {WEIGHTS: LONGEST_HEADER + sum(value.nbytes for value in model.state_dict().values())}
    files = {name: _verified(path / name, digest, most.get(name, LARGEST)) for name, digest in config.sha256.items()}
    _load_weights(path / WEIGHTS, model, files[WEIGHTS])
    metrics, environment = (_object(path / name, files[name]) for name in (METRICS, ENVIRONMENT))
    features, labels = (_tensor(path / name, files.get(name)) for name in (FEATURES, LABELS))
    _check_rows(path, config, features, labels)
    return Checkpoint(path, model.eval(), config, metrics, environment, features, labels)


def read_config(path: Path) -> CheckpointConfig:
    """Return what config.json in the folder `path` says, or raise `CheckpointError`."""
    if not path.is_dir():
        raise CheckpointError(f"there is no checkpoint folder {path}; train one with `moegap train --out {path}`")
    try:
        content = read_json(path / CONFIG)
    except FileNotFoundError:
        raise _unfinished(path) from None
    except (OSError, ValueError) as error:
        raise _damaged(path / CONFIG, f"is not readable as JSON ({error})") from None
    if not isinstance(content, dict) or "sha256" not in content:
        raise CheckpointError(
            f"{path / CONFIG} is not from moegap, so {path} is somebody else's model: name a folder that `moegap "
            "train` made, or make a checkpoint of a layer of that model as models/README.md shows"
        )
    if content.get("format", FORMAT) != FORMAT:
        raise CheckpointError(
            f"{path} has checkpoint format {content['format']!r}, but this moegap reads format {FORMAT}; use the one "
            "that wrote it"
        )
    try:
        return validated(TypeAdapter(CheckpointConfig), content, CONFIG)
    except ConfigError as error:
        raise _damaged(path / CONFIG, f"is no valid configuration ({error})") from None


def _unfinished(path: Path) -> CheckpointError:
    if (path / TRAINING).is_dir():
        return CheckpointError(
            f"the training in {path} is unfinished; run its `moegap train` command again to continue it"
        )
    return CheckpointError(
        f"{path} holds no {CONFIG}, so it is no finished checkpoint; train one with `moegap train --out {path}`"
    )


def _damaged(file: Path, problem: str) -> CheckpointError:
    return CheckpointError(f"{file} {problem}; copy the checkpoint again, or train it again in another folder")


def _verified(file: Path, digest: str, most: int) -> bytes:
    try:
        content = read(file, most)
    except OSError as error:
        raise _damaged(file, f"cannot be read ({error.strerror})") from None
    if _sha256(content) != digest:
        raise _damaged(file, f"is not the file that {CONFIG} describes: its SHA-256 differs")
    return content


def _without_weights(path: Path, config: CheckpointConfig) -> Classifier:
    """Return the model that `config` describes, with shapes alone: a wrong size costs no memory."""
    names, classes = len(config.classes), config.model.head.classes
    if names != classes:
        raise _damaged(path / CONFIG, f"names {names} classes for a head of {classes}")
    try:
        with torch.device("meta"):
            return Classifier(config.model, config.input)
    except ConfigError as error:
        raise _damaged(path / CONFIG, f"describes no model ({error})") from None
    except (RuntimeError, OverflowError, TypeError, MemoryError):
        raise _damaged(path / CONFIG, "describes a model larger than any memory") from None


def _load_weights(file: Path, model: Classifier, weights: bytes) -> None:
    try:
        tensors = load_tensors(weights)
    except (SafetensorError, ValueError, KeyError, TypeError, RuntimeError) as error:
        raise _damaged(file, f"is no safetensors file ({error})") from None
    expected = model.state_dict()
    for name in sorted(tensors.keys() ^ expected.keys()):
        raise _damaged(file, f"{'lacks' if name in expected else 'has an extra'} tensor {name}")
    for name, want in expected.items():
        have = tensors[name]
        if (have.shape, have.dtype) != (want.shape, want.dtype):
            holds, asks = f"{tuple(have.shape)} {have.dtype}", f"{tuple(want.shape)} {want.dtype}"
            raise _damaged(file, f"holds {name} as {holds}, but {CONFIG} asks for {asks}")
    model.load_state_dict(tensors, assign=True)


def _object(file: Path, content: bytes) -> dict[str, Any]:
    """Return the JSON object in the content of a file."""
    try:
        value = json.loads(content)
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise _damaged(file, "is no JSON object")
    return value


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _json(content: dict[str, Any]) -> bytes:
    return json.dumps(content, indent=2, allow_nan=False).encode() + b"\n"


def _npy(tensor: Tensor) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, tensor.detach().cpu().numpy(), allow_pickle=False)
    return buffer.getvalue()


def _tensor(file: Path, content: bytes | None) -> Tensor | None:
    try:
        return None if content is None else torch.from_numpy(array(content))
    except ValueError as error:
        raise _damaged(file, str(error)) from None


def _check_rows(path: Path, config: CheckpointConfig, features: Tensor | None, labels: Tensor | None) -> None:
    """Raise `CheckpointError` unless features are (n, D) float32 and labels (n,) int64 from 0 to C - 1."""
    D, C = config.model.head.features, config.model.head.classes
    if features is not None and (features.dtype != torch.float32 or features.ndim != 2 or features.shape[1] != D):
        raise _damaged(path / FEATURES, f"holds {tuple(features.shape)} {features.dtype}, not (n, {D}) float32")
    if labels is None:
        return
    n = len(labels) if features is None else len(features)
    if labels.shape != (n,) or labels.dtype != torch.int64 or ((labels < 0) | (labels >= C)).any():
        raise _damaged(path / LABELS, f"does not hold {n} classes from 0 to {C - 1} as int64")
