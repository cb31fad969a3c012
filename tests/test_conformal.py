"""Quantiles of conformity scores, and prediction intervals of all regressors."""

import warnings

import numpy as np
import pytest
from sklearn.exceptions import NotFittedError

from skdeeptd import (
    DeepTDAutoRegressor,
    DeepTDRegressor,
    DeepTDRegressorCV,
    DeepTDRidge,
    SignalScaler,
)
from skdeeptd._solvers.conformal import fewest_rows, score_quantile
from skdeeptd.datasets import make_patch_cnn_regression

SIZES = (6, 4)
MODELS = {
    "network": DeepTDRegressor(SIZES, random_state=0),
    "huber": DeepTDRegressor(SIZES, loss="huber", random_state=0),
    "linear": DeepTDRidge(SignalScaler()),
    "rbf": DeepTDRidge(SignalScaler(), kernel="rbf"),
    "learned": DeepTDRidge(SignalScaler(), kernel="rbf", metric="learned"),
    "grid": DeepTDRegressorCV({"kernel_sizes": [SIZES, (4, 6)]}, random_state=0),
    "auto": DeepTDAutoRegressor(random_state=0),
}
OVER_MODELS = pytest.mark.parametrize("name", MODELS)


def data(n_rows, seed, noise=0.3):
    return make_patch_cnn_regression(n_rows, SIZES, noise=noise, random_state=seed)


def test_the_quantile_is_the_score_of_the_rank_of_a_new_row():
    """The rank is the smallest whole number that is at least (n + 1) c."""
    rng = np.random.default_rng(0)
    for n in (9, 10, 19, 40):
        scores = rng.exponential(size=(n, 2))
        for coverage in (0.5, 0.8, 0.9):
            rank = int(np.ceil((n + 1) * coverage - 1e-9))
            found = score_quantile(scores, np.ones(n), coverage)
            np.testing.assert_array_equal(found, np.sort(scores, axis=0)[rank - 1])
            found = score_quantile(scores, np.full(n, 1e-9), coverage)
            np.testing.assert_array_equal(found, np.sort(scores, axis=0)[rank - 1])


def test_exchangeable_scores_are_covered():
    rng = np.random.default_rng(0)
    draws = rng.standard_cauchy((4000, 31)) ** 2
    held = [d[-1] <= score_quantile(d[:-1, None], np.ones(30), 0.8)[0] for d in draws]
    assert abs(np.mean(held) - 0.8) < 4 * np.sqrt(0.8 * 0.2 / 4000) + 1 / 31


def test_weights_count_as_shares():
    scores, weight = np.array([[1.0], [2.0], [3.0]] * 20), np.tile([1.0, 4.0, 0.1], 20)
    shares = np.array([1.0, 4.0, 0.1]) / 5.1
    assert shares[0] < 0.5 < shares[:2].sum()
    assert score_quantile(scores, weight, 0.5)[0] == 2
    assert score_quantile(scores, weight, 0.1)[0] == 1


@pytest.mark.parametrize("coverage", [0.5, 0.9, 0.99])
def test_too_few_rows_have_no_finite_interval(coverage):
    n = fewest_rows(coverage)
    scores = np.ones((n, 1))
    assert score_quantile(scores, np.ones(n), coverage)[0] == 1
    if n > 1:
        assert score_quantile(scores[1:], np.ones(n - 1), coverage)[0] == np.inf


@OVER_MODELS
def test_intervals_hold_the_share_of_new_samples_that_was_asked_for(name):
    shares = []
    n_seeds = 3 if name == "auto" else 8
    for seed in range(n_seeds):
        X, y = data(80 + 500, seed)
        model = MODELS[name].fit(X[:80], y[:80])
        for coverage in (0.6, 0.9):
            lower, upper = model.predict_interval(X[80:], coverage).T
            shares.append(np.mean((lower <= y[80:]) & (y[80:] <= upper)))
    narrow, wide = np.mean(shares[::2]), np.mean(shares[1::2])
    assert abs(wide - 0.9) < 0.06
    assert abs(narrow - 0.6) < 0.12


@OVER_MODELS
def test_intervals_have_two_columns_around_the_prediction(name):
    X, y = data(60, 0)
    for targets, shape in ((y, (10, 2)), (np.column_stack([y, -2 * y]), (10, 2, 2))):
        model = MODELS[name].fit(X, targets)
        bounds = model.predict_interval(X[:10])
        assert bounds.shape == shape
        middle = bounds.mean(axis=-1)
        np.testing.assert_allclose(middle, model.predict(X[:10]), atol=1e-12)
        wider = model.predict_interval(X[:10], 0.95)
        assert np.all(wider[..., 1] >= bounds[..., 1])
    assert model.conformity_scores_.shape == (60, 2)


@OVER_MODELS
def test_bad_calls_are_errors_that_name_the_value(name):
    X, y = data(40, 0)
    model = MODELS[name]
    with pytest.raises(NotFittedError):
        type(model)().predict_interval(X)
    model.fit(X, y)
    for coverage in (0, 1, 1.5, "0.9", None):
        with pytest.raises(ValueError, match="coverage must be a number between 0"):
            model.predict_interval(X, coverage)
    with pytest.warns(UserWarning, match="coverage=0.99 needs 99 samples, .* has 40"):
        bounds = model.predict_interval(X[:2], 0.99)
    assert np.all(np.isinf(bounds))
    with pytest.raises(ValueError, match="24 features"):
        model.predict_interval(X[:, :-1])


def test_an_exact_fit_has_intervals_of_no_width():
    X, y = data(80, 0, noise=0)
    for name in ("network", "grid"):
        lower, upper = MODELS[name].fit(X, y).predict_interval(X).T
        assert np.all(upper - lower < 1e-5 * np.std(y))


def test_counts_have_no_negative_bounds():
    rng = np.random.default_rng(0)
    X = rng.standard_normal((600, 16))
    mean = np.exp(np.maximum(X[:, 0] + X[:, 1], 0))
    y = rng.poisson(mean).astype(float)
    model = DeepTDRegressor((4, 4), loss="poisson", random_state=0)
    lower, upper = model.fit(X[:300], y[:300]).predict_interval(X[300:]).T
    assert lower.min() >= 0
    assert abs(np.mean((lower <= y[300:]) & (y[300:] <= upper)) - 0.9) < 0.06


def test_a_network_without_covariance_has_no_interval():
    X, y = data(60, 0)
    model = DeepTDRegressor(SIZES, polish=False).fit(X, y)
    with pytest.raises(ValueError, match="polish=True"):
        model.predict_interval(X)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = DeepTDRegressor(SIZES, random_state=0).fit(X[:8], y[:8])
    with pytest.warns(UserWarning, match="intervals are NaN: .* weights as samples"):
        assert np.all(np.isnan(model.predict_interval(X)))


def warns_of_no_use(X, y, **options):
    """Tell whether a fit with the defaults, or ``options``, warns."""
    model = DeepTDRegressor(**options, random_state=0)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model.fit(X, y)
    texts = [str(warning.message) for warning in caught]
    found = [text for text in texts if "will predict output [0] of new" in text]
    assert bool(found) == (model.loo_r2_[0] < 0)
    assert all("alpha > 0" in t and "DeepTDAutoRegressor" in t for t in found)
    return bool(found)


def test_a_network_of_noise_warns_and_a_planted_one_does_not():
    """With five samples a weight, with and without noise."""
    of_noise = of_planted = 0
    for seed in range(20):
        rng = np.random.default_rng(seed)
        X = rng.standard_normal((75, 64))
        of_noise += warns_of_no_use(X, rng.standard_normal(75))
        noise = 0.3 * (seed % 2)
        rows = make_patch_cnn_regression(75, (8, 8), noise=noise, random_state=seed)
        of_planted += warns_of_no_use(*rows, kernel_sizes=(8, 8))
    assert of_noise >= 18
    assert of_planted == 0


def test_the_expected_r2_is_that_of_new_samples():
    """Also if the network cannot be right, as for y of products of features."""
    expected, found = [], []
    for seed in range(12):
        rng = np.random.default_rng(seed)
        X = rng.standard_normal((1150, 16))
        y = X[:, 0] + 0.4 * X[:, 3] * X[:, 9] + 0.3 * seed * rng.standard_normal(1150)
        model = DeepTDRegressor((4, 4), random_state=0).fit(X[:150], y[:150])
        expected.append(model.loo_r2_[0])
        found.append(model.score(X[150:], y[150:]))
    assert abs(np.mean(np.subtract(expected, found))) < 0.08
    assert np.corrcoef(expected, found)[0, 1] > 0.9


def test_samples_of_leverage_one_are_predicted_by_the_mean():
    """The only sample with a value of some feature determines its weight."""
    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((40, 4)), rng.standard_normal(40)
    X[:, 3] = np.arange(40) == 7
    model = DeepTDRegressor(kernel_sizes=[(4,)], activation="identity").fit(X, y)
    error = abs(y[7] - np.delete(y, 7).mean())
    spread = np.sqrt(2 * model.noise_variance_[0])
    assert 0.9 < model.conformity_scores_[7, 0] / (error / spread) < 1.3
