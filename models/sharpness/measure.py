"""The sharpness of trained checkpoints: curvature of the loss, block by block, and the loss around the weights.

OUT/CHECKPOINT.json    all results; `reports` draws them
OUT/CHECKPOINT.work/   finished pieces of an interrupted measurement; the same call continues from there

The loss is the mean cross-entropy over the images of a subset, without augmentation or label smoothing. The model is in
evaluation mode: no noise in the routing, no dropout, batch normalisation with its stored statistics. The curvature is
that of the smooth region around the weights: rectifiers and routing decisions do not change.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from models.classifier import checkpoint
from models.classifier.checkpoint import WEIGHTS, Checkpoint
from models.data.data import CACHE, Dataset, load_data
from models.data.images import DataError
from models.device import pick_device
from models.errors import ResumeError
from models.progress import SILENT, Progress, duration
from models.result_file import check_same, environment, write_result
from models.settings import check_choice
from models.sharpness.config import SharpnessConfig
from models.sharpness.network import Network, network_blocks
from models.sharpness.pieces import Sample, SubsetSharpness, sample_of_images
from models.sharpness.resume import FinishedPieces
from reports.records.files import make_folder, read
from reports.records.sharpness import Sharpness, SharpnessPart


def measure_sharpness(
    path: Path,
    out: Path,
    config: SharpnessConfig,
    *,
    data: str | None = None,
    device: str = "auto",
    progress: Progress = SILENT,
    cache: Path = CACHE,
    command: str = "",
) -> Sharpness:
    """Measure the checkpoint in the folder `path`, write OUT/NAME.json, and return the result.

    `data` names images as in `models.data.data`, split as in the training. Without it, the head alone is measured, on
    the features and labels in the checkpoint. A finished measurement is not repeated. An interrupted one continues, and
    on a CPU with the same number of threads gives the same numbers bit for bit. Raises `ModelError` if checkpoint and
    data do not fit, if the model is not deterministic, and if `out` has results of other settings.
    """
    where, loaded = pick_device(device), checkpoint.load(path)
    for block in config.blocks or ():
        check_choice("block", block, network_blocks(Network(loaded.model, with_backbone=data is not None)))
    source = _source(loaded, data, cache, progress)
    about = _about(loaded, source, config)
    name = path.resolve().name
    target = make_folder(out) / f"{name}.json"
    if (earlier := _finished(target, about)) is not None:
        progress.say(f"{name}: already measured in {target}")
        return earlier
    finished = FinishedPieces(out / f"{name}.work", about)
    began, parts = time.monotonic(), []
    subsets = _subsets(source, config)
    for place, subset in enumerate(subsets):
        sample = _sample(loaded, source, subset, config, where)
        measured = SubsetSharpness(loaded.model, sample, config, finished, progress)
        parts.append(_measure(measured, progress, name, later=len(subsets) - 1 - place))
    head = loaded.config.model.head
    result = Sharpness(
        format=1,
        kind="sharpness",
        command=command,
        environment=environment(where),
        checkpoint=name,
        head=head.kind,
        policy=head.policy,
        preset=loaded.config.training.get("preset"),
        data=loaded.config.data if source is None else source.name,
        images=max(part.images for part in parts),
        loss="cross-entropy",
        dtype=config.dtype,
        seed=config.seed,
        notes=tuple(_notes(loaded, source, config, parts)),
        settings=about,
        parts=tuple(parts),
    )
    write_result(target, result)
    finished.remove()
    progress.say(f"{name}: {target} after {duration(time.monotonic() - began)}")
    return result


def check_names(paths: Sequence[Path]) -> None:
    """Raise `ResumeError` if two checkpoints would have the same result file."""
    names = [path.resolve().name for path in paths]
    for name in names:
        if names.count(name) > 1:
            raise ResumeError(f"two of the checkpoints are called {name}; measure them with an --out each")


def _measure(subset: SubsetSharpness, progress: Progress, name: str, later: int) -> SharpnessPart:
    """Measure all pieces, and print how long they and `later` more subsets will take."""
    costs = [piece.cost for piece in subset.pieces.values()]
    label, began, done = f"{name}, {subset.sample.subset}", time.monotonic(), 0.0
    with progress.track(subset.pieces, len(costs), label) as tracked:
        for place, piece in enumerate(tracked):
            known = f"{subset.sample.subset}/{piece}" in subset.finished.pieces
            result = subset.run(piece)
            if known:
                began, done = time.monotonic(), 0.0
                continue
            done += costs[place]
            left = (sum(costs[place + 1 :]) + later * sum(costs)) * (time.monotonic() - began) / done
            if words := _summary(piece, result):
                progress.say(f"{label}: {words}; about {duration(left)} left")
    return subset.result()


def _summary(name: str, result: Any) -> str:
    """Return the result of a piece in a few words; nothing for small pieces."""
    if name == "values":
        return (
            f"loss {result['loss']:.4f}, accuracy {result['accuracy']:.1%}, gradient norm {result['gradient_norm']:.3g}"
        )
    if name.startswith("block "):
        first = result["eigenvalues"][0]
        return (
            f"{name.removeprefix('block ')}, largest eigenvalue {first['value']:.4g} (residual {first['residual']:.1g})"
        )
    if name.endswith(" small"):
        return f"{name.removesuffix(' small')}, second difference off curvature by {result['relative_error']:.1g} of it"
    return name if name in ("surface", "adaptive") else ""


def _source(loaded: Checkpoint, data: str | None, cache: Path, progress: Progress) -> Dataset | None:
    """Return the images to measure on, or None for the features in the checkpoint. Raises `DataError`."""
    path, config = loaded.path, loaded.config
    if data is None:
        if loaded.features is None or loaded.labels is None:
            missing = "features" if loaded.features is None else "labels of its features"
            raise DataError(f"{path} keeps no {missing}; name the images to measure on with --data")
        return None
    source = load_data(data, **config.split, cache=cache, progress=progress)
    if source.input_shape != tuple(config.input.shape):
        shapes = [" x ".join(map(str, shape)) for shape in (source.input_shape, config.input.shape)]
        raise DataError(
            f"the images of {data} are {shapes[0]}, but {path} takes {shapes[1]}; use those it learned from"
        )
    if source.classes != config.classes:
        raise DataError(f"{data} has other classes than {path} was trained on; use the images that it learned from")
    return source


def _sample(
    loaded: Checkpoint, source: Dataset | None, subset: str, config: SharpnessConfig, device: torch.device
) -> Sample:
    """Return up to `config.images` rows of a subset, drawn with the seed, on `device`.

    Images are shuffled, since a source may sort them by class and some policies serve the first rows first. The
    features in a checkpoint are in random order already.
    """
    dtype = {"float32": torch.float32, "float64": torch.float64}[config.dtype]
    count = len(loaded.labels) if source is None and loaded.labels is not None else len(getattr(source, subset))
    ids = torch.randperm(count, generator=torch.Generator().manual_seed(config.seed))[: config.images]
    model = loaded.model.to(device)
    if source is not None:
        return sample_of_images(model, subset, getattr(source, subset)[ids].to(device), dtype)
    assert loaded.features is not None
    assert loaded.labels is not None
    ids = ids.sort().values
    return Sample(subset, None, loaded.features[ids].to(device, dtype), loaded.labels[ids].to(device))


def _subsets(source: Dataset | None, config: SharpnessConfig) -> Sequence[str]:
    """Return the subsets to measure: only test images if the features in the checkpoint are used."""
    if source is not None:
        return config.subsets
    if "test" not in config.subsets:
        raise DataError("a checkpoint keeps features of test images only; name the images with --data to measure train")
    return ("test",)


def _about(loaded: Checkpoint, source: Dataset | None, config: SharpnessConfig) -> dict[str, Any]:
    """Return everything that decides the numbers."""
    images = "kept features"
    if source is not None:
        hasher = hashlib.sha256(source.digest.encode())
        if "test" in config.subsets:
            hasher.update(source.test.images.contiguous().numpy().data)
            hasher.update(source.test.labels.numpy().data)
        images = hasher.hexdigest()
    return {"model": loaded.config.sha256[WEIGHTS], "data": images, **config.model_dump(mode="json")}


def _notes(
    loaded: Checkpoint, source: Dataset | None, config: SharpnessConfig, parts: Sequence[SharpnessPart]
) -> list[str]:
    """Return what the reader of the numbers must know."""
    head, notes = loaded.config.model.head, []
    if source is None:
        notes.append("Measured on the features in the checkpoint: the head alone, on test images alone.")
    elif not any(name.startswith("backbone") for name in network_blocks(Network(loaded.model, True))):
        notes.append("The backbone has no weights: all of the model is its head.")
    if head.noisy:
        notes.append("The noise layer acts in training only: its curvature is exactly zero, and it is in no block.")
    if head.batch_coupled:
        notes.append(f"Under {head.policy} rows share their experts: each subset went through the head as one batch.")
    if any(not weight.requires_grad for weight in loaded.model.parameters()):
        notes.append("Weights that training leaves alone are in no block.")
    if head.gated:
        notes.append(
            "The traces of all and of experts are sums of the traces of their parts, which are independent estimates."
        )
    for part in parts:
        small = [line for line in part.lines if line.second_difference_from == "slopes"]
        if small:
            names = ", ".join(line.direction for line in small)
            notes.append(
                f"On {part.subset} images kinks are closer to the weights than float64 losses can resolve ({names}): "
                "the second difference there comes from slopes."
            )
        worst = max(
            pair.residual / abs(block.eigenvalues[0].value or 1.0)
            for block in part.blocks
            for pair in block.eigenvalues
        )
        if worst > config.largest_residual:
            notes.append(
                f"On {part.subset} images {config.most_steps} steps left a residual of {worst:.1e} of the largest "
                "eigenvalue; --steps allows more."
            )
    return notes


def _finished(target: Path, about: dict[str, Any]) -> Sharpness | None:
    """Return the result in `target`, or None; raise `ResumeError` if it is of something else."""
    if not target.exists():
        return None
    try:
        result = Sharpness.model_validate_json(read(target))
    except (OSError, ValueError):
        raise ResumeError(f"{target} is no sharpness measurement; use another --out") from None
    check_same(f"{target} holds a measurement", result.settings or {}, about)
    return result
