import numpy as np
import pytest
from sklearn.cross_decomposition import PLSRegression
from sklearn.linear_model import LinearRegression

from skdeeptd._data.moments import centred_sums, cross_moment, whitened_moment
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


def explicit_sums(F, y, weight, fit_intercept):
    """CentredSums by loops over rows and columns, in extended precision."""
    F, y, weight = (a.astype(np.longdouble) for a in (F, y, weight))
    total = sum(weight)
    mean = sum(w * f for w, f in zip(weight, F, strict=True)) / total * fit_intercept
    y_mean = sum(w * t for w, t in zip(weight, y, strict=True)) / total * fit_intercept
    gram, cross = np.zeros((2, 2)), np.zeros((2, 3))
    squares = np.zeros(3)
    for w, f, t in zip(weight, F - mean, y - y_mean, strict=True):
        for i in range(2):
            gram[i] += np.array(w * f[i] * f, float)
            cross[i] += np.array(w * f[i] * t, float)
        squares += np.array(w * t**2, float)
    return [np.array(a, float) for a in (gram, cross, squares, mean, y_mean, total)]


def columns(X):
    """Two columns of X."""
    return X[:, [0, 1]] + X[:, [2, 3]]


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("fit_intercept", [True, False])
@pytest.mark.parametrize("far", [0.0, 1e4])
def test_centred_sums_equal_explicit_loops(far, fit_intercept, dtype):
    rng = np.random.default_rng(4)
    X = rng.standard_normal((5000, 4)) + 2 * fit_intercept
    y, weight = rng.standard_normal((5000, 3)) + 5, rng.uniform(0, 2, 5000)
    X[0], y[0], weight[0] = X[0] + far, y[0] + far, 1e-4
    weight[1::7] = 0
    X = X.astype(dtype)
    found = centred_sums(RowBlocks(X, y, weight), columns, fit_intercept)
    expected = explicit_sums(columns(X.astype(float)), y, weight, fit_intercept)
    tolerance = 1e-5 if dtype == np.float32 else 1e-12
    for name, value, wanted in zip(found._fields, found, expected, strict=True):
        size = np.abs(wanted).max()
        np.testing.assert_allclose(value, wanted, atol=tolerance * size, err_msg=name)
        assert np.asarray(value).dtype == np.float64


def test_centred_sums_of_a_large_mean_lose_few_digits():
    rng = np.random.default_rng(5)
    X, y = rng.standard_normal((300, 4)), rng.standard_normal((300, 3))
    plain = centred_sums(RowBlocks(X, y, np.ones(300)), columns, True)
    far = centred_sums(RowBlocks(X + 1e8, y + 1e8, np.ones(300)), columns, True)
    np.testing.assert_allclose(far.gram, plain.gram, rtol=1e-6, atol=1e-4)
    np.testing.assert_allclose(far.y_squares, plain.y_squares, rtol=1e-6)
    np.testing.assert_allclose(far.mean, plain.mean + 2e8, rtol=1e-12)


def test_a_first_row_near_the_mean_takes_one_pass():
    passes, rng = [], np.random.default_rng(6)
    X, y = rng.standard_normal((2000, 4)), rng.standard_normal((2000, 3))

    def counted(X):
        passes.append(len(X))
        return columns(X)

    centred_sums(RowBlocks(X, y, np.ones(2000)), counted, True)
    assert passes == [1, 2000]
    X[0], y[0] = 1e9, 1e9
    passes.clear()
    centred_sums(RowBlocks(X, y, np.ones(2000)), counted, True)
    assert passes == [1, 2000, 2000]


def test_a_constant_column_has_a_sum_of_squares_of_rounding_size():
    X, y = np.full((50, 4), 0.1), np.arange(150.0).reshape(50, 3)
    sums = centred_sums(RowBlocks(X, y, np.linspace(0.1, 1, 50)), columns, True)
    np.testing.assert_array_equal(sums.gram, 0)
    np.testing.assert_allclose(sums.mean, 0.2)
