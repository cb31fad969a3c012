import numpy as np
import pytest
from scipy.signal import lfilter
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.kernel_ridge import KernelRidge
from sklearn.linear_model import Ridge, RidgeCV
from sklearn.metrics import r2_score
from sklearn.metrics.pairwise import rbf_kernel
from sklearn.model_selection import KFold

from skdeeptd import DeepTDFeatures, DeepTDRidge
from skdeeptd._solver.ridge import cv_kernel_ridge, cv_ridge, penalties

RNG = np.random.default_rng(0)
F, Y = RNG.standard_normal((30, 12)), RNG.standard_normal((30, 2))
WEIGHT = RNG.uniform(0.5, 2, 30)
KERNELS = pytest.mark.parametrize("kernel", ["linear", "rbf"])


@pytest.mark.parametrize(("n_rows", "n_entries"), [(30, 12), (27, 1), (30, 1), (9, 12)])
def test_ridge_is_that_of_scikit_learn_with_the_penalty_of_refits(n_rows, n_entries):
    """Blocks of more and of fewer rows than entries, and single rows."""
    F_, Y_, weight = F[:n_rows, :n_entries], Y[:n_rows], WEIGHT[:n_rows]
    found = cv_ridge(F_, Y_, weight)
    center = weight @ F_ / weight.sum()
    table = (F_ - center) * np.sqrt(weight)[:, np.newaxis]
    largest = np.linalg.norm(table, 2) ** 2
    for output in range(2):
        y, errors = Y_[:, output], []
        alphas = penalties(np.array([largest]))
        for alpha in alphas:
            model, error = Ridge(alpha, solver="svd"), 0.0
            for others, left in KFold(min(20, n_rows)).split(F_):
                model.fit(F_[others], y[others], weight[others])
                error += weight[left] @ (y[left] - model.predict(F_[left])) ** 2
            errors.append(error)
        best = np.argmin(errors)
        np.testing.assert_allclose(found.alpha[output], alphas[best])
        np.testing.assert_allclose(
            found.cv_error[output], errors[best] / n_rows, rtol=1e-6
        )
        model = Ridge(found.alpha[output], solver="svd").fit(F_, y, weight)
        np.testing.assert_allclose(found.coef[:, output], model.coef_, atol=1e-9)
        np.testing.assert_allclose(found.intercept[output], model.intercept_)


def test_a_linear_kernel_is_plain_ridge():
    plain, of_kernel = cv_ridge(F, Y, WEIGHT), cv_kernel_ridge(F @ F.T, Y, WEIGHT)
    np.testing.assert_allclose(F.T @ of_kernel.coef, plain.coef, atol=1e-10)
    for name in ("intercept", "alpha", "scale", "cv_error"):
        np.testing.assert_allclose(
            getattr(of_kernel, name), getattr(plain, name), rtol=1e-8
        )


def test_kernel_ridge_is_that_of_scikit_learn_where_the_mean_is_zero():
    gram = rbf_kernel(F, gamma=0.05)
    found = cv_kernel_ridge(gram, Y, np.ones(30))
    mean = gram.mean(axis=0)
    centered = gram - mean - mean[:, np.newaxis] + mean.mean()
    for output in range(2):
        y = Y[:, output] - Y[:, output].mean()
        model = KernelRidge(alpha=found.alpha[output], kernel="precomputed")
        expected = model.fit(centered, y).predict(centered) + Y[:, output].mean()
        ours = gram @ found.coef[:, output] + found.intercept[output]
        np.testing.assert_allclose(ours, expected, atol=1e-8)


def test_windows_of_a_series_need_neighbours_left_out_together():
    """Three steps ahead of an oscillation; single rows left out promise too much."""
    scores = {20: [], 150: []}
    for seed in range(8):
        noise = np.random.default_rng(seed).standard_normal(400)
        series = lfilter([1], [1, -1.6, 0.9], noise) / 4
        X = np.lib.stride_tricks.sliding_window_view(series, 20)[:-3]
        y = series[22:, np.newaxis]
        known, new = X[:150], X[160:]
        gram, cross = (rbf_kernel(rows, known, gamma=0.01) for rows in (known, new))
        for n_blocks, of_number in scores.items():
            found = cv_kernel_ridge(gram, y[:150], np.ones(150), n_blocks)
            predicted = found.intercept + cross @ found.coef
            of_number.append(r2_score(y[160:], predicted))
    assert np.mean(scores[20]) > 0.3
    assert np.mean(scores[150]) < 0


def test_rows_that_are_sorted_by_y_do_no_harm():
    X, digit = load_digits(return_X_y=True)
    model = DeepTDRidge(DeepTDFeatures(random_state=0))
    for seed in range(5):
        rows = np.random.RandomState(seed).permutation(len(X))
        train, test = rows[:150], rows[150:]
        in_order = train[np.argsort(digit[train], kind="stable")]
        mixed, ordered = (
            clone(model)
            .fit(X[known].reshape(-1, 8, 8), digit[known])
            .score(X[test].reshape(-1, 8, 8), digit[test])
            for known in (train, in_order)
        )
        assert ordered > mixed - 0.1


def data(n_rows=60):
    X = np.random.default_rng(1).standard_normal((n_rows, 16))
    return X, np.sin(X[:, 0]) + X[:, 5] + 0.1 * X[:, 9] ** 2


@KERNELS
def test_deviations_are_those_of_a_gaussian_process(kernel):
    X, y = data()
    model = DeepTDRidge(DeepTDFeatures(random_state=0), kernel=kernel).fit(X, y)
    new = np.random.default_rng(2).standard_normal((20, 16))
    _, std = model.predict(new, return_std=True)
    known, table = (model.features_.transform(rows) for rows in (X, new))
    if kernel == "linear":
        gram, cross, own = known @ known.T, table @ known.T, np.sum(table**2, axis=1)
    else:
        gram, cross = (rbf_kernel(a, known, gamma=model.gamma_) for a in (known, table))
        own = np.ones(20)
    mean = gram.mean(axis=0)
    gram_c = gram - mean - mean[:, np.newaxis] + mean.mean()
    cross_c = cross - mean - cross.mean(axis=1, keepdims=True) + mean.mean()
    own_c = own - 2 * cross.mean(axis=1) + mean.mean()
    alpha = model.alpha_[0]
    solved = np.linalg.solve(gram_c + alpha * np.eye(60), cross_c.T)
    variance = (own_c - np.sum(cross_c.T * solved, axis=0)) / alpha + 1 / 60
    np.testing.assert_allclose(std**2, model.variance_scale_[0] * variance, rtol=1e-5)


@KERNELS
def test_outputs_have_penalties_of_their_own(kernel):
    X, y = data()
    Y = np.column_stack([y, RNG.standard_normal(60), 1e6 * y - 5])
    model = DeepTDRidge(DeepTDFeatures(random_state=0), kernel=kernel).fit(X, Y)
    assert model.predict(X).shape == (60, 3)
    np.testing.assert_allclose(
        model.predict(X)[:, 2], 1e6 * model.predict(X)[:, 0] - 5, rtol=1e-6, atol=1e-3
    )
    assert model.alpha_[1] > model.alpha_[0]
    _, std = model.predict(X, return_std=True)
    np.testing.assert_allclose(std[:, 2], 1e6 * std[:, 0], rtol=1e-6)


@KERNELS
def test_rows_of_weight_zero_do_not_count(kernel):
    X, y = data()
    weight = np.r_[np.ones(40), np.zeros(20)]
    model = DeepTDRidge(DeepTDFeatures(random_state=0), kernel=kernel)
    weighted = clone(model).fit(X, np.where(weight > 0, y, 1e3), sample_weight=weight)
    np.testing.assert_allclose(
        weighted.predict(X), clone(model).fit(X[:40], y[:40]).predict(X), atol=1e-9
    )


def test_kernel_ridge_on_images():
    X, digit = load_digits(return_X_y=True)
    X, y = X.reshape(-1, 8, 8), digit % 2
    scores = []
    for seed in range(3):
        rows = np.random.RandomState(seed).permutation(len(X))
        train, test = rows[:150], rows[150:]
        features = DeepTDFeatures(pooling="both", standardize=False, random_state=seed)
        model = DeepTDRidge(features, kernel="rbf").fit(X[train], y[train])
        scores.append(model.score(X[test], y[test]))
    assert np.mean(scores) > 0.78


def test_a_constant_target_and_a_given_gamma():
    X, y = data()
    constant = DeepTDRidge().fit(X, np.full(60, 3.0))
    np.testing.assert_allclose(constant.predict(X), 3)
    assert DeepTDRidge(kernel="rbf", gamma=0.01).fit(X, y).gamma_ == 0.01


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"kernel": "cubic"}, "kernel"),
        ({"gamma": 0}, "gamma"),
        ({"features": RidgeCV()}, "features"),
        ({"features": DeepTDFeatures(n_filters=0)}, "n_filters"),
    ],
)
def test_bad_parameters(parameters, message):
    with pytest.raises(ValueError, match=message):
        DeepTDRidge(**parameters).fit(*data())
