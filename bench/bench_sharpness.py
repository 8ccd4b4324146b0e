"""Eigenvalues and trace beside PyHessian, the paper's tool: time and error on the same model and rows in one run.

    python -m bench.bench_sharpness CHECKPOINT --data digits

PyHessian is not a dependency: `pip install --no-deps --target FOLDER PyHessian==0.1`, with FOLDER on PYTHONPATH, makes
it importable. Without it the command says so and measures ours alone. Rounds are interleaved, each with its own seed.
The reference values are those of `eigsh` (SciPy) on the float64 Hessian, and a trace with a tenth of the asked error.
"""

from __future__ import annotations

import importlib
import statistics
import time
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import torch
import typer
from scipy.sparse.linalg import eigsh
from torch import Tensor, nn

from models.classifier.checkpoint import load
from models.data.data import load_data
from models.errors import ModelError
from models.sharpness.network import WHOLE, Network, network_blocks
from models.sharpness.objective import Objective
from models.sharpness.pieces import BATCH, sample_of_images
from models.sharpness.spectrum import spectrum
from models.sharpness.trace import hutchinson
from reports.records.sharpness import Trace

COUNT = 5
RELATIVE_ERROR = 0.05


class Round(NamedTuple):
    """One round of one tool: the seconds and the values of each quantity."""

    tool: str
    eigen_seconds: float
    trace_seconds: float
    eigenvalues: list[float]
    trace: float


class Truth(NamedTuple):
    """The reference values."""

    eigenvalues: list[float]
    trace: Trace


def measure(objectives: tuple[Objective, Objective], rounds: int) -> tuple[Truth, list[Round], str]:
    """Return the truth, the rounds of both tools, and why PyHessian was not measured, "" if it was.

    `objectives` are the same loss in float32 and in float64.
    """
    single, double = objectives
    truth = _truth(double)
    tools: list[Callable[[int], Round]] = [lambda seed: _ours(single, seed)]
    reason = ""
    try:
        theirs = importlib.import_module("pyhessian").hessian
        tools.append(lambda seed: _pyhessian(theirs, single, seed))
    except ImportError as error:
        reason = f"PyHessian cannot be imported ({error}); the docstring of {__name__} says how to get it"
    return truth, [tool(seed) for seed in range(rounds) for tool in tools], reason


def _truth(objective: Objective) -> Truth:
    operator = objective.hessian()
    values = eigsh(operator.to_scipy(), k=COUNT, which="LA", tol=1e-8, return_eigenvectors=False)
    largest = spectrum(operator, torch.Generator().manual_seed(99), count=COUNT, tolerance=1e-6, least=60, most=200)
    trace = hutchinson(
        operator,
        largest.known,
        largest.known_vectors,
        torch.Generator().manual_seed(99),
        relative_error=RELATIVE_ERROR / 10,
        most=2000,
    )
    return Truth(sorted(map(float, values), reverse=True), trace)


def _ours(objective: Objective, seed: int) -> Round:
    started = time.perf_counter()
    operator = objective.hessian()
    generator = torch.Generator().manual_seed(seed)
    largest = spectrum(operator, generator, count=COUNT, tolerance=3e-3, least=16, most=120)
    middle = time.perf_counter()
    trace = hutchinson(
        operator, largest.known, largest.known_vectors, generator, relative_error=RELATIVE_ERROR, most=100
    )
    return Round("moegap", middle - started, time.perf_counter() - middle, largest.values, trace.value)


def _pyhessian(hessian: Any, objective: Objective, seed: int) -> Round:
    """Run PyHessian as its documentation does, on all rows as one batch, the faster of its two ways."""
    torch.manual_seed(seed)
    x, y = (torch.cat(tensors) for tensors in zip(*objective.batches, strict=True))
    model = deepcopy(objective.model)
    started = time.perf_counter()
    operator = hessian(model, nn.CrossEntropyLoss(), data=(x, y), cuda=x.is_cuda)
    values, _ = operator.eigenvalues(top_n=COUNT)
    middle = time.perf_counter()
    samples = operator.trace()
    ended = time.perf_counter()
    for weight in model.parameters():
        weight.grad = None  # its gradients hold their own graph
    return Round("PyHessian", middle - started, ended - middle, list(map(float, values)), statistics.fmean(samples))


def table(truth: Truth, rounds: list[Round]) -> list[str]:
    """Return times and errors as lines: medians over rounds, errors as a share of the largest eigenvalue or trace."""
    lines = [f"{'tool':10} {'5 eigenvalues':>14} {'largest error':>14} {'trace':>10} {'error':>8} {'rounds':>7}"]
    for tool in dict.fromkeys(each.tool for each in rounds):
        of_tool = [each for each in rounds if each.tool == tool]
        eigen_s = statistics.median(each.eigen_seconds for each in of_tool)
        eigen = statistics.median(_eigen_error(each.eigenvalues, truth.eigenvalues) for each in of_tool)
        trace_s = statistics.median(each.trace_seconds for each in of_tool)
        trace = statistics.median(abs(each.trace / truth.trace.value - 1) for each in of_tool)
        lines.append(f"{tool:10} {eigen_s:12.2f} s {eigen:14.1e} {trace_s:8.2f} s {trace:8.1%} {len(of_tool):7}")
    return lines


def _eigen_error(values: list[float], truth: list[float]) -> float:
    ranked = sorted(values, reverse=True)
    return max(abs(value - true) for value, true in zip(ranked, truth, strict=True)) / abs(truth[0])


def main(
    checkpoint: Annotated[Path, typer.Argument(help="Folder of a trained model.")],
    data: Annotated[str, typer.Option(help="The images it was trained on.")] = "digits",
    images: Annotated[int, typer.Option(help="Training images.")] = 1000,
    rounds: Annotated[int, typer.Option(help="Rounds of each tool.")] = 3,
) -> None:
    """Measure both tools and print medians."""
    try:
        loaded = load(checkpoint)
        source = load_data(data, **loaded.config.split).train
    except ModelError as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(1) from None
    images = min(images, len(source))
    drawn = source[torch.randperm(len(source), generator=torch.Generator().manual_seed(0))[:images]]
    single, double = (
        _objective(loaded.model, sample_of_images(loaded.model, "train", drawn, dtype).images, drawn.labels, dtype)
        for dtype in (torch.float32, torch.float64)
    )
    typer.echo(f"{checkpoint}, {images} images, {len(single.weights):,} weights, {torch.get_num_threads()} threads")
    truth, measured, reason = measure((single, double), rounds)
    values = ", ".join(f"{value:.4g}" for value in truth.eigenvalues)
    typer.echo(f"truth: eigenvalues {values}; trace {truth.trace.value:.4g} ± {truth.trace.standard_error:.1g}")
    for line in (*table(truth, measured), reason):
        typer.echo(line)


def _objective(model: Any, images: Tensor | None, labels: Tensor, dtype: torch.dtype) -> Objective:
    assert images is not None
    network = Network(model, with_backbone=True).to(dtype)
    block = network_blocks(network)[WHOLE]
    network.requires_grad_(False)
    rows = len(images) if block.head_only or network.coupled else BATCH
    return Objective(network, block, list(zip(images.split(rows), labels.split(rows), strict=True)))


if __name__ == "__main__":
    typer.run(main)
