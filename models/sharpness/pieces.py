"""The sharpness of one checkpoint on one set of images, piece by piece.

Letters: N rows, D features, P weights of a block.
"""

from __future__ import annotations

import math
import time
import zlib
from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from models.classifier.classifier import Classifier
from models.data.images import LabelledImages
from models.errors import ModelError
from models.progress import Progress
from models.sharpness.config import SharpnessConfig
from models.sharpness.lanczos import Lanczos
from models.sharpness.landscape import PAPER_ALPHAS, along, filter_normalised, second_difference, surface
from models.sharpness.network import WHOLE, Network, WeightBlock, network_blocks
from models.sharpness.objective import Objective, Value
from models.sharpness.resume import FinishedPieces
from models.sharpness.spectrum import density, spectrum
from models.sharpness.trace import hutchinson, total
from models.sharpness.worst_case import ADAPTIVE_RADII, RADII, worst_rise
from reports.records.sharpness import SharpnessPart, Trace

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


class Piece(NamedTuple):
    """Something to measure: its cost in about so many gradients of the whole model, and how, as JSON."""

    cost: float
    measure: Callable[[], Any]


def sample_of_images(model: Classifier, subset: str, images: LabelledImages, dtype: torch.dtype) -> Sample:
    """Return images uint8 as the model sees them."""
    exact = deepcopy(model).to(dtype)
    normal = exact.normalise(images.images.to(dtype) / 255).contiguous(memory_format=torch.channels_last)
    with torch.no_grad():
        features = torch.cat([exact.backbone(batch) for batch in normal.split(BATCH)])
    return Sample(subset, normal, features, images.labels)


class SubsetSharpness:
    """Measures one sample: `pieces` has the pieces in order, `run` measures one, `result` puts them together."""

    def __init__(
        self, model: Classifier, sample: Sample, config: SharpnessConfig, finished: FinishedPieces, progress: Progress
    ) -> None:
        self.model, self.sample, self.config = model, sample, config
        self.finished, self.progress = finished, progress
        dtype = sample.features.dtype
        self.network = Network(model, with_backbone=sample.images is not None).to(sample.labels.device, dtype)
        self.blocks = network_blocks(self.network)
        self.network.requires_grad_(False)
        self.measured = [name for name in self.blocks if config.blocks is None or name in config.blocks]
        self.pieces = dict(self._planned())

    def _planned(self) -> Iterator[tuple[str, Piece]]:
        """Yield the pieces by name, in the order in which to measure them."""
        config = self.config
        yield "values", Piece(2.5, self._values)
        for name in self.measured:
            steps = 2.2 * (config.least_steps + 3) + 3
            cost = self._share(self.blocks[name]) * (steps + (0 if self._parts(name) else 25))
            yield f"block {name}", Piece(cost, partial(self._block, name))
        if WHOLE not in self.measured:
            return
        whole = self._share(self.blocks[WHOLE])
        if config.density:
            yield "density", Piece(0.1, self._density)
        if config.lines:
            for direction in (TOP, *(f"random {number}" for number in range(config.directions))):
                yield f"line {direction} small", Piece(whole * 14, partial(self._small_line, direction))
                paper = partial(self._paper_line, direction)
                yield f"line {direction} paper", Piece(whole * 0.3 * len(PAPER_ALPHAS), paper)
        if config.surface:
            yield "surface", Piece(whole * 0.3 * config.surface**2, self._surface)
        if config.worst_case:
            yield "sam", Piece(whole * 8, partial(self._rises, "sam"))
            yield "adaptive", Piece(whole * 8, partial(self._rises, "adaptive"))

    def run(self, name: str) -> Any:
        """Return the piece `name`; measure it if that is still to be done."""
        return self.finished.piece(f"{self.sample.subset}/{name}", self.pieces[name].measure)

    def result(self) -> SharpnessPart:
        """Return all results, once every piece has run."""
        pieces = {name: self.run(name) for name in self.pieces}
        blocks = [
            {**pieces[f"block {name}"], "block": name, "trace": self._trace(name, pieces)} for name in self.measured
        ]
        return SharpnessPart.model_validate(
            {
                "subset": self.sample.subset,
                "images": len(self.sample.labels),
                **pieces["values"],
                "blocks": blocks,
                "lines": [piece for name, piece in pieces.items() if name.startswith("line ")],
                **{name: pieces.get(name) for name in ("density", "surface", "sam", "adaptive")},
            }
        )

    def _values(self) -> dict[str, Any]:
        """Evaluate the model twice; raise `UnstableError` if the answers differ by more than rounding."""
        objective = self._objective(WHOLE)
        value, gradient = self.start
        again, gradient_again = objective.with_gradient(objective.weights)
        if not math.isfinite(value.loss):
            raise UnstableError(f"the loss of the {self.sample.subset} images is {value.loss}; train the model again")
        norm = gradient.norm().item()
        agreement = max(
            _relative(abs(value.loss - again.loss), abs(value.loss)),
            _relative((gradient - gradient_again).norm().item(), norm),
        )
        allowed = torch.finfo(gradient.dtype).eps ** 0.5
        if not agreement <= allowed:
            raise UnstableError(
                f"two evaluations of the {self.sample.subset} images differ by {agreement:.1e} of their size, but "
                f"rounding explains only {allowed:.0e}; make the model deterministic in evaluation before measuring it"
            )
        return {"loss": value.loss, "accuracy": value.accuracy, "gradient_norm": norm, "agreement": agreement}

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

    def _small_line(self, direction: str) -> dict[str, Any]:
        """Measure a line short enough to read the curvature v^T H v from the loss."""
        vector = self._direction(direction)
        if direction == TOP:
            curvature = self.run(f"block {WHOLE}")["eigenvalues"][0]["value"]
        else:
            product = self._objective(WHOLE).hessian() @ vector
            curvature = torch.dot(vector.double(), product.double()).item()
        exact, start = self._exact
        result = second_difference(exact, vector.double(), curvature, start)
        return {
            "direction": direction,
            "range": "small",
            **result.line._asdict(),
            "second_difference": result.value,
            "second_difference_from": result.source,
            "curvature": curvature,
            "relative_error": _relative(abs(result.value - curvature), abs(curvature)),
        }

    def _paper_line(self, direction: str) -> dict[str, Any]:
        """Measure a line at the points of the paper, where its second difference is not the curvature."""
        line = along(self._objective(WHOLE), self._direction(direction), PAPER_ALPHAS, self.start[0])
        curvature = self.run(f"line {direction} small")["curvature"]
        unread = dict.fromkeys(("second_difference", "relative_error"))
        return {"direction": direction, "range": "paper", **line._asdict(), "curvature": curvature, **unread}

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

    def _rises(self, kind: Literal["sam", "adaptive"]) -> list[dict[str, Any]]:
        adaptive, generator = kind == "adaptive", self._generator(kind)
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
        objective = self._objective(WHOLE, torch.float64)
        return objective, objective.with_gradient(objective.weights)

    def _objective(self, name: str, dtype: torch.dtype | None = None) -> Objective:
        """Return the loss as a function of a block, by default in the dtype of the measurement.

        The rows come in batches, or in one batch if they depend on each other.
        """
        block, sample = self.blocks[name], self.sample
        network = self._head_network if block.head_only else self.network
        rows = sample.features if block.head_only or sample.images is None else sample.images
        if dtype is not None:
            network, rows = deepcopy(network).to(dtype), rows.to(dtype)
        size = len(rows) if network.coupled or block.head_only else BATCH
        return Objective(network, block, list(zip(rows.split(size), sample.labels.split(size), strict=True)))

    @cached_property
    def _head_network(self) -> Network:
        network = Network(self.model, with_backbone=False)
        return network.to(self.sample.labels.device, self.sample.features.dtype).requires_grad_(False)

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
