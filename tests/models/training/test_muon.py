import numpy as np
import pytest
import torch
from torch import Tensor, nn

from models.training.muon import Muon, orthogonalised

A, B, C = 3.4445, -4.7750, 2.0315


def matrix(rows: int, columns: int, smallest: float) -> tuple[Tensor, Tensor, np.ndarray, Tensor]:
    """Return a float64 matrix and its U (rows, r), singular values from 1 down to `smallest`, and V (columns, r)."""
    generator = torch.Generator().manual_seed(rows * columns)
    rank = min(rows, columns)
    u, v = (
        torch.linalg.qr(torch.randn(side, rank, dtype=torch.float64, generator=generator)).Q for side in (rows, columns)
    )
    values = np.geomspace(1, smallest, rank)
    return u @ torch.from_numpy(np.diag(values)) @ v.T, u, values, v


def quintic(values: np.ndarray) -> np.ndarray:
    """Return what five steps make of singular values, divided by their norm first."""
    values = values / np.linalg.norm(values)
    for _ in range(5):
        values = A * values + B * values**3 + C * values**5
    return values


@pytest.mark.parametrize("shape", [(16, 16), (12, 40), (40, 12), (1, 7), (7, 1)])
def test_singular_values_become_about_one_and_singular_vectors_stay(shape: tuple[int, int]) -> None:
    m, u, values, v = matrix(*shape, smallest=0.1)
    result = orthogonalised(m)
    assert np.all((quintic(values) > 0.65) & (quintic(values) < 1.25))
    assert np.allclose(np.linalg.svd(result.numpy(), compute_uv=False), np.sort(quintic(values))[::-1], atol=1e-9)
    assert np.allclose((u.T @ result @ v).numpy(), np.diag(quintic(values)), atol=1e-9)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-9), (torch.float32, 2e-3)])
@pytest.mark.parametrize("shape", [(24, 60), (60, 24)])
def test_small_singular_values_are_lifted_as_exactly(
    shape: tuple[int, int], dtype: torch.dtype, tolerance: float
) -> None:
    m, u, values, v = matrix(*shape, smallest=1e-6)
    result = orthogonalised(m.to(dtype)).double()
    assert np.allclose(result.numpy(), (u @ torch.from_numpy(np.diag(quintic(values))) @ v.T).numpy(), atol=tolerance)


def test_no_gradient_gives_no_direction() -> None:
    assert torch.equal(orthogonalised(torch.zeros(3, 5)), torch.zeros(3, 5))


def muon(weight: np.ndarray, gradients: list[np.ndarray], lr: float, momentum: float, nesterov: bool) -> np.ndarray:
    """Return a weight (O, ...) after Muon's steps, by the textbook iteration on the whole matrix."""
    buffer = np.zeros_like(weight)
    for gradient in gradients:
        buffer = momentum * buffer + gradient
        x = (gradient + momentum * buffer if nesterov else buffer).reshape(len(weight), -1)
        x = x / np.linalg.norm(x)
        for _ in range(5):
            gram = x @ x.T
            x = A * x + (B * gram + C * gram @ gram) @ x
        weight = weight * np.sqrt(len(weight)) / np.linalg.norm(weight) - lr * x.reshape(weight.shape)
    return weight


@pytest.mark.parametrize("shape", [(8, 3, 3, 3), (40, 2, 3, 3), (5, 9)])
@pytest.mark.parametrize("nesterov", [True, False])
def test_steps_are_those_of_the_definition(shape: tuple[int, ...], nesterov: bool) -> None:
    generator = np.random.default_rng(0)
    start, *gradients = (generator.normal(size=shape) for _ in range(4))
    weight = nn.Parameter(torch.from_numpy(start.copy()))
    if weight.ndim == 4:
        weight = nn.Parameter(weight.detach().contiguous(memory_format=torch.channels_last))
    optimizer = Muon([weight], lr=0.3, momentum=0.6, nesterov=nesterov)
    for gradient in gradients:
        weight.grad = torch.from_numpy(gradient.copy())
        optimizer.step()
    assert np.allclose(weight.detach().numpy(), muon(start, gradients, 0.3, 0.6, nesterov), atol=1e-9)


def test_a_weight_without_a_gradient_stays() -> None:
    weight = nn.Parameter(torch.ones(2, 2))
    Muon([weight], lr=1.0, momentum=0.5, nesterov=True).step()
    assert torch.equal(weight.detach(), torch.ones(2, 2))
