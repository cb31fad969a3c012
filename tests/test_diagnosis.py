from collections import Counter

import numpy as np
import pytest
from sklearn.cross_decomposition import PLSRegression
from sklearn.datasets import load_digits

from skdeeptd import DeepTDRegressor
from skdeeptd._model.network import PatchCNN, forward
from skdeeptd._solver.diagnosis import HeldOut, _linear_errors
from skdeeptd.datasets import make_patch_cnn_regression

SIZES, N_SEEDS, N_ROWS = (8, 8), 20, 400


def auto_regressive(rng):
    X = rng.standard_normal((N_ROWS, 64))
    for j in range(1, 64):
        X[:, j] = 0.9 * X[:, j - 1] + np.sqrt(1 - 0.9**2) * X[:, j]
    return X


def images(rng):
    X = load_digits().data
    return X[rng.permutation(len(X))[:N_ROWS]] / 16


def planted(X, rng):
    """Output of a random network that is open for more than half of the rows."""
    while True:
        kernels = tuple(rng.standard_normal((1, d)) for d in SIZES)
        network = PatchCNN(kernels, np.ones(1), 0.0, ("relu", "identity"))
        y = forward(network, X)
        if np.mean(y != np.median(y)) > 0.5:
            return y / y.std()


def linear(X, rng):
    y = X @ rng.standard_normal(X.shape[1])
    return y / y.std()


def noise(X, rng):
    return np.zeros(len(X))


@pytest.mark.parametrize("inputs", [auto_regressive, images])
@pytest.mark.parametrize(
    ("target", "verdict"),
    [(planted, "network"), (linear, "linear"), (noise, "nothing")],
)
def test_the_verdict_holds_for_correlated_features(inputs, target, verdict):
    verdicts = Counter()
    for seed in range(N_SEEDS):
        rng = np.random.default_rng(seed)
        X = inputs(rng)
        y = target(X, rng) + 0.3 * rng.standard_normal(N_ROWS)
        model = DeepTDRegressor(SIZES, n_init=1, max_iter=20, tol=1e-2, random_state=0)
        verdicts.update(model.fit(X, y).verdict_)
    assert verdicts[verdict] >= 0.9 * N_SEEDS, verdicts


@pytest.mark.parametrize("fit_intercept", [True, False])
def test_the_scores_are_those_of_rows_that_were_not_seen(fit_intercept):
    X, y = make_patch_cnn_regression(
        2000, SIZES, output_activation="relu", noise=0.5, random_state=0
    )
    model = DeepTDRegressor(
        SIZES,
        output_activation="relu",
        fit_intercept=fit_intercept,
        random_state=0,
    ).fit(X[:500], y[:500])
    found = model.held_out_r2_["network"].item()
    assert found == pytest.approx(model.score(X[500:], y[500:]), abs=0.05)
    assert found < model.score(X[:500], y[:500])
    assert model.held_out_r2_["linear"].item() < found


def test_a_light_row_does_not_make_an_exact_fit_of_noise_count():
    weight, scores, verdicts = np.r_[1e-3, np.ones(11)], [], Counter()
    for seed in range(N_SEEDS):
        rng = np.random.default_rng(seed)
        X, y = rng.standard_normal((12, 12)), rng.standard_normal(12)
        model = DeepTDRegressor((12,), random_state=0).fit(X, y, weight)
        assert model.score(X, y) > 1 - 1e-9
        scores.append(model.held_out_r2_["network"].item())
        verdicts.update(model.verdict_)
    assert np.median(scores) < 0.5
    assert verdicts["nothing"] >= 0.9 * N_SEEDS, verdicts


def test_another_shape_than_the_planted_one_scores_less():
    X, y = make_patch_cnn_regression(600, SIZES, noise=0.3, random_state=0)
    scores = {
        sizes: DeepTDRegressor(sizes, random_state=0)
        .fit(X, y)
        .held_out_r2_["network"]
        .item()
        for sizes in [SIZES, (4, 16), (16, 4)]
    }
    assert max(scores, key=scores.get) == SIZES


def test_each_output_has_its_own():
    rng = np.random.default_rng(0)
    X, y = make_patch_cnn_regression(400, SIZES, noise=0.3, random_state=0)
    y = np.column_stack([rng.standard_normal(400), y, linear(X, rng)])
    model = DeepTDRegressor(SIZES, random_state=0).fit(X, y)
    assert model.verdict_ == ["nothing", "network", "linear"]
    assert set(model.held_out_r2_) == set(HeldOut._fields) - {"verdict"}


def test_few_rows_are_worth_no_verdict():
    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((8, 12)), rng.standard_normal(8)
    model = DeepTDRegressor((4, 3), random_state=0).fit(X, y)
    assert model.verdict_ == ["nothing"]
    assert np.isnan(model.held_out_r2_["network"]).all()


def test_rows_of_weight_zero_have_no_part_in_it():
    X, y = make_patch_cnn_regression(300, SIZES, noise=0.3, random_state=0)
    X_spoilt, y_spoilt = np.r_[X, X[:9] * 1e9], np.r_[y, y[:9] * 1e9]
    weight = np.r_[np.ones(300), np.zeros(9)]
    model = DeepTDRegressor(SIZES, random_state=0)
    expected = model.fit(X, y).held_out_r2_["network"]
    found = model.fit(X_spoilt, y_spoilt, weight).held_out_r2_["network"]
    np.testing.assert_allclose(found, expected, rtol=1e-9)


def test_the_linear_model_is_that_of_partial_least_squares():
    rng = np.random.default_rng(0)
    X = rng.standard_normal((90, 30)).cumsum(axis=1) + 3
    y = X[:, 3] - 0.5 * X[:, 9] + 0.3 * rng.standard_normal(90)
    fold = np.arange(90) % 3
    shares = (fold != np.arange(3)[:, np.newaxis]) / 60
    of_components = np.empty((15, 90))
    for n, errors in enumerate(of_components, start=1):
        for held in range(3):
            train, test = fold != held, fold == held
            model = PLSRegression(n, scale=False).fit(X[train], y[train])
            errors[test] = y[test] - model.predict(X[test]).ravel()
    best = np.min(np.sum(of_components**2, axis=1))
    found = np.sum(_linear_errors(X, y, shares, fold) ** 2)
    np.testing.assert_allclose(found, best, rtol=1e-3)
