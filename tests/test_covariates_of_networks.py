"""Networks with covariates: columns of X that no filter sees, with linear terms."""

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.linear_model import LinearRegression, PoissonRegressor, Ridge

from skdeeptd import DeepTDClassifier, DeepTDRegressor
from skdeeptd.datasets import make_patch_cnn_regression
from skdeeptd.metrics import kernel_similarity


def correlated_problem(seed, n_samples=200, kernel_sizes=(8, 8)):
    """Return signal, network outputs, covariates correlated with them, and kernels."""
    rng = np.random.RandomState(seed)
    S, outputs, kernels = make_patch_cnn_regression(
        n_samples, kernel_sizes, random_state=seed, return_kernels=True
    )
    C = rng.standard_normal((n_samples, 2)) * [1, 30] + [0, 500]
    C[:, 0] += outputs / outputs.std() + 0.3 * S[:, :5].sum(axis=1)
    return S, outputs / outputs.std(), C, kernels


@pytest.mark.parametrize("seed", range(5))
def test_kernels_and_coefficients_are_recovered_exactly(seed):
    S, outputs, C, kernels = correlated_problem(seed)
    y = outputs + C @ [3, -0.2] + 7
    model = DeepTDRegressor((8, 8), covariates=[0, -1], random_state=0)
    X = np.column_stack([C[:, 0], S, C[:, 1]])
    model.fit(X, y)
    np.testing.assert_allclose(kernel_similarity(model.kernels_, kernels), 1, atol=1e-9)
    np.testing.assert_allclose(model.covariate_coef_, [[3, -0.2]], rtol=1e-6)
    assert model.score(X, y) > 1 - 1e-12


def test_names_of_a_frame_say_the_same_as_indices():
    S, outputs, C, _ = correlated_problem(0)
    y = outputs + C @ [3, -0.2]
    frame = pd.DataFrame(S).add_prefix("at")
    frame.insert(3, "temperature", C[:, 0])
    frame["pressure"] = C[:, 1]
    by_name = DeepTDRegressor((8, 8), random_state=0)
    by_name.set_params(covariates=["pressure", "temperature"]).fit(frame, y)
    by_index = clone(by_name).set_params(covariates=[-1, 3]).fit(frame.to_numpy(), y)
    np.testing.assert_array_equal(by_name.covariate_indices_, [65, 3])
    np.testing.assert_array_equal(
        by_name.predict(frame), by_index.predict(frame.to_numpy())
    )


@pytest.mark.parametrize("n_features", [20, 80])
def test_a_linear_network_is_ridge_regression_after_projection(n_features):
    rng, alpha = np.random.RandomState(0), 2.0
    S, C = rng.standard_normal((60, n_features)), rng.standard_normal((60, 2))
    y = S[:, 0] + C @ [3, -2] + rng.standard_normal(60)
    X = np.column_stack([S, C])
    model = DeepTDRegressor((n_features,), covariates=[-2, -1], alpha=alpha)
    predicted = model.fit(X, y).predict(X)
    off = LinearRegression().fit(C, S)
    ridge = Ridge(alpha).fit(
        S - off.predict(C), y - LinearRegression().fit(C, y).predict(C)
    )
    expected = ridge.predict(S - off.predict(C))
    expected += LinearRegression().fit(C, y).predict(C)
    np.testing.assert_allclose(predicted, expected, rtol=1e-8, atol=1e-8)


def test_a_constant_and_a_repeated_covariate_change_nothing():
    S, outputs, C, _ = correlated_problem(1)
    y = outputs + 3 * C[:, 0]
    plain = DeepTDRegressor((8, 8), covariates=[-1], random_state=0)
    plain.fit(np.column_stack([S, C[:, 0]]), y)
    more = np.column_stack([S, C[:, 0], 2 * C[:, 0] + 1, np.full(len(S), 5.0)])
    with_more = clone(plain).set_params(covariates=[-3, -2, -1]).fit(more, y)
    np.testing.assert_allclose(
        with_more.predict(more), plain.predict(more[:, :-2]), rtol=1e-6, atol=1e-6
    )


@pytest.mark.parametrize("params", [{}, {"share_filters": True}, {"alpha": 1.0}])
def test_several_outputs_have_coefficients_each(params):
    S, outputs, C, _ = correlated_problem(2)
    Y = np.column_stack([outputs + C @ [3, -0.2], -2 * outputs + C @ [0, 0.1]])
    X = np.column_stack([S, C])
    model = DeepTDRegressor((8, 8), covariates=[-2, -1], random_state=0, **params)
    coef = model.fit(X, Y).covariate_coef_
    np.testing.assert_allclose(
        coef, [[3, -0.2], [0, 0.1]], atol=0.2 * bool(params) + 1e-6
    )


def test_standard_errors_cover_the_coefficients():
    inside, n_seeds = [], 20
    for seed in range(n_seeds):
        S, outputs, C, _ = correlated_problem(seed, 150, (4, 4))
        y = outputs + C @ [3, -0.2]
        y += np.random.RandomState(seed).standard_normal(len(y))
        model = DeepTDRegressor((4, 4), covariates=[-2, -1], random_state=0)
        model.fit(np.column_stack([S, C]), y)
        std = np.sqrt(np.diag(model.covariance_[0])[-3:-1])
        inside.append(np.abs(model.covariate_coef_[0] - [3, -0.2]) < 1.96 * std)
    assert 0.85 <= np.mean(inside) <= 1


def test_return_std_is_that_of_the_linear_model_if_the_network_is_linear():
    rng = np.random.RandomState(0)
    X = rng.standard_normal((60, 8))
    y = X @ rng.standard_normal(8) + rng.standard_normal(60)
    plain = DeepTDRegressor((8,)).fit(X, y)
    split = DeepTDRegressor((6,), covariates=[2, 5]).fit(X, y)
    for one, other in zip(
        plain.predict(X, return_std=True),
        split.predict(X, return_std=True),
        strict=True,
    ):
        np.testing.assert_allclose(one, other, rtol=1e-6)
    np.testing.assert_allclose(split.noise_variance_, plain.noise_variance_)


def test_counts_depend_on_covariates_like_in_poisson_regression():
    rng = np.random.RandomState(0)
    S, C = rng.standard_normal((400, 16)), rng.standard_normal((400, 1))
    y = rng.poisson(np.exp(0.5 * C[:, 0] + 1 + 0.3 * S[:, 0]))
    X = np.column_stack([S, C])
    model = DeepTDRegressor((16,), covariates=[-1], loss="poisson").fit(X, y)
    glm = PoissonRegressor(alpha=0, max_iter=1000, tol=1e-10).fit(X, y)
    np.testing.assert_allclose(model.predict(X), glm.predict(X), rtol=1e-4)


def test_huber_loss_limits_outliers_with_covariates():
    S, outputs, C, _ = correlated_problem(3)
    y = outputs + C @ [3, -0.2]
    y[::20] += 50
    model = DeepTDRegressor((8, 8), covariates=[-2, -1], loss="huber", random_state=0)
    model.fit(np.column_stack([S, C]), y)
    np.testing.assert_allclose(model.covariate_coef_, [[3, -0.2]], atol=1e-3)


@pytest.mark.parametrize("n_classes", [2, 3])
def test_classes_that_only_a_covariate_tells_apart(n_classes):
    rng = np.random.RandomState(0)
    S, C = rng.standard_normal((300, 16)), rng.standard_normal((300, 2))
    y = np.digitize(
        C[:, 1] + 0.2 * rng.standard_normal(300), [-0.5, 0.5][: n_classes - 1]
    )
    X = np.column_stack([S, C])
    model = DeepTDClassifier((4, 4), covariates=[-2, -1], random_state=0).fit(X, y)
    without = DeepTDClassifier((4, 4), random_state=0).fit(S, y)
    assert model.score(X, y) > 0.85 > without.score(S, y) + 0.1


@pytest.mark.parametrize("method", ["partial_fit", "dask"])
def test_streams_and_dask_refuse_covariates(method):
    S, y, C, _ = correlated_problem(0)
    X, model = np.column_stack([S, C]), DeepTDRegressor((8, 8), covariates=[-2, -1])
    if method == "partial_fit":
        with pytest.raises(ValueError, match="partial_fit"):
            model.partial_fit(X, y)
    else:
        array = pytest.importorskip("dask.array")
        from skdeeptd.dask import DaskDeepTDRegressor

        with pytest.raises(ValueError, match="dask"):
            DaskDeepTDRegressor(model).fit(array.from_array(X), array.from_array(y))
