"""Losses: derivatives by differences, curvatures as explicit matrices, a new loss."""

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.stats import norm
from sklearn.linear_model import GammaRegressor

from skdeeptd._data.rows import RowBlocks
from skdeeptd._loss import (
    Binomial,
    Huber,
    Multinomial,
    Poisson,
    SquaredError,
    huber_consistency,
)
from skdeeptd._network.kernel_sizes import make_layout
from skdeeptd._network.network import blank_network, forward
from skdeeptd._network.parameters import pack, unpack
from skdeeptd._solvers.gauss_newton import gauss_newton

LOSSES = {
    "squared": (SquaredError(), 1),
    "squared, 3 outputs": (SquaredError(), 3),
    "huber": (Huber(0.7), 1),
    "huber, 3 outputs": (Huber(0.7), 3),
    "poisson": (Poisson(), 1),
    "poisson, 3 outputs": (Poisson(), 3),
    "binomial": (Binomial(), 1),
    "multinomial, 2 classes": (Multinomial(), 2),
    "multinomial, 4 classes": (Multinomial(), 4),
}
every_loss = pytest.mark.parametrize("name", LOSSES)


def drawn(name, n_rows=30, seed=0):
    """The loss, targets that it allows, and outputs of a network."""
    loss, n_outputs = LOSSES[name]
    rng = np.random.default_rng(seed)
    raw = 1.5 * rng.standard_normal((n_rows, n_outputs))
    if isinstance(loss, Poisson):
        y = rng.poisson(np.exp(raw)).astype(float)
    elif isinstance(loss, Multinomial):
        y = np.eye(n_outputs)[rng.integers(n_outputs, size=n_rows)]
    elif isinstance(loss, Binomial):
        y = rng.integers(2, size=(n_rows, 1)).astype(float)
    else:
        y = raw + rng.standard_normal(raw.shape)
    return loss, y, raw


def matrix(loss, curvature, i, n_outputs):
    """C of row i, (Q, Q), from the definition."""
    if curvature is None:
        return np.eye(n_outputs)
    if isinstance(loss, Multinomial):
        return np.diag(curvature[i]) - np.outer(curvature[i], curvature[i])
    return np.diag(curvature[i])


def derivatives(function, raw, step=1e-5):
    """By central differences with respect to each output, (rows, ..., Q)."""
    shifts = step * np.eye(raw.shape[1])
    columns = [(function(raw + s) - function(raw - s)) / (2 * step) for s in shifts]
    return np.stack(columns, axis=-1)


def value_by_definition(loss, y, raw):
    if isinstance(loss, Multinomial):
        p = np.exp(raw) / np.exp(raw).sum(axis=1, keepdims=True)
        return -2 * np.log(np.sum(y * p, axis=1))
    if isinstance(loss, Binomial):
        p = 1 / (1 + np.exp(-raw))
        return -2 * np.log(np.where(y == 1, p, 1 - p)).sum(axis=1)
    if isinstance(loss, Poisson):
        mean, of_y = np.exp(raw), np.where(y > 0, y, 1)
        return 2 * np.sum(
            np.where(y > 0, y * np.log(of_y / mean), 0) - y + mean, axis=1
        )
    error = np.abs(y - raw)
    if isinstance(loss, Huber):
        t = loss.threshold
        return np.sum(np.where(error <= t, error**2, 2 * t * error - t**2), axis=1)
    return np.sum(error**2, axis=1)


@every_loss
def test_value_is_that_of_the_definition(name):
    loss, y, raw = drawn(name)
    value, residual, _ = loss.evaluate(y, raw)
    assert value.shape == (30,)
    assert residual.shape == raw.shape
    np.testing.assert_allclose(value, value_by_definition(loss, y, raw), rtol=1e-10)


@every_loss
def test_residual_is_minus_half_the_slope_of_the_value(name):
    loss, y, raw = drawn(name)
    slope = derivatives(lambda raw: loss.evaluate(y, raw)[0], raw)
    np.testing.assert_allclose(loss.evaluate(y, raw)[1], -slope / 2, atol=1e-8)


@every_loss
def test_curvature_is_half_the_second_derivative_or_bounds_it(name):
    loss, y, raw = drawn(name)
    curvature = loss.evaluate(y, raw)[2]
    second = -derivatives(lambda raw: loss.evaluate(y, raw)[1], raw)
    for i, half in enumerate(second):
        C = matrix(loss, curvature, i, raw.shape[1])
        if isinstance(loss, Huber):
            assert np.linalg.eigvalsh(C - half).min() > -1e-8
        else:
            np.testing.assert_allclose(C, half, atol=1e-8)


@every_loss
def test_roots_entries_and_products_are_those_of_the_explicit_matrix(name):
    loss, y, raw = drawn(name)
    curvature, Q = loss.evaluate(y, raw)[2], raw.shape[1]
    table = np.random.default_rng(1).standard_normal((30, Q, 5))
    half = table.copy()
    factor = loss.multiply_by_root(curvature, half)
    for i in range(30):
        C = matrix(loss, curvature, i, Q)
        np.testing.assert_allclose(
            half[i].T @ half[i], table[i].T @ C @ table[i], atol=1e-12
        )
        towards = factor[i][:, np.newaxis] * half[i]
        np.testing.assert_allclose(towards, C @ table[i], atol=1e-12)
        if curvature is None:
            continue
        np.testing.assert_allclose(loss.diagonal(curvature)[i], C.diagonal())
        if loss.couples_outputs:
            moved = loss.times(curvature, table[:, :, 0])[i]
            np.testing.assert_allclose(moved, C @ table[i, :, 0], atol=1e-12)


@every_loss
def test_roots_keep_the_precision_of_the_table(name):
    loss, y, raw = drawn(name)
    table = np.ones((30, raw.shape[1], 2), np.float32)
    factor = loss.multiply_by_root(loss.evaluate(y, raw)[2], table)
    assert factor.dtype == np.float32


@pytest.mark.parametrize("threshold", [0.1, 1.0, 30.0])
def test_the_parabola_at_any_point_bounds_hubers_loss(threshold):
    """So that a step to the minimum of the parabola never raises the loss."""
    loss, grid = Huber(threshold), np.linspace(-5, 5, 101)[:, np.newaxis]
    y = np.zeros_like(grid)
    value = loss.evaluate(y, grid)[0]
    for at in grid:
        at_point = np.full_like(grid, at[0])
        of_point, residual, curvature = loss.evaluate(y, at_point)
        step = (grid - at)[:, 0]
        parabola = of_point - 2 * residual[:, 0] * step + curvature[:, 0] * step**2
        assert np.all(value <= parabola + 1e-12)


def test_hubers_loss_is_the_square_if_no_residual_is_large():
    _, y, raw = drawn("squared")
    for mine, square in zip(
        Huber(1e3).evaluate(y, raw)[:2],
        SquaredError().evaluate(y, raw)[:2],
        strict=True,
    ):
        np.testing.assert_allclose(mine, square, rtol=1e-12)


@pytest.mark.parametrize("epsilon", [0.3, 1.35, 4.0])
def test_consistency_is_the_mean_of_clipped_normal_squares(epsilon):
    expected = norm.expect(lambda z: min(z**2, epsilon**2))
    np.testing.assert_allclose(huber_consistency(epsilon), expected, rtol=1e-7)


@every_loss
def test_large_outputs_overflow_nowhere_but_in_a_mean_of_counts(name):
    loss, y, raw = drawn(name)
    if isinstance(loss, Poisson):
        raw = np.minimum(1e4 * raw, 0)
    with np.errstate(over="raise", invalid="raise"):
        value, residual, _ = loss.evaluate(y, 1e4 * raw)
    assert np.all(np.isfinite(value))
    assert np.all(np.isfinite(residual))


def test_a_count_that_is_predicted_has_no_deviance():
    y = np.array([[0.0], [1.0], [7.0], [1e6]])
    raw = np.log(np.maximum(y, 1e-300))
    value, residual, _ = Poisson().evaluate(y, raw)
    assert np.all(value >= 0)
    assert np.all(value <= 1e-8)
    np.testing.assert_allclose(residual, 0, atol=1e-8)


@every_loss
def test_residual_is_target_minus_prediction(name):
    """All links are canonical; Huber's residual is clipped."""
    loss, y, raw = drawn(name)
    residual, error = loss.evaluate(y, raw)[1], y - loss.mean(raw)
    if isinstance(loss, Huber):
        error = np.clip(error, -loss.threshold, loss.threshold)
    np.testing.assert_allclose(residual, error, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("name", ["squared", "huber", "poisson", "poisson, 3 outputs"])
def test_mean_derivative_is_that_of_the_mean(name):
    loss, _, raw = drawn(name)
    step = 1e-6
    expected = (loss.mean(raw + step) - loss.mean(raw - step)) / (2 * step)
    np.testing.assert_allclose(loss.mean_derivative(raw), expected, rtol=1e-7)


class GammaDeviance(SquaredError):
    """A loss that the package does not know, with a log link."""

    is_quadratic = False

    def evaluate(self, y, raw):
        ratio = y * np.exp(-raw)
        value = 2 * np.sum(ratio - np.log(ratio) - 1, axis=1)
        return value, ratio - 1, ratio

    def mean(self, raw):
        return np.exp(raw)


def test_a_new_loss_on_a_linear_network_is_the_regression_of_its_name():
    rng = np.random.default_rng(0)
    X = rng.standard_normal((200, 6))
    y = np.exp(0.5 * X @ rng.standard_normal(6)) * rng.gamma(2, 0.5, 200)
    blank = blank_network(make_layout(6, (6,)), 1, ("identity",))
    rows = RowBlocks(X, y[:, np.newaxis], np.ones(200))
    found = gauss_newton(
        blank, rows, GammaDeviance(), alpha=4.0, max_iter=100, tol=1e-14
    )
    expected = GammaRegressor(alpha=4 / 200, tol=1e-9, solver="newton-cholesky")
    expected.fit(X, y)
    assert found.converged
    np.testing.assert_allclose(found.network.heads.ravel(), expected.coef_, rtol=1e-6)
    np.testing.assert_allclose(
        found.network.intercept, [expected.intercept_], rtol=1e-6
    )


@pytest.mark.parametrize("n_outputs", [1, 3])
def test_a_new_loss_is_minimised_with_no_other_change(n_outputs):
    layout = make_layout(12, (4, 3))
    rng = np.random.default_rng(1)
    blank = blank_network(layout, 2, ("tanh", "identity"), True, n_outputs)
    truth = unpack(rng.standard_normal(pack(blank).shape), blank)
    truth = truth._replace(heads=rng.standard_normal(blank.heads.shape))
    X = rng.standard_normal((400, 12))
    y = np.exp(forward(truth, X)) * rng.gamma(2, 0.5, (400, n_outputs))
    start = unpack(pack(truth) + 0.3 * rng.standard_normal(pack(blank).shape), blank)
    loss, rows = GammaDeviance(), RowBlocks(X, y, np.ones(400))
    found = gauss_newton(start, rows, loss, max_iter=200, tol=1e-10)
    assert found.converged
    of_start = np.sum(loss.evaluate(y, forward(truth, X))[0])
    assert found.loss < of_start

    def moved(theta):
        hidden, heads, intercept = np.split(
            theta, np.cumsum([pack(blank).size, blank.heads.size])
        )
        network = unpack(hidden.reshape(pack(blank).shape), blank)
        return network._replace(
            heads=heads.reshape(blank.heads.shape), intercept=intercept
        )

    def objective(theta):
        return np.sum(loss.evaluate(y, forward(moved(theta), X))[0])

    network = found.network
    theta = np.concatenate(
        [pack(network).ravel(), network.heads.ravel(), network.intercept]
    )
    np.testing.assert_allclose(objective(theta), found.loss, rtol=1e-9)
    further = minimize(objective, theta, method="L-BFGS-B")
    assert further.fun > found.loss * (1 - 1e-4)
