import numpy as np
import pytest
from skdeeptd._model.network import blank_network, forward
from skdeeptd._model.parameters import normalize, pack, unpack
from skdeeptd._solver.readout import loo_alpha, readout_features
from skdeeptd._solver.ridge import penalties
from sklearn.linear_model import Ridge

from skdeeptd._data.rows import RowBlocks
from skdeeptd._network.kernel_sizes import make_layout


def random_problem(n_rows, seed=0, n_filters=2):
    rng = np.random.default_rng(seed)
    layout = make_layout(14, (4, -1), strides=2)
    blank = blank_network(layout, n_filters, ("relu", "identity"), hidden_bias=True)
    network = normalize(unpack(rng.standard_normal(len(pack(blank))), blank))
    X = rng.standard_normal((n_rows, 14))
    return network, X, forward(network, X) + 4 * rng.standard_normal(n_rows) + 3


def test_features_and_last_kernels_make_the_output():
    network, X, _ = random_problem(9)
    readout = (network.scales[:, np.newaxis] * network.kernels[-1]).ravel()
    output = network.intercept + readout_features(network, X) @ readout
    np.testing.assert_allclose(output, forward(network, X), rtol=1e-12)


@pytest.mark.parametrize("fit_intercept", [True, False])
@pytest.mark.parametrize("n_rows", [40, 9])
def test_penalty_is_the_best_of_refits_without_each_row(n_rows, fit_intercept):
    network, X, y = random_problem(n_rows)
    weight = np.random.default_rng(1).uniform(0.5, 2, n_rows)
    found = loo_alpha(network, RowBlocks(X, y, weight), fit_intercept)
    F = readout_features(network, X)
    share = weight / weight.sum() * fit_intercept
    centred = (F - share @ F) * np.sqrt(weight)[:, np.newaxis]
    alphas = penalties(np.linalg.norm(centred, 2, keepdims=True) ** 2)
    errors = []
    for alpha in alphas:
        ridge = Ridge(alpha, fit_intercept=fit_intercept, solver="svd")
        missed = 0.0
        for i in range(n_rows):
            others = np.arange(n_rows) != i
            ridge.fit(F[others], y[others], weight[others])
            missed += weight[i] * (y[i] - ridge.predict(F[[i]])[0]) ** 2
        errors.append(missed)
    np.testing.assert_allclose(found, alphas[np.argmin(errors)], rtol=1e-9)


def test_rows_of_weight_zero_are_absent():
    network, X, y = random_problem(30)
    weight = np.repeat([1.0, 0.0], 15)
    found = loo_alpha(network, RowBlocks(X, y, weight), True)
    assert found == loo_alpha(network, RowBlocks(X[:15], y[:15], weight[:15]), True)


def test_features_that_do_not_vary_need_no_penalty():
    network, X, y = random_problem(20)
    X[:] = X[0]
    assert loo_alpha(network, RowBlocks(X, y, np.ones(20)), True) == 0
