import numpy as np
import pytest
from sklearn.cross_decomposition import PLSRegression
from sklearn.linear_model import LinearRegression

from skdeeptd._data.moments import cross_moment, whitened_moment
from skdeeptd._data.rows import RowBlocks


def centred_data(n_outputs=2):
    rng = np.random.default_rng(0)
    X = rng.standard_normal((40, 6)) + 3
    y = rng.standard_normal((40, n_outputs)) + X[:, :1]
    weight = rng.random(40)
    return X, y - np.average(y, axis=0, weights=weight), weight


def test_moment_equals_explicit_loops():
    X, y, weight = centred_data()
    expected = np.zeros((2, 6))
    for i in range(40):
        for output in range(2):
            for feature in range(6):
                expected[output, feature] += (
                    weight[i] * y[i, output] * X[i, feature] / weight.sum()
                )
    np.testing.assert_allclose(
        cross_moment(RowBlocks(X, y, weight)), expected, rtol=1e-12
    )


def test_moment_is_a_covariance_that_ignores_the_mean_of_x():
    X, y, weight = centred_data(1)
    expected = np.cov(np.column_stack([y, X]).T, aweights=weight, ddof=0)[0, 1:]
    np.testing.assert_allclose(
        cross_moment(RowBlocks(X, y, weight))[0], expected, rtol=1e-12
    )
    np.testing.assert_allclose(
        cross_moment(RowBlocks(X + 1e3, y, weight))[0], expected, rtol=1e-9
    )


def test_float32_blocks_are_added_in_float64():
    X, y, weight = centred_data()
    single = cross_moment(RowBlocks(X.astype(np.float32), y, weight))
    assert single.dtype == np.float64
    np.testing.assert_allclose(
        single, cross_moment(RowBlocks(X, y, weight)), rtol=1e-5, atol=1e-6
    )


def correlated_rows(n_rows=80, n_features=12):
    rng = np.random.default_rng(0)
    X = 5 + np.cumsum(rng.standard_normal((n_rows, n_features)), axis=1)
    y, weight = X @ rng.standard_normal(n_features), rng.random(n_rows)
    y = y + rng.standard_normal(n_rows)
    return X, y - np.average(y, weights=weight), weight


def test_all_steps_whiten_to_the_coefficients_of_least_squares():
    X, y, weight = correlated_rows()
    rows = RowBlocks(X, y[:, None], weight)
    moment = cross_moment(rows)[0]
    found = whitened_moment(rows, moment, n_steps=60)
    expected = LinearRegression().fit(X, y, weight).coef_
    np.testing.assert_allclose(found, expected, rtol=1e-6)


@pytest.mark.parametrize("n_steps", [1, 3])
def test_few_steps_whiten_to_the_coefficients_of_partial_least_squares(n_steps):
    X, y, _ = correlated_rows()
    y = y - y.mean()
    rows = RowBlocks(X, y[:, None], np.ones(len(y)))
    moment = cross_moment(rows)[0]
    found = whitened_moment(rows, moment, n_steps)
    expected = PLSRegression(n_steps, scale=False).fit(X, y).coef_[0]
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_what_cannot_be_whitened_is_left_as_it_is():
    rows = RowBlocks(np.ones((5, 3)), np.arange(5.0)[:, None], np.ones(5))
    moment = np.array([1.0, 2.0, 3.0])
    np.testing.assert_array_equal(whitened_moment(rows, moment, 5), moment)
