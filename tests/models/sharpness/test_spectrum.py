"""Eigenvalues, densities and traces of symmetric operators against dense linear algebra."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from models.sharpness import spectrum as module
from models.sharpness.lanczos import Lanczos
from models.sharpness.spectrum import density, spectrum
from models.sharpness.trace import SIGMAS, hutchinson, total
from reports.records.sharpness import Trace
from tests.models import tiny


def traced(value, standard_error, probes, stopped_by):
    return Trace(value=value, standard_error=standard_error, probes=probes, stopped_by=stopped_by)


class Matrix:
    """A dense symmetric operator that counts its products."""

    def __init__(self, entries):
        self.entries = entries
        self.shape, self.dtype, self.device = tuple(entries.shape), entries.dtype, entries.device
        self.products = 0

    def __matmul__(self, vector):
        self.products += 1
        return self.entries @ vector


def with_eigenvalues(values, seed=0):
    generator = torch.Generator().manual_seed(seed)
    basis = torch.linalg.qr(torch.randn(len(values), len(values), dtype=torch.float64, generator=generator)).Q
    entries = basis @ torch.diag(torch.as_tensor(values, dtype=torch.float64)) @ basis.T
    return Matrix((entries + entries.T) / 2)


def actual(operator, **changes):
    given = {"count": 5, "tolerance": 1e-9, "least": 16, "most": 200} | changes
    return spectrum(operator, torch.Generator().manual_seed(1), **given)


@settings(deadline=None, max_examples=40)
@given(
    values=st.lists(
        st.sampled_from([-3.0, -1e-6, 0.0, 1e-9, 0.5, 2.0, 2.0 + 1e-9, 7.0]) | st.floats(-5, 5), min_size=1, max_size=24
    ),
    seed=st.integers(0, 9),
)
def test_small_operators_are_diagonalised_whole_however_often_values_repeat(values, seed):
    result = actual(with_eigenvalues(values, seed))
    wanted = sorted(values, reverse=True)[:5]
    scale = max(map(abs, values))
    np.testing.assert_allclose(result.values, wanted, rtol=0, atol=1e-12 * scale + 1e-300)
    assert max(result.residuals) <= 1e-12 * scale + 1e-300
    assert result.values == sorted(result.values, reverse=True)
    assert sum(result.weights) == pytest.approx(1, abs=1e-12)


def test_large_operators_stop_once_the_largest_are_found_and_tell_the_true_residual(monkeypatch):
    monkeypatch.setattr(module, "EXACT_UP_TO", 10)
    values = [9.0, 7.0, 6.5, 5.0, 4.0, *np.linspace(-2, 1, 295)]
    operator = with_eigenvalues(values)
    rough = actual(operator, tolerance=1e-2)
    assert 16 <= operator.products < 60
    for value, residual, vector in zip(rough.values, rough.residuals, rough.vectors, strict=True):
        assert (operator.entries @ vector - value * vector).norm().item() == pytest.approx(
            residual, rel=1e-6, abs=1e-13
        )
        assert residual <= 1e-2 * 9
        assert vector[vector.abs().argmax()] > 0
    exact = actual(operator, tolerance=1e-10)
    np.testing.assert_allclose(exact.values, values[:5], rtol=1e-13)
    capped = actual(operator, tolerance=1e-10, most=17)
    assert max(capped.residuals) > 1e-6


def test_the_basis_stays_orthonormal_past_convergence_and_through_exhaustion():
    operator = with_eigenvalues([5.0] * 3 + [1.0] * 3 + [0.0] * 14)
    run = Lanczos(operator, torch.Generator().manual_seed(0), 20)
    for _ in range(20):
        run.step()
    torch.testing.assert_close(run.basis @ run.basis.T, torch.eye(20, dtype=torch.float64), rtol=0, atol=1e-13)
    np.testing.assert_allclose(
        torch.linalg.eigvalsh(run.projected()), sorted([5.0] * 3 + [1.0] * 3 + [0.0] * 14), atol=1e-12
    )


def test_quadrature_has_the_moments_of_its_first_vector():
    operator = with_eigenvalues(np.linspace(-1, 3, 40))
    run = Lanczos(operator, torch.Generator().manual_seed(0), 6)
    for _ in range(6):
        run.step()
    nodes, weights = map(np.array, run.quadrature())
    start, power = run.basis[0], run.basis[0]
    for degree in range(12):
        assert (weights * nodes**degree).sum() == pytest.approx(torch.dot(start, power).item(), rel=1e-9)
        power = operator.entries @ power


def test_density_integrates_to_one_and_has_its_mass_where_the_eigenvalues_are():
    values = [10.0] * 20 + [0.0] * 60
    operator = with_eigenvalues(values)
    measures = []
    for seed in range(40):
        run = Lanczos(operator, torch.Generator().manual_seed(seed), 16)
        for _ in range(16):
            run.step()
        measures.append(run.quadrature())
    result = density(measures, 16)
    grid, heights = np.array(result.grid), np.array(result.density)
    assert np.trapezoid(heights, grid) == pytest.approx(1, abs=0.01)
    assert np.trapezoid(heights[grid > 5], grid[grid > 5]) == pytest.approx(0.25, abs=0.05)
    assert (result.probes, result.steps) == (40, 16)
    single = density([([0.0], [1.0])], 1)
    assert np.isfinite(single.density).all()


@pytest.mark.parametrize("name", ["dense", "top_k", "expert_choice"])
def test_error_bars_hold_the_trace_as_often_as_stated(name):
    model = tiny.classifier(name)
    exact = tiny.brute_force(model)
    operator, trace = Matrix(exact), exact.trace().item()
    result = actual(operator)
    held, values, errors, seeds = 0, [], [], 100
    for seed in range(seeds):
        estimate = hutchinson(
            operator,
            result.known,
            result.known_vectors,
            torch.Generator().manual_seed(seed),
            relative_error=0.02,
            most=60,
        )
        values.append(estimate.value)
        errors.append(estimate.standard_error)
        held += abs(estimate.value - trace) <= SIGMAS * estimate.standard_error
    assert 0.9 <= held / seeds <= 0.99
    assert abs(np.mean(values) - trace) <= 4 * np.mean(errors) / seeds**0.5


def test_what_is_known_takes_variance_away_and_leaves_no_bias():
    operator = with_eigenvalues([50.0, 30.0, 20.0, *np.linspace(0, 1, 60)])
    result = actual(operator)
    estimates = {"plain": ([], result.known_vectors[:0]), "known": (result.known, result.known_vectors)}
    errors = {
        name: hutchinson(operator, *known, torch.Generator().manual_seed(0), relative_error=1e-9, most=30)
        for name, known in estimates.items()
    }
    assert errors["known"].standard_error < 0.2 * errors["plain"].standard_error
    assert {trace.stopped_by for trace in errors.values()} == {"cap"}
    assert abs(errors["known"].value - 130) < 4 * errors["known"].standard_error


def test_probes_stop_at_the_error_or_at_the_cap():
    operator = with_eigenvalues(np.linspace(1, 2, 50))
    few = hutchinson(
        operator, [], torch.zeros(0, 50, dtype=torch.float64), torch.Generator(), relative_error=0.2, most=90
    )
    assert (few.probes, few.stopped_by) == (12, "error")
    many = hutchinson(
        operator, [], torch.zeros(0, 50, dtype=torch.float64), torch.Generator(), relative_error=1e-6, most=15
    )
    assert (many.probes, many.stopped_by) == (15, "cap")
    nothing = hutchinson(
        Matrix(torch.zeros(9, 9, dtype=torch.float64)),
        [0.0],
        torch.eye(9, dtype=torch.float64)[:1],
        torch.Generator(),
        relative_error=0.1,
        most=50,
    )
    assert nothing == traced(0.0, 0.0, 12, "error")


def test_traces_of_parts_add_up():
    whole = total([traced(3.0, 0.3, 12, "error"), traced(1.0, 0.4, 20, "cap")], 0.1)
    assert whole == traced(4.0, 0.5, 32, "cap")
    assert total([traced(30.0, 0.3, 12, "error"), traced(1.0, 0.4, 20, "cap")], 0.1).stopped_by == "error"
    assert math.isclose(whole.standard_error, 0.5)
    cancelling = total([traced(100.0, 5.0, 12, "error"), traced(-98.0, 4.9, 12, "error")], 0.05)
    assert cancelling.stopped_by == "cap"
    assert total([traced(0.0, 0.0, 12, "error"), traced(0.0, 0.0, 12, "error")], 0.05).stopped_by == "error"
