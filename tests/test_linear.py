import numpy as np
import pytest
from sklearn.linear_model import LinearRegression, Ridge

from skdeeptd._data.rows import RowBlocks
from skdeeptd._network.kernel_sizes import make_layout
from skdeeptd._network.network import blank_network, forward
from skdeeptd._solvers.linear import linear_network

MANY, FEW = (60, 9), (12, 30)  # rows and features: by the features, by the rows


def regression_data(shape, seed=0, dtype=float):
    """Correlated features of unequal size and mean, a target and weights."""
    rng = np.random.default_rng(seed)
    n_rows, n_features = shape
    X = rng.standard_normal(shape) @ rng.standard_normal((n_features, n_features))
    X = X * rng.uniform(0.5, 2, n_features) + rng.standard_normal(n_features)
    y = X[:, 0] + rng.standard_normal(n_rows) + 3
    return X.astype(dtype), y, rng.uniform(0.2, 2, n_rows)


def solve(X, y, weight=None, alpha=1.0, fit_intercept=True, blank=None):
    y = y.reshape(len(y), -1)
    if blank is None:
        layout = make_layout(X.shape[1], (X.shape[1],))
        blank = blank_network(layout, 1, ("identity",), n_heads=y.shape[1])
    weight = np.ones(len(y)) if weight is None else weight
    n_rows = np.count_nonzero(weight)
    return linear_network(RowBlocks(X, y, weight), n_rows, blank, alpha, fit_intercept)


def coefficients(network):
    """Return the coefficients of output 0, in patch order."""
    return network.heads[0, 0]


def outputs(network, X):
    return forward(network, X)[:, 0]


def ridge(X, y, weight, alpha, fit_intercept=True):
    model = Ridge(alpha=alpha, fit_intercept=fit_intercept, solver="cholesky")
    return model.fit(X, y, sample_weight=weight)


@pytest.mark.parametrize("n_outputs", [1, 3])
@pytest.mark.parametrize("fit_intercept", [True, False])
@pytest.mark.parametrize("weighted", [True, False])
@pytest.mark.parametrize("shape", [MANY, FEW])
def test_result_is_that_of_ridge(shape, weighted, fit_intercept, n_outputs):
    X, y, weight = regression_data(shape)
    y = y[:, np.newaxis] + 10 * X[:, :n_outputs]
    weight = weight if weighted else np.ones(len(y))
    found = solve(X, y, weight, 2.0, fit_intercept)
    expected = ridge(X, y, weight, 2.0, fit_intercept)
    coef = expected.coef_.reshape(n_outputs, -1)
    np.testing.assert_allclose(found.network.heads[:, 0], coef, rtol=1e-8)
    np.testing.assert_allclose(found.network.intercept, expected.intercept_, atol=1e-8)
    residual = y - expected.predict(X).reshape(y.shape)
    loss = np.sum(weight @ residual**2) + 2.0 * np.sum(expected.coef_**2)
    np.testing.assert_allclose(found.loss, loss, rtol=1e-8)
    assert found.converged
    assert found.n_iter == 1


@pytest.mark.parametrize("shape", [MANY, FEW])
def test_float32_features_lose_float32_digits_only(shape):
    X, y, weight = regression_data(shape, dtype=np.float32)
    network = solve(X, y, weight, 5.0).network
    expected = ridge(X.astype(float), y, weight, 5.0)
    size = np.abs(expected.coef_).max()
    np.testing.assert_allclose(
        coefficients(network), expected.coef_, rtol=0, atol=1e-4 * size
    )


@pytest.mark.parametrize(("n_rows", "input_shape"), [(40, (3, 5)), (6, (3, 5))])
def test_zeros_beyond_the_end_take_no_coefficient(n_rows, input_shape):
    layout = make_layout(15, ((3, 5),), input_shape)
    order = np.random.default_rng(2).permutation([*range(15), -1, -1, -1])
    blank = blank_network(layout, 1, ("identity",))
    blank = blank._replace(heads=np.zeros((1, 1, 18)), orders=(order,))
    X, y, weight = regression_data((n_rows, 15))
    network = solve(X, y, weight, blank=blank).network
    expected = ridge(X, y, weight, 1.0)
    beta = coefficients(network)
    np.testing.assert_array_equal(beta[order < 0], 0)
    known = order >= 0
    np.testing.assert_allclose(beta[known], expected.coef_[order[known]], rtol=1e-8)
    np.testing.assert_allclose(outputs(network, X), expected.predict(X), rtol=1e-9)


def shortest(X, y, weight, fit_intercept):
    model = LinearRegression(fit_intercept=fit_intercept)
    return model.fit(X, y, sample_weight=weight)


@pytest.mark.parametrize("fit_intercept", [True, False])
@pytest.mark.parametrize("shape", [MANY, FEW])
def test_without_a_penalty_it_is_least_squares(shape, fit_intercept):
    X, y, weight = regression_data(shape)
    found = solve(X, y, weight, 0.0, fit_intercept)
    expected = shortest(X, y, weight, fit_intercept)
    np.testing.assert_allclose(coefficients(found.network), expected.coef_, rtol=1e-6)
    np.testing.assert_allclose(outputs(found.network, X), expected.predict(X))


@pytest.mark.parametrize("sizes", [(1, 1, 1), (1, 2, 5)])
@pytest.mark.parametrize("n_rows", [50, 6])
def test_of_many_solutions_the_shortest_is_taken(n_rows, sizes):
    X, y, weight = regression_data((n_rows, 3))
    X = np.hstack([X * size for size in sizes])
    found = solve(X, y, weight, 0.0)
    Z = (X - np.average(X, axis=0, weights=weight)) * np.sqrt(weight)[:, np.newaxis]
    t = (y - np.average(y, weights=weight)) * np.sqrt(weight)
    beta, *_ = np.linalg.lstsq(Z, t, rcond=1e-10)
    np.testing.assert_allclose(coefficients(found.network), beta, rtol=1e-6)


@pytest.mark.parametrize("seed", range(10))
def test_features_that_are_nearly_one_get_no_huge_coefficients(seed):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((50, 3))
    X = np.hstack([x, x * (1 + 1e-7 * rng.standard_normal((50, 3)))])
    y = x[:, 0] + rng.standard_normal(50)
    network = solve(X, y, alpha=0.0).network
    expected = LinearRegression().fit(x, y)
    np.testing.assert_allclose(outputs(network, X), expected.predict(x), atol=1e-5)
    assert np.abs(coefficients(network)).max() < 2


def test_correlated_features_lose_few_digits():
    X, y, _ = regression_data(MANY)
    X[:, 1] = X[:, 0] + 1e-2 * X[:, 1]
    Z, t = X - X.mean(axis=0), y - y.mean()
    expected, *_ = np.linalg.lstsq(Z, t, rcond=None)
    beta = coefficients(solve(X, y, alpha=0.0).network)
    np.testing.assert_allclose(beta, expected, rtol=1e-9)


@pytest.mark.parametrize("alpha", [0.0, 1.0])
@pytest.mark.parametrize("shape", [MANY, FEW])
def test_constant_features_take_no_coefficient(shape, alpha):
    X, y, weight = regression_data(shape)
    X[:, [1, 4]] = 7.5, 0.0
    network = solve(X, y, weight, alpha).network
    beta = coefficients(network)
    assert np.abs(beta[[1, 4]]).max() <= 1e-12 * np.abs(beta).max()
    others = np.delete(X, [1, 4], axis=1)
    expected = (
        ridge(others, y, weight, alpha) if alpha else shortest(others, y, weight, True)
    )
    np.testing.assert_allclose(outputs(network, X), expected.predict(others), rtol=1e-7)


@pytest.mark.parametrize("n_features", [1, 4])
@pytest.mark.parametrize("alpha", [0.0, 1.0])
def test_one_row_is_met_by_the_intercept(n_features, alpha):
    X = np.arange(1.0, n_features + 1)[np.newaxis]
    found = solve(X, np.array([2.5]), alpha=alpha)
    np.testing.assert_array_equal(coefficients(found.network), 0)
    assert found.network.intercept == 2.5
    assert found.loss == 0


@pytest.mark.parametrize("n_features", [1, 4])
def test_one_row_without_an_intercept_is_met_by_its_direction(n_features):
    x = np.arange(1.0, n_features + 1)
    network = solve(x[np.newaxis], np.array([2.5]), None, 0.5, False).network
    np.testing.assert_allclose(coefficients(network), 2.5 * x / (x @ x + 0.5))
    assert network.intercept == 0


@pytest.mark.parametrize("shape", [MANY, FEW])
def test_rows_of_weight_zero_count_for_nothing(shape):
    X, y, weight = regression_data(shape)
    weight[::3] = 0
    counted = weight > 0
    with_zeros = solve(X, y, weight)
    without = solve(X[counted], y[counted], weight[counted])
    np.testing.assert_allclose(
        coefficients(with_zeros.network), coefficients(without.network), rtol=1e-9
    )
    np.testing.assert_allclose(with_zeros.loss, without.loss, rtol=1e-9)


@pytest.mark.parametrize("shape", [MANY, FEW])
def test_a_large_mean_loses_no_digits(shape):
    X, y, weight = regression_data(shape)
    expected = solve(X, y, weight).network
    network = solve(X + 1e6, y + 1e6, weight).network
    np.testing.assert_allclose(
        coefficients(network), coefficients(expected), rtol=1e-6, atol=1e-8
    )


@pytest.mark.parametrize("far", [1e3, 1e4])
def test_a_first_row_far_from_all_others_costs_float32_no_digits(far):
    X, y, weight = regression_data((2000, 9), dtype=np.float32)
    X[0], y[0], weight[0] = far, far, 1e-3
    network = solve(X, y, weight, 0.0).network
    expected = solve(X.astype(float), y, weight, 0.0).network
    size = np.abs(coefficients(expected)).max()
    np.testing.assert_allclose(
        coefficients(network), coefficients(expected), rtol=0, atol=1e-5 * size
    )
    assert network.intercept == pytest.approx(expected.intercept, rel=1e-5)


@pytest.mark.parametrize("shape", [MANY, FEW])
def test_squares_that_overflow_are_refused(shape):
    X, y, weight = regression_data(shape)
    with pytest.raises(FloatingPointError, match="squares of X overflow"):
        solve(X * 1e200, y, weight)


def test_normal_equations_that_do_not_fit_in_memory_are_refused():
    X = np.broadcast_to(0.0, (40_000, 30_000))
    with pytest.raises(ValueError, match="GiB"):
        solve(X, np.zeros(len(X)))
