"""Fits with Huber's loss, and when least squares says that it is called for."""

import warnings

import numpy as np
import pandas as pd
import pytest
from scipy.optimize import minimize

from skdeeptd import (
    DeepTDAutoRegressor,
    DeepTDRegressor,
    DeepTDRegressorCV,
    DeepTDRidge,
)
from skdeeptd._loss import Huber, huber_consistency
from skdeeptd.datasets import make_patch_cnn_regression

N, N_TEST = 200, 1000


def planted(seed, n_outliers=10, sizes=(4, 4), noise=0.2, **options):
    """Rows to fit, with outliers of 20 deviations, and rows of the truth."""
    X, y = make_patch_cnn_regression(N + N_TEST, sizes, random_state=seed, **options)
    rng, size = np.random.RandomState(500 + seed), y.std()
    noisy = y[:N] + noise * size * rng.standard_normal(y[:N].shape)
    rows = rng.choice(N, n_outliers, replace=False)
    noisy[rows] += 20 * size * rng.choice([-1.0, 1.0], (n_outliers, *y.shape[1:]))
    return X[:N], noisy, X[N:], y[N:]


def test_huber_is_under_a_parabola_that_touches_it():
    loss = Huber(1.5)
    y, raw = np.zeros((5, 1)), np.array([[-4.0], [-1.0], [0.0], [0.5], [7.0]])
    value, residual, curvature = loss.evaluate(y, raw)
    np.testing.assert_allclose(value, [9.75, 1, 0, 0.25, 18.75])
    step = 1e-6
    above, below = (loss.evaluate(y, raw + s)[0] for s in (step, -step))
    np.testing.assert_allclose(residual[:, 0], (below - above) / (4 * step), atol=1e-8)
    np.testing.assert_array_equal(curvature, 1)
    for change in np.linspace(-9, 9, 37):
        parabola = value - 2 * residual[:, 0] * change + change**2
        assert np.all(loss.evaluate(y, raw + change)[0] <= parabola + 1e-12)


def test_outliers_that_ruin_least_squares_leave_huber_near_the_truth():
    scores = []
    for seed in range(20):
        X, y, X_test, truth = planted(seed, sizes=(5, 4) if seed % 2 else (4, 4))
        model = DeepTDRegressor((5, 4) if seed % 2 else (4, 4), random_state=0)
        with pytest.warns(UserWarning, match="outliers"):
            plain = model.fit(X, y).score(X_test, truth)
        scores.append(
            [plain, model.set_params(loss="huber").fit(X, y).score(X_test, truth)]
        )
    plain, huber = np.transpose(scores)
    assert np.mean(plain) < 0
    assert np.count_nonzero(huber > 0.95) >= 18


def test_without_outliers_little_is_lost():
    ratios = []
    for seed in range(20):
        X, y, X_test, truth = planted(seed, 0)
        excess = [
            np.mean(
                (
                    DeepTDRegressor((4, 4), loss=loss, random_state=0)
                    .fit(X, y)
                    .predict(X_test)
                    - truth
                )
                ** 2
            )
            / np.var(truth)
            for loss in ("huber", "squared_error")
        ]
        ratios.append(excess)
    huber, plain = np.sum(ratios, axis=0)
    assert huber < 1.1 * plain  # 1.05 for many rows and seeds


def joint_objective(residual, scale, weight, epsilon):
    value = Huber(epsilon * scale).evaluate(residual[:, np.newaxis], 0)[0]
    return weight @ (huber_consistency(epsilon) * scale + value / scale)


@pytest.mark.parametrize("seed", range(3))
def test_the_gradient_of_the_objective_is_zero(seed):
    X, y, *_ = planted(seed, activation="tanh")  # which has no kinks
    weight = np.random.RandomState(seed).uniform(0.5, 2, N)
    model = DeepTDRegressor((4, 4), activation="tanh", tol=1e-13, random_state=0)
    model.set_params(loss="huber").fit(X, y, weight)
    first, last = (k[0, 0] for k in model.kernels_)
    first = first * model.gains_[0, 0, 0]

    def objective(change):
        hidden = np.tanh(X.reshape(N, 4, 4) @ (first + change[:4]))
        output = hidden @ (last + change[4:8]) * model.scales_[0, 0] * (1 + change[8])
        sigma = model.scale_[0] * (1 + change[9])
        residual = y - output - model.intercept_ - change[10]
        return joint_objective(residual, sigma, weight, 1.35)

    step = 1e-6 * np.eye(11)
    gradient = [(objective(s) - objective(-s)) / 2e-6 for s in step]
    largest = np.max(np.abs(gradient))
    assert largest < 1e-4 * N * model.scale_[0]


@pytest.mark.parametrize("fit_intercept", [True, False])
def test_one_linear_layer_is_what_a_general_optimiser_finds(fit_intercept):
    X, y, *_ = planted(0, sizes=(8,))
    model = DeepTDRegressor(
        (8,), loss="huber", tol=1e-12, fit_intercept=fit_intercept, random_state=0
    ).fit(X, y)

    def objective(theta):
        intercept = theta[8] * fit_intercept
        residual = y - X @ theta[:8] - intercept
        return joint_objective(residual, np.exp(theta[9]), np.ones(N), 1.35)

    start = np.append(np.zeros(9), np.log(np.std(y)))
    best = minimize(objective, start, options={"maxiter": 5000, "gtol": 1e-8})
    expected = X @ best.x[:8] + best.x[8] * fit_intercept
    np.testing.assert_allclose(model.predict(X), expected, atol=1e-4)
    np.testing.assert_allclose(model.scale_, np.exp(best.x[9]), rtol=1e-4)


def test_a_weight_is_a_repeated_row():
    X, y, X_test, _ = planted(1)
    counts = np.random.RandomState(0).randint(0, 3, N)
    counts[0] = 1
    model = DeepTDRegressor((4, 4), loss="huber", tol=1e-12, random_state=0)
    weighted = model.fit(X, y, counts).predict(X_test)
    scale = model.scale_
    rows = np.repeat(np.arange(N), counts)
    repeated = model.fit(X[rows], y[rows]).predict(X_test)
    np.testing.assert_allclose(weighted, repeated, atol=1e-5 * np.std(weighted))
    np.testing.assert_allclose(scale, model.scale_, rtol=1e-5)


def test_every_output_has_a_scale_of_its_own():
    X, y, X_test, _ = planted(2)
    Y = np.column_stack([y, 1e3 * planted(2, noise=0.5)[1]])
    model = DeepTDRegressor((4, 4), loss="huber", tol=1e-13, random_state=0)
    together = model.fit(X, Y).predict(X_test)
    scales = model.scale_
    assert scales.shape == (2,)
    for output, column in enumerate(Y.T):
        alone = model.fit(X, column).predict(X_test)
        size = np.std(alone)
        np.testing.assert_allclose(together[:, output], alone, atol=1e-4 * size)
        np.testing.assert_allclose(model.scale_, scales[output], rtol=1e-4)


def test_the_units_of_y_do_not_matter():
    X, y, X_test, _ = planted(3)
    model = DeepTDRegressor((4, 4), loss="huber", alpha=1.0, random_state=0)
    small = model.fit(X, y).predict(X_test)
    scale = model.scale_
    large = model.fit(X, 2.0**20 * y).predict(X_test)
    np.testing.assert_allclose(large, 2.0**20 * small, rtol=1e-6, atol=1e-3)
    np.testing.assert_allclose(model.scale_, 2.0**20 * scale, rtol=1e-6)


@pytest.mark.parametrize(
    "options",
    [
        {"activation": "tanh"},
        {"n_filters": 2, "noise": 0.05},
        {"strides": 2},
        {"hidden_bias": True},
    ],
    ids=str,
)
def test_the_options_of_a_network_recover_with_outliers(options):
    of_model = {k: v for k, v in options.items() if k != "noise"}
    scores = []
    for seed in range(5):
        sizes = (4, 7) if "strides" in options else (4, 4)
        X, y, X_test, truth = planted(seed, sizes=sizes, **options)
        model = DeepTDRegressor(sizes, loss="huber", random_state=0, **of_model)
        scores.append(model.fit(X, y).score(X_test, truth))
    assert np.median(scores) > 0.95


@pytest.mark.parametrize(
    "options",
    [
        {"alpha": 1.0},
        {"fit_intercept": False},
        {"output_activation": "relu"},
        {"epsilon": 2.5},
        {"n_jobs": 2},
        {"polish": False},
    ],
    ids=str,
)
def test_the_options_of_a_fit_stand_outliers(options):
    gains = []
    for seed in range(5):
        X, y, X_test, truth = planted(seed)
        model = DeepTDRegressor((4, 4), random_state=0, **options)
        with pytest.warns(UserWarning, match="outliers"):
            plain = model.fit(X, y).score(X_test, truth)
        gains.append(model.set_params(loss="huber").fit(X, y).score(X_test, truth))
        assert gains[-1] > plain
    assert np.median(gains) > (0.4 if options.keys() & {"polish"} else 0.8)


def test_float32_is_as_good_and_stays():
    X, y, X_test, truth = planted(4)
    model = DeepTDRegressor((4, 4), loss="huber", random_state=0)
    model.fit(X.astype(np.float32), y)
    predicted = model.predict(X_test.astype(np.float32))
    assert predicted.dtype == model.kernels_[0].dtype == np.float32
    assert 1 - np.var(predicted - truth) / np.var(truth) > 0.95


def test_a_network_that_fits_exactly_has_no_scale():
    for seed in range(3):
        X, y, X_test, truth = planted(seed, 0, noise=0)
        model = DeepTDRegressor((4, 4), loss="huber", random_state=0).fit(X, y)
        assert model.score(X_test, truth) > 1 - 1e-9
        assert model.scale_[0] < 1e-6 * np.std(y)


def test_the_intervals_hold_the_truth_beside_outliers():
    shares, noises = [], []
    for seed in range(20):
        X, y, X_test, truth = planted(seed)
        model = DeepTDRegressor((4, 4), loss="huber", random_state=0).fit(X, y)
        output, std = model.predict(X_test, return_std=True)
        shares.append(np.mean(np.abs(output - truth) < 1.96 * std))
        noises.append(model.scale_[0] / (0.2 * np.std(truth)))
    assert 0.88 < np.mean(shares) < 0.99
    assert 0.95 < np.mean(noises) < 1.2


@pytest.mark.parametrize(
    ("options", "Y"),
    [
        ({"alpha": "loo"}, np.arange(40.0)),
        ({"share_filters": True}, np.arange(80.0).reshape(40, 2)),
    ],
    ids=["loo", "share_filters"],
)
def test_what_huber_does_not_go_with_is_refused(options, Y):
    X = np.random.RandomState(0).standard_normal((40, 16))
    model = DeepTDRegressor((4, 4), loss="huber", **options)
    with pytest.raises(ValueError, match="loss='huber' does not go with"):
        model.fit(X, Y)


def test_a_stream_with_outliers_ends_near_the_truth():
    for seed in range(3):
        X, y, X_test, truth = planted(seed)
        model = DeepTDRegressor((4, 4), loss="huber", random_state=0)
        for part in (slice(0, 120), slice(120, N)):
            model.partial_fit(X[part], y[part])
        assert model.score(X_test, truth) > 0.95


def test_a_search_over_losses_runs():
    X, y, X_test, truth = planted(0)
    search = DeepTDRegressorCV(
        {"kernel_sizes": [(4, 4)], "loss": ["squared_error", "huber"]},
        scoring="neg_median_absolute_error",
        random_state=0,
    ).fit(X, y)
    assert search.best_params_["loss"] == "huber"
    assert search.score(X_test, truth) > -0.2 * np.std(truth)


def quiet(name, seed):
    """Data without outliers: X, y and the options of a fit."""
    rng = np.random.RandomState(seed)
    X, y = make_patch_cnn_regression(N, (4, 4), random_state=seed)
    y /= np.std(y)
    return X, {
        "exact": y,
        "Gaussian noise": y + 0.5 * rng.standard_normal(N),
        "uniform noise": y + rng.uniform(-1, 1, N),
        "Laplace noise": y + rng.laplace(size=N),
        "noise only": rng.standard_normal(N),
        "heteroscedastic": y + rng.standard_normal(N) * (0.2 + 0.5 * np.abs(X[:, 0])),
        "labels": (y > np.median(y)).astype(float),
        "rare labels": (y > np.quantile(y, 0.97)).astype(float),
        "counts": rng.poisson(np.exp(np.clip(y, -3, 2))).astype(float),
    }[name]


@pytest.mark.parametrize(
    "name",
    [
        "exact",
        "Gaussian noise",
        "uniform noise",
        "Laplace noise",
        "noise only",
        "heteroscedastic",
        "labels",
        "rare labels",
        "counts",
    ],
)
@pytest.mark.parametrize("options", [{}, {"kernel_sizes": (8, 2)}], ids=str)
def test_no_warning_without_outliers(name, options):
    for seed in range(4):
        model = DeepTDRegressor(
            **{"kernel_sizes": (4, 4), "random_state": 0, **options}
        )
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "The polish of output")
            model.fit(*quiet(name, seed))


@pytest.mark.parametrize("n_outliers", [3, 10])
def test_a_warning_of_outliers_names_the_output_and_the_way_out(n_outliers):
    for seed in range(5):
        X, y, *_ = planted(seed, n_outliers)
        clean = planted(seed, 0)[1]
        model = DeepTDRegressor((4, 4), random_state=0)
        with pytest.warns(UserWarning, match=r"output \[1\].*loss='huber'"):
            model.fit(X, np.column_stack([clean, y]))
        model.set_params(loss="huber").fit(X, y)  # of which there is no warning


@pytest.mark.parametrize(
    "model",
    [DeepTDRegressor(), DeepTDRegressorCV(), DeepTDAutoRegressor(), DeepTDRidge()],
    ids=repr,
)
@pytest.mark.parametrize(
    "y",
    [
        ["cat", "dog"] * 20,
        np.array(["1", "2"] * 20),
        np.array(["cat", 1.0] * 20, dtype=object),
        pd.Series(["cat", "dog"] * 20, dtype="category"),
    ],
    ids=["list", "numeric", "object", "categories"],
)
def test_strings_are_for_a_classifier(model, y):
    X = np.random.RandomState(0).standard_normal((40, 16))
    with pytest.raises(ValueError, match="this is a regressor; for classes use DeepTD"):
        model.fit(X, y)


def test_numbers_that_are_objects_are_numbers():
    X, y, *_ = planted(0, 0)
    model = DeepTDRegressor((4, 4), random_state=0)
    expected = model.fit(X, y).predict(X)
    np.testing.assert_array_equal(model.fit(X, y.astype(object)).predict(X), expected)


def test_a_stream_forgets_the_scale_with_the_loss():
    X = np.random.RandomState(0).standard_normal((100, 6))
    model = DeepTDRegressor((3, 2), loss="huber", random_state=0)
    model.partial_fit(X, X[:, 0]).set_params(loss="squared_error")
    assert not hasattr(model.partial_fit(X, X[:, 0]), "scale_")


def test_a_fit_of_one_iteration_is_no_worse_than_the_median():
    """The features are constant, and the output activation is not linear."""
    n_constant = 0
    for seed in range(20):
        rng = np.random.default_rng(seed)
        X, y = np.ones((16, 2)), 430 + 2 * rng.standard_normal(16)
        weight = 10 ** rng.uniform(0, 14, 16)
        model = DeepTDRegressor(
            [(1,), (1,), (2,)],
            activation=["leaky_relu", "identity"],
            output_activation="relu",
            n_filters=3,
            loss="huber",
            max_iter=1,
            tol=0.0,
            random_state=seed,
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            predicted = model.fit(X, y, weight).predict(X)
        loss = Huber(model.epsilon * model.scale_[0])
        order = np.argsort(y)
        below = np.cumsum(weight[order])
        median = y[order][np.searchsorted(below, below[-1] / 2)]
        found, best = (
            weight @ loss.evaluate(y[:, None], raw.reshape(-1, 1))[0]
            for raw in (predicted, np.full(16, median))
        )
        assert found <= best * (1 + 1e-6)
        n_constant += np.ptp(predicted) == 0
    assert n_constant > 0
