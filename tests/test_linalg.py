import numpy as np
import pytest

from skdeeptd._solvers.linalg import (
    damped_step,
    pseudo_inverse,
    solve,
    unit_diagonal,
)


def gram_of(rank, n=5, n_matrices=3, seed=0):
    """Matrices of unit diagonal."""
    factor = np.random.default_rng(seed).standard_normal((n_matrices, n, rank))
    factor /= np.linalg.norm(factor, axis=2, keepdims=True)
    return factor @ factor.swapaxes(1, 2)


@pytest.mark.parametrize("rank", [2, 5])
def test_the_pseudo_inverse_is_that_of_numpy(rank):
    gram = gram_of(rank)
    expected = np.linalg.pinv(gram, rcond=1e-10, hermitian=True)
    np.testing.assert_allclose(pseudo_inverse(gram), expected, atol=1e-8)


def test_the_pseudo_inverse_of_zeros_is_zero():
    np.testing.assert_array_equal(pseudo_inverse(np.zeros((2, 3, 3))), 0)


@pytest.mark.parametrize("ranks", [(5, 5), (2, 2), (5, 2)], ids=str)
def test_solutions_are_the_shortest_ones(ranks):
    gram = np.concatenate([gram_of(rank, n_matrices=1) for rank in ranks])
    targets = gram @ np.random.default_rng(1).standard_normal((2, 5, 2))
    found = solve(gram, targets)
    for A, b, x in zip(gram, targets, found, strict=True):
        expected = np.linalg.lstsq(A, b, rcond=1e-10)[0]
        np.testing.assert_allclose(x, expected, atol=1e-8)


def test_rounding_in_a_singular_matrix_makes_no_large_solution():
    gram = np.ones((1, 2, 2)) + 1e-12 * np.eye(2)
    found = solve(gram, np.array([[[1.0], [1.0 + 1e-6]]]))
    np.testing.assert_allclose(found.ravel(), 0.5, atol=1e-5)


def test_zeros_on_a_diagonal_scale_by_one():
    gram = np.stack([np.diag([4.0, 0.0, 9.0]), np.diag([0.0, -1e-20, 1.0])])
    np.testing.assert_array_equal(unit_diagonal(gram)[1], [[2, 1, 3], [1, 1, 1]])


@pytest.mark.parametrize("rank", [2, 5])
@pytest.mark.parametrize("damping", [1e-6, 1.0])
def test_a_damped_step_solves_its_system_and_predicts_the_decrease(rank, damping):
    rng = np.random.default_rng(2)
    jacobian, residual = rng.standard_normal((rank, 5)), rng.standard_normal(rank)
    hessian, gradient = jacobian.T @ jacobian, jacobian.T @ residual
    scale = rng.uniform(0.5, 2, 5)
    step, predicted = damped_step(hessian, gradient, damping, scale)
    damped = hessian + damping * np.diag(scale**2)
    np.testing.assert_allclose(damped @ step, gradient, atol=1e-9)
    left = residual - jacobian @ step
    np.testing.assert_allclose(predicted, residual @ residual - left @ left, rtol=1e-8)


def test_a_singular_system_without_damping_has_the_shortest_step():
    hessian, gradient = np.diag([2.0, 0.0]), np.array([4.0, 0.0])
    step, predicted = damped_step(hessian, gradient, 0.0, np.ones(2))
    np.testing.assert_allclose(step, [2, 0])
    assert predicted == pytest.approx(8)


def test_a_system_that_is_not_finite_has_no_step():
    hessian = np.diag([np.inf, 1.0])
    step, predicted = damped_step(hessian, np.ones(2), 1e-3, np.ones(2))
    np.testing.assert_array_equal(step, 0)
    assert predicted == 0
