import numpy as np

from skdeeptd._moments import cross_moment
from skdeeptd._rows import RowBlocks


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
