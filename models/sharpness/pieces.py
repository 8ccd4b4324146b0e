"""The sharpness of one checkpoint on one set of images, piece by piece.

Letters: N rows, D features, P weights of a block.
"""

from __future__ import annotations

import math
import time
import zlib
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from models.classifier.classifier import Classifier
from models.data.images import LabelledImages
from models.errors import ModelError
from models.progress import Progress
from models.sharpness.config import SharpnessConfig
from models.sharpness.hessian import Batches
from models.sharpness.lanczos import Lanczos
from models.sharpness.landscape import PAPER_ALPHAS, along, filter_normalised, second_difference, surface
from models.sharpness.network import WHOLE, Network, WeightBlock, network_blocks
from models.sharpness.objective import Objective, Value
from models.sharpness.resume import FinishedPieces
from models.sharpness.spectrum import density, spectrum
from models.sharpness.trace import hutchinson, total
from models.sharpness.worst_case import ADAPTIVE_RADII, RADII, worst_rise
from reports.records.sharpness import BlockCurvature, SharpnessPart, Trace

BATCH = 250
TOP = "top eigenvector"
DRAWN = 20_000
"""Random numbers for a spectral density by default: the fewer weights, the more random vectors."""
_MOST_DENSITY_PROBES = 8


class UnstableError(ModelError):
    """A model that gives different outputs for the same rows, or no finite loss."""


@dataclass(frozen=True, eq=False)
class Sample:
    """The rows to measure on: normalised images (N, C, H, W) or None, their features (N, D), labels (N,)."""

    subset: str
    images: Tensor | None
    features: Tensor
    labels: Tensor


class Task(NamedTuple):
    """A piece to measure: its name, and its cost in about so many gradients of the whole model."""

    name: str
    cost: float


def sample_of_images(model: Classifier, subset: str, images: LabelledImages, dtype: torch.dtype) -> Sample:
    """Return images uint8 as the model sees them."""
    exact = deepcopy(model).to(dtype)
    normal = exact.normalise(images.images.to(dtype) / 255).contiguous(memory_format=torch.channels_last)
    with torch.no_grad():
        features = torch.cat([exact.backbone(batch) for batch in normal.split(BATCH)])
    return Sample(subset, normal, features, images.labels)


class SubsetSharpness:
    """Measures one sample: `tasks` lists the pieces in order, `run` measures one, `result` puts them together."""

    def __init__(
        self, model: Classifier, sample: Sample, config: SharpnessConfig, finished: FinishedPieces, progress: Progress
    ) -> None:
        self.model, self.sample, self.config = model, sample, config
        self.finished, self.progress = finished, progress
        dtype = sample.features.dtype
        self.network = Network(model, with_backbone=sample.images is not None).to(sample.labels.device, dtype)
        self.blocks = network_blocks(self.network)
        self.network.requires_grad_(False)

    @property
    def measured(self) -> list[str]:
        """The names of the blocks to measure."""
        wanted = self.config.blocks
        return [name for name in self.blocks if wanted is None or name in wanted]

    def tasks(self) -> Iterator[Task]:
        """Yield the pieces in the order in which to measure them."""
        config = self.config
        yield Task("values", 2.5)
        for name in self.measured:
            steps = 2.2 * (config.least_steps + 3) + 3
            yield Task(f"block {name}", self._share(self.blocks[name]) * (steps + (0 if self._parts(name) else 25)))
        if WHOLE not in self.measured:
            return
        whole = self._share(self.blocks[WHOLE])
        if config.density:
            yield Task("density", 0.1)
        if config.lines:
            for direction in self.directions():
                yield Task(f"line {direction} small", whole * 14)
                yield Task(f"line {direction} paper", whole * 0.3 * len(PAPER_ALPHAS))
        if config.surface:
            yield Task("surface", whole * 0.3 * config.surface**2)
        if config.worst_case:
            yield Task("sam", whole * 8)
            yield Task("adaptive", whole * 8)

    def directions(self) -> list[str]:
        """Return the names of the lines' directions."""
        return [TOP, *(f"random {number}" for number in range(self.config.directions))]

    def run(self, name: str) -> Any:
        """Return the piece `name`; measure it if that is still to be done."""
        kind, _, rest = name.partition(" ")
        measure = {
            "values": self._values,
            "block": lambda: self._block(rest),
            "density": self._density,
            "line": lambda: self._line(*rest.rsplit(" ", 1)),
            "surface": self._surface,
            "sam": lambda: self._rises(adaptive=False),
            "adaptive": lambda: self._rises(adaptive=True),
        }[kind]
        return self.finished.piece(f"{self.sample.subset}/{name}", measure)

    def result(self) -> SharpnessPart:
        """Return all results, once every task has run."""
        names = [task.name for task in self.tasks()]
        pieces = {name: self.run(name) for name in names}
        return SharpnessPart.model_validate(
            {
                "subset": self.sample.subset,
                "images": len(self.sample.labels),
                **pieces["values"],
                "blocks": [self._block_result(name, pieces) for name in self.measured],
                "density": pieces.get("density"),
                "lines": [pieces[name] for name in names if name.startswith("line ")],
                "surface": pieces.get("surface"),
                "sam": pieces.get("sam"),
                "adaptive": pieces.get("adaptive"),
            }
        )

    def _values(self) -> dict[str, Any]:
        """Evaluate the model twice; raise `UnstableError` if the answers differ by more than rounding."""
        objective = self._objective(WHOLE)
        first, again = self.start, objective.with_gradient(objective.weights)
        if not math.isfinite(first[0].loss):
            raise UnstableError(
                f"the loss of the {self.sample.subset} images is {first[0].loss}; train the model again"
            )
        agreement = max(
            _relative(abs(first[0].loss - again[0].loss), abs(first[0].loss)),
            _relative((first[1] - again[1]).norm().item(), first[1].norm().item()),
        )
        allowed = torch.finfo(first[1].dtype).eps ** 0.5
        if not agreement <= allowed:
            raise UnstableError(
                f"two evaluations of the {self.sample.subset} images differ by {agreement:.1e} of their size, but "
                f"rounding explains only {allowed:.0e}; make the model deterministic in evaluation before measuring it"
            )
        return {
            "loss": first[0].loss,
            "accuracy": first[0].accuracy,
            "gradient_norm": first[1].norm().item(),
            "agreement": agreement,
        }

    def _block(self, name: str) -> dict[str, Any]:
        began, config = time.perf_counter(), self.config
        objective = self._objective(name)
        gradient = self.start[1] if name == WHOLE else objective.with_gradient(objective.weights)[1]
        hessian = objective.hessian()
        result = spectrum(
            hessian,
            self._generator(f"spectrum {name}"),
            count=config.eigenvalues,
            tolerance=config.largest_residual,
            least=config.least_steps,
            most=config.most_steps,
        )
        trace = None
        if not self._parts(name):
            trace = hutchinson(
                hessian,
                result.known,
                result.known_vectors,
                self._generator(f"trace {name}"),
                relative_error=config.relative_error,
                most=config.probes,
            ).model_dump()
        if name == WHOLE:
            self.finished.keep(f"{self.sample.subset}/{TOP}", result.vectors[0])
        return {
            "parameters": len(objective.weights),
            "eigenvalues": [
                {"value": value, "residual": residual}
                for value, residual in zip(result.values, result.residuals, strict=True)
            ],
            "trace": trace,
            "gradient_norm": gradient.norm().item(),
            "seconds": time.perf_counter() - began,
            "nodes": result.nodes if name == WHOLE else None,
            "weights": result.weights if name == WHOLE else None,
        }

    def _block_result(self, name: str, pieces: dict[str, Any]) -> BlockCurvature:
        piece = {**pieces[f"block {name}"], "block": name, "trace": self._trace(name, pieces)}
        return BlockCurvature.model_validate(piece)

    def _trace(self, name: str, pieces: dict[str, Any]) -> Trace:
        """Return the trace of a block: the sum over its parts if they are measured, else what was estimated for it."""
        if parts := self._parts(name):
            return total((self._trace(part, pieces) for part in parts), self.config.relative_error)
        return Trace(**pieces[f"block {name}"]["trace"])

    def _parts(self, name: str) -> tuple[str, ...]:
        """Return the parts of a block, or none unless all of them are measured."""
        parts = self.blocks[name].parts
        return parts if all(part in self.measured for part in parts) else ()

    def _density(self) -> dict[str, Any]:
        whole = self.run(f"block {WHOLE}")
        config, size = self.config, whole["parameters"]
        steps = min(config.least_steps, size)
        probes = config.density_probes or min(_MOST_DENSITY_PROBES, -(-DRAWN // size))
        measures = [(whole["nodes"], whole["weights"])]
        hessian = self._objective(WHOLE).hessian()
        for probe in range(1, probes):
            run = Lanczos(hessian, self._generator(f"density {probe}"), steps)
            for _ in range(steps):
                run.step()
            measures.append(run.quadrature())
        return density(measures, len(whole["nodes"]) if probes == 1 else steps).model_dump()

    def _line(self, direction: str, extent: str) -> dict[str, Any]:
        """Measure one line: `extent` is small, to read the curvature from the loss, or paper, as published."""
        vector = self._direction(direction)
        curvature = self._curvature(direction, vector)
        about = {"direction": direction, "range": extent}
        if extent == "paper":
            line = along(self._objective(WHOLE), vector, PAPER_ALPHAS, self.start[0])
            return {
                **about,
                **line._asdict(),
                "second_difference": None,
                "curvature": curvature,
                "relative_error": None,
            }
        exact, start = self._exact
        result = second_difference(exact, vector.double(), curvature, start)
        return {
            **about,
            **result.line._asdict(),
            "second_difference": result.value,
            "second_difference_from": result.source,
            "curvature": curvature,
            "relative_error": _relative(abs(result.value - curvature), abs(curvature)),
        }

    def _curvature(self, direction: str, vector: Tensor) -> float:
        """Return v^T H v along a direction."""
        if direction == TOP:
            return float(self.run(f"block {WHOLE}")["eigenvalues"][0]["value"])

        def measure() -> float:
            product = self._objective(WHOLE).hessian() @ vector
            return torch.dot(vector.double(), product.double()).item()

        return float(self.finished.piece(f"{self.sample.subset}/curvature {direction}", measure))

    def _direction(self, name: str) -> Tensor:
        """Return the direction (P,) of a line: the eigenvector, of unit length, or a filter-normalised random one."""
        objective = self._objective(WHOLE)
        if name == TOP:
            return self.finished.kept(f"{self.sample.subset}/{TOP}").to(objective.weights)
        return filter_normalised(objective, self._generator(name))

    def _surface(self) -> dict[str, Any]:
        points = self.config.surface
        alphas = [2 * point / (points - 1) - 1 for point in range(points)] if points > 1 else [0.0]
        directions = (self._direction("random 0"), self._direction("random 1"))
        return surface(self._objective(WHOLE), directions, alphas, self.start[0], self.progress).model_dump()

    def _rises(self, adaptive: bool) -> list[dict[str, Any]]:
        generator = self._generator("adaptive" if adaptive else "sam")
        return [
            worst_rise(self._objective(WHOLE), radius, generator, adaptive=adaptive, start=self.start).model_dump()
            for radius in (ADAPTIVE_RADII if adaptive else RADII)
        ]

    @cached_property
    def start(self) -> tuple[Value, Tensor]:
        """Value and gradient (P,) of the whole model at the trained weights."""
        objective = self._objective(WHOLE)
        return objective.with_gradient(objective.weights)

    @cached_property
    def _exact(self) -> tuple[Objective, tuple[Value, Tensor]]:
        """The whole model in float64, with value and gradient at the trained weights."""
        network = deepcopy(self.network).double()
        block = self.blocks[WHOLE]
        batches = [(x.double(), y) for x, y in self._batches(block)]
        if block.head_only:
            network.backbone = torch.nn.Identity()
        objective = Objective(network, block, batches)
        return objective, objective.with_gradient(objective.weights)

    def _objective(self, name: str) -> Objective:
        block = self.blocks[name]
        network = self._head_network if block.head_only else self.network
        return Objective(network, block, self._batches(block))

    @cached_property
    def _head_network(self) -> Network:
        network = Network(self.model, with_backbone=False)
        return network.to(self.sample.labels.device, self.sample.features.dtype).requires_grad_(False)

    def _batches(self, block: WeightBlock) -> Batches:
        """Return the rows for the weights of the block in batches; in one batch if rows depend on each other."""
        sample = self.sample
        rows = sample.features if block.head_only or sample.images is None else sample.images
        size = len(rows) if self.network.coupled or block.head_only else BATCH
        return list(zip(rows.split(size), sample.labels.split(size), strict=True))

    def _share(self, block: WeightBlock) -> float:
        """Return the cost of a gradient of the block, in gradients of the whole model."""
        return 0.03 if block.head_only and not self.blocks[WHOLE].head_only else 1.0

    def _generator(self, purpose: str) -> torch.Generator:
        """Return the generator for one purpose, which depends on no other piece and no interruption."""
        words = [self.config.seed, zlib.crc32(f"{self.sample.subset}/{purpose}".encode())]
        seed = int(np.random.SeedSequence(words).generate_state(1, np.uint64)[0] >> 1)
        return torch.Generator().manual_seed(seed)


def _relative(difference: float, size: float) -> float:
    """Return a difference as a share of `size`, or as it is if `size` is 0."""
    return difference / size if size else difference
