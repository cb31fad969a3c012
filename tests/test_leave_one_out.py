import numpy as np
import pytest
from sklearn.linear_model import Ridge

from skdeeptd._data.rows import RowBlocks
from skdeeptd._network.kernel_sizes import make_layout
from skdeeptd._network.network import (
    blank_network,
    forward,
    head_features,
    hidden_forward,
)
from skdeeptd._network.parameters import normalize
from skdeeptd._solvers.leave_one_out import loo_alpha
from skdeeptd._solvers.ridge import penalties


def random_problem(n_rows, seed=0, n_filters=2, n_outputs=1):
    rng = np.random.default_rng(seed)
    layout = make_layout(14, (4, -1), strides=2)
    blank = blank_network(
        layout, n_filters, ("relu", "identity"), hidden_bias=True, n_heads=n_outputs
    )
    network = normalize(
        blank._replace(
            kernels=(rng.standard_normal((n_filters, 4)),),
            biases=(rng.standard_normal(n_filters),),
            heads=rng.standard_normal(blank.heads.shape),
        )
    )
    X = rng.standard_normal((n_rows, 14))
    y = forward(network, X)
    return network, X, y + 4 * rng.standard_normal(y.shape) + 3


def features_of(network, X):
    return head_features(network, hidden_forward(network, X), X)


@pytest.mark.parametrize("fit_intercept", [True, False])
@pytest.mark.parametrize("n_rows", [40, 9])
@pytest.mark.parametrize("n_outputs", [1, 2])
def test_penalty_is_the_best_of_refits_without_each_row(
    n_rows, fit_intercept, n_outputs
):
    network, X, y = random_problem(n_rows, n_outputs=n_outputs)
    weight = np.random.default_rng(1).uniform(0.5, 2, n_rows)
    found = loo_alpha(network, RowBlocks(X, y, weight), fit_intercept)
    F = features_of(network, X)
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
            missed += weight[i] * np.sum((y[i] - ridge.predict(F[[i]])[0]) ** 2)
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


def test_the_norms_of_hidden_kernels_count_in_the_penalty():
    network, X, y = random_problem(30)
    rows = RowBlocks(X, y, np.ones(30))
    longer = network._replace(
        kernels=tuple(5 * k for k in network.kernels),
        biases=tuple(5 * b for b in network.biases),
    )
    expected = loo_alpha(network, rows, True)
    assert expected > 0
    assert loo_alpha(longer, rows, True) == pytest.approx(expected)


def test_features_whose_squares_have_no_range_are_refused():
    network, X, y = random_problem(20)
    for size in (1e200, 1e-200):
        scaled = network._replace(biases=(size * network.biases[0],))
        rows = RowBlocks(size * X, y, np.ones(20))
        with pytest.raises(FloatingPointError, match="have no range"):
            loo_alpha(scaled, rows, True)
