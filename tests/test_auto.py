import pickle
import sys
import warnings

import numpy as np
import pandas as pd
import pytest
import sklearn
from scipy.signal import lfilter
from sklearn.base import BaseEstimator, clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.cross_decomposition import PLSRegression
from sklearn.datasets import load_digits
from sklearn.exceptions import FitFailedWarning, NotFittedError
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.linear_model import LogisticRegression, Ridge, RidgeCV
from sklearn.metrics import log_loss, r2_score
from sklearn.model_selection import (
    GroupKFold,
    KFold,
    LeaveOneOut,
    ShuffleSplit,
    StratifiedKFold,
    cross_val_predict,
    cross_val_score,
)
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor
from sklearn.pipeline import make_pipeline
from sklearn.svm import SVC
from sklearn.utils.validation import check_is_fitted

from skdeeptd import (
    DeepTDAutoClassifier,
    DeepTDAutoRegressor,
    DeepTDClassifier,
    DeepTDRegressor,
    DeepTDRidge,
    DeepTDRidgeClassifier,
    _auto,
    _search_cv,
)
from skdeeptd._stacking import log_loss_weights, squared_error_weights
from skdeeptd.datasets import make_patch_cnn_regression


def kernel_ridges(kind, kernels=("rbf", "laplace")):
    return [f"kernel ridge ({k}, learned metric) on {kind}" for k in kernels]


ON_SIGNAL = ["ridge on the signal", *kernel_ridges("the signal")]
ON_IMAGES = [
    *ON_SIGNAL,
    *kernel_ridges("filters", ["rbf"]),
    "ridge on filters in 4 parts",
    *kernel_ridges("filters in 4 parts", ["rbf"]),
]
ON_VIEWS = [
    *kernel_ridges("the derivative"),
    *kernel_ridges("filters of the derivative", ["rbf"]),
    *kernel_ridges("the SNV-corrected signal", ["laplace"]),
]


def digits(n_rows, seed=0, odd=True):
    """Images and their digits, or whether these are odd, in a random order."""
    X, digit = load_digits(return_X_y=True)
    rows = np.random.RandomState(seed).permutation(len(X))
    X, y = X[rows].reshape(-1, 8, 8), digit[rows]
    y = y % 2.0 if odd else y
    return (X[:n_rows], y[:n_rows]), (X[n_rows:], y[n_rows:])


def planted_classes(n_rows, seed, size=8):
    """Two classes, whose logit is a planted network with patches of ``size``."""
    rng = np.random.RandomState(seed)
    k = rng.randn(size)
    X = rng.randn(n_rows, size * size)
    z = np.maximum(X.reshape(n_rows, size, size) @ k, 0) @ rng.randn(size)
    logit = 8 * (z - z.mean()) / z.std()
    return X, (rng.rand(n_rows) < 1 / (1 + np.exp(-logit))).astype(int)


def flat(X):
    return X.reshape(len(X), -1)


def without_time(model, X, y, weight=None):
    """Fit a model that has time for the first candidates only."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return model.set_params(max_time=1e-9).fit(X, y, weight)


def models_of(model):
    """Return the names of the candidates that are no networks."""
    params = model.cv_results_["params"]
    return [p["model"] for p in params if "model" in p]


@pytest.fixture(scope="module")
def noisy():
    return make_patch_cnn_regression(150, (4, 3, 2), noise=0.1, random_state=0)[:2]


@pytest.fixture(scope="module")
def fitted():
    """Images, and an average of models."""
    (X, y), _ = digits(150)
    model = DeepTDAutoRegressor(cv=3, random_state=0).fit(X, y)
    assert len(model.estimators_) > 1
    return model, X, y


@pytest.fixture(scope="module")
def fitted_classifier():
    (X, y), (X_test, y_test) = digits(150, odd=False)
    model = DeepTDAutoClassifier(cv=3, random_state=0).fit(X, y)
    return model, (X_test[:300], y_test[:300])


# Regression without arguments


def test_images_without_any_argument(fitted):
    """Ridge regression reaches .6."""
    assert fitted[0].score(*digits(150)[1]) > 0.85


@pytest.mark.parametrize(
    ("shape", "names"),
    [
        ((8, 8), ON_IMAGES),
        ((2, 24), ON_IMAGES),
        ((9,), [*ON_IMAGES[:5], *ON_IMAGES[5:]]),
        ((10,), [*ON_IMAGES, *ON_VIEWS]),
    ],
)
def test_views_are_compared_for_one_axis_and_channel_of_ten_values(shape, names):
    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((30, *shape)), rng.standard_normal(30)
    model = without_time(DeepTDAutoRegressor(cv=3), X, y)
    assert sorted(models_of(model)) == sorted(names)
    assert models_of(model)[0] == ON_SIGNAL[0]
    classes = without_time(DeepTDAutoClassifier(cv=3), X, y > 0)
    of_classes = [name.replace("ridge", "ridge classifier") for name in names]
    assert sorted(models_of(classes)) == sorted(of_classes)


@pytest.mark.parametrize(("n_training", "few"), [(19, True), (20, False)])
def test_few_training_rows_of_a_fold_have_models_on_the_signal_only(n_training, few):
    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((24, 6)), rng.standard_normal(24)
    cv = [(np.arange(n_training), np.arange(20, 24))]
    found = models_of(DeepTDAutoRegressor(cv=cv).fit(X, y))
    assert found == ON_SIGNAL if few else set(found) == set(ON_IMAGES)


@pytest.mark.parametrize(("n_rows", "n_models"), [(20_000, 10), (20_001, 3)])
def test_many_rows_have_models_on_the_signal_only(n_rows, n_models):
    model = DeepTDAutoRegressor()
    model.input_shape_, model.n_features_in_ = (20,), 20
    model.covariate_indices_ = np.zeros(0, int)
    found = model._linear_and_kernel_candidates(n_rows)
    assert len(found) == n_models
    assert [candidate.params["model"] for candidate in found[:3]] == ON_SIGNAL


@pytest.mark.parametrize("sizes", [(6, 5), (4, 3, 5)])
def test_a_planted_network_is_found_exactly_and_alone(sizes):
    n_samples = 10 * (sum(sizes) - len(sizes) + 1)
    for seed in range(2):
        X, y = make_patch_cnn_regression(n_samples, sizes, random_state=seed)
        model = DeepTDAutoRegressor(random_state=0).fit(X, y)
        assert model.estimators_ == [model.best_estimator_]
        assert model.best_params_ == {"kernel_sizes": sizes}
        assert model.score(X, y) > 1 - 1e-10


def test_linear_data_are_not_worse_than_ridge_by_more_than_noise():
    lead = []
    for seed in range(4):
        rng = np.random.RandomState(seed)
        X = rng.randn(200, 12)
        y = X @ rng.randn(12) + rng.randn(200)
        linear = RidgeCV().fit(X[:100], y[:100]).score(X[100:], y[100:])
        ours = DeepTDAutoRegressor(cv=3, random_state=0).fit(X[:100], y[:100])
        lead.append(ours.score(X[100:], y[100:]) - linear)
    assert min(lead) > -0.05
    assert np.mean(lead) > -0.02


def test_noise_is_predicted_by_about_a_constant():
    scores = []
    for seed in range(6):
        rng = np.random.RandomState(seed)
        X, y = rng.randn(200, 12), rng.randn(200)
        ours = DeepTDAutoRegressor(cv=3, random_state=0).fit(X[:100], y[:100])
        scores.append(ours.score(X[100:], y[100:]))
    assert np.mean(scores) > -0.13


@pytest.mark.parametrize("n_features", [1, 2, 7, 401])
def test_inputs_of_any_length(n_features):
    rng = np.random.RandomState(0)
    X = rng.randn(60, n_features)
    y = X[:, 0] + 0.1 * rng.randn(60)
    model = DeepTDAutoRegressor(cv=3, random_state=0).fit(X, y)
    assert model.score(X, y) > 0.5


def test_predictions_stay_bounded_if_a_feature_hardly_varied():
    rng = np.random.RandomState(0)
    X = rng.randn(80, 20)
    y = X[:, 0] + 0.1 * rng.randn(80)
    X[:, 7] = 1e-9 * rng.randn(80)
    model = DeepTDAutoRegressor(cv=3, random_state=0).fit(X[:60], y[:60])
    X[60:, 7] = 1.0
    assert np.abs(model.predict(X[60:])).max() < 3 * np.abs(y).max()


# Default folds


def default_folds(model, X, y):
    """Return the rows that are held out of each fold."""
    folds = model._default_folds(flat(X), y, np.ones(len(y)))
    return [rows for _, rows in folds.split()]


def windows(seed, n_rows=120, n_values=20, ahead=3):
    """Windows of an oscillation, and its value some steps ahead of each."""
    noise = np.random.default_rng(seed).standard_normal(n_rows + n_values + ahead)
    series = lfilter([1], [1, -1.6, 0.9], noise)
    X = np.lib.stride_tricks.sliding_window_view(series, n_values)[:n_rows]
    return X.copy(), series[n_values - 1 + ahead :][:n_rows]


@pytest.mark.parametrize(
    ("n_rows", "n_folds"), [(3, 3), (19, 19), (20, 5), (500, 5), (501, 3)]
)
def test_each_row_is_held_out_once_in_random_order(n_rows, n_folds):
    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((n_rows, 3)), rng.standard_normal(n_rows)
    folds = default_folds(DeepTDAutoRegressor(), X, y)
    sizes = [len(rows) for rows in folds]
    assert len(folds) == n_folds
    assert max(sizes) - min(sizes) <= 1
    assert sorted(np.concatenate(folds)) == list(range(n_rows))
    if n_rows > n_folds:
        assert all(np.ptp(rows) > n_rows / 2 for rows in folds)
        assert len(np.unique(np.diff(folds[0]))) > 1
    again = default_folds(DeepTDAutoRegressor(random_state=1), X, y)
    assert all(map(np.array_equal, folds, again))


@pytest.mark.parametrize("kind", ["labels", "numbers", "one-hot"])
def test_classes_are_stratified_also_as_numbers(kind):
    rng = np.random.default_rng(0)
    label = np.repeat([0, 1, 2], [40, 20, 7])[rng.permutation(67)]
    X = rng.standard_normal((67, 4))
    y = {"labels": np.array(list("abc"))[label], "one-hot": np.eye(3)[label]}
    auto = DeepTDAutoClassifier if kind == "labels" else DeepTDAutoRegressor
    folds = default_folds(auto(), X, y.get(kind, label.astype(float)))
    counts = np.array([np.bincount(label[rows], minlength=3) for rows in folds])
    assert np.all(np.ptp(counts, axis=0) <= 1)


def test_windows_of_a_series_have_contiguous_folds():
    for seed in range(3):
        X, y = windows(seed)
        folds = default_folds(DeepTDAutoRegressor(), X, y)
        assert len(folds) == 5
        assert np.array_equal(np.concatenate(folds), np.arange(len(X)))
        order = np.random.default_rng(seed).permutation(len(X))
        folds = default_folds(DeepTDAutoRegressor(), X[order], y[order])
        assert all(np.ptp(rows) > 60 for rows in folds)
    scores = [
        without_time(DeepTDAutoRegressor(cv=cv, random_state=0), X, y).best_score_
        for cv in (None, KFold(5))
    ]
    assert scores[0] == scores[1]


@pytest.mark.parametrize("n_rows", [3, 4, 6, 11])
def test_few_rows_are_held_out_one_by_one(n_rows):
    """The score is R2 of all held-out predictions."""
    rng = np.random.default_rng(n_rows)
    X = rng.standard_normal((n_rows, 5))
    y = X[:, 0] + 0.1 * rng.standard_normal(n_rows)
    model = DeepTDAutoRegressor(random_state=0).fit(X, y)
    assert model.n_splits_ == n_rows
    assert models_of(model) == ON_SIGNAL
    for estimator, score in zip(
        model.cv_results_["estimator"],
        model.cv_results_["mean_test_score"],
        strict=True,
    ):
        predicted = cross_val_predict(estimator, X, y, cv=LeaveOneOut())
        np.testing.assert_allclose(score, r2_score(y, predicted), rtol=1e-7)
    assert np.all(np.abs(model.predict(X)) < 3 * np.abs(y).max())


def test_few_rows_are_enough_for_a_line():
    scores = []
    for seed in range(5):
        rng = np.random.default_rng(seed)
        X = rng.standard_normal((212, 3))
        y = X @ [1.0, -1.0, 0.5] + 0.1 * rng.standard_normal(212)
        model = DeepTDAutoRegressor(random_state=0).fit(X[:12], y[:12])
        scores.append(model.score(X[12:], y[12:]))
    assert np.mean(scores) > 0.9


def test_few_rows_of_classes():
    """The one row of a class has probability zero when it is held out."""
    rng = np.random.default_rng(0)
    y = np.repeat([0, 1, 2], [5, 4, 1])
    X = 3 * np.eye(3)[y] + 0.1 * rng.standard_normal((10, 3))
    model = DeepTDAutoClassifier(random_state=0).fit(X, y)
    assert model.n_splits_ == 10
    assert np.all(np.isfinite(model.cv_results_["mean_test_score"]))
    np.testing.assert_array_equal(model.predict(X)[:9], y[:9])
    with pytest.raises(ValueError, match=r"fold 2 have one class only, 0; .* need two"):
        DeepTDAutoClassifier().fit(X[:3], [0, 0, 1])


@pytest.mark.parametrize("auto", [DeepTDAutoClassifier, DeepTDAutoRegressor])
def test_sorted_rows_lose_little(auto):
    (X, y), test = digits(100, odd=False)
    in_order, by_y = (
        without_time(auto(random_state=0), X[order], y[order]).score(*test)
        for order in (np.arange(100), np.argsort(y))
    )
    assert by_y > in_order - 0.03


def test_one_hot_y_with_rare_classes_has_finite_scores():
    """A fold without a class has no variance in its column of y."""
    (X, y), test = digits(80, odd=False)
    keep = (y < 4) | (np.cumsum(y == 4) * (y == 4) == 1)
    Y = np.eye(5)[y[keep]]
    assert Y[:, 4].sum() == 1
    for cv in (None, 3):
        model = DeepTDAutoRegressor(cv=cv, random_state=0).fit(X[keep], Y)
        results = model.cv_results_
        assert np.all(np.isfinite(results["mean_test_score"]))
        assert model.best_score_ > 0.5
        assert np.all(np.isfinite(model.predict(test[0])))


def test_thirty_classes_of_two_rows():
    """A fold lacks half of the classes, and holds out a row of each other one."""
    rng = np.random.default_rng(0)
    y = np.repeat(np.arange(30), 4)
    means = np.cumsum(rng.standard_normal((30, 40)), axis=1)
    X = means[y] + rng.standard_normal((120, 40))
    known = np.arange(120) % 4 < 2
    model = DeepTDAutoClassifier(random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.fit(X[known], y[known])
    assert np.all(np.isfinite(model.cv_results_["mean_test_score"]))
    assert model.score(X[~known], y[~known]) > 0.9


@pytest.mark.parametrize("n_zero", [6, 40])
def test_default_folds_leave_out_rows_of_weight_zero(n_zero):
    """The rest are 18 single rows, or a series in five blocks."""
    X, y = windows(0, n_rows=24 if n_zero == 6 else 120)
    if n_zero == 6:
        X = X[np.random.default_rng(0).permutation(24)]
    weight = np.ones(len(y))
    weight[:n_zero] = 0
    rest = slice(n_zero, None)
    weighted, deleted = (
        without_time(DeepTDAutoRegressor(random_state=0), *rows)
        for rows in [(X, y, weight), (X[rest], y[rest], weight[rest])]
    )
    assert weighted.n_splits_ == deleted.n_splits_ == (18 if n_zero == 6 else 5)
    np.testing.assert_allclose(weighted.predict(X), deleted.predict(X), rtol=1e-9)


@pytest.mark.parametrize("scoring", ["r2", "roc_auc", "neg_log_loss"])
def test_few_rows_and_a_score_that_needs_several(scoring):
    rng = np.random.default_rng(0)
    X = rng.standard_normal((16, 4))
    auto, y = DeepTDAutoClassifier, X[:, 0] > 0
    if scoring == "r2":
        auto, y = DeepTDAutoRegressor, X[:, 0]
    model = auto(scoring=scoring, random_state=0).fit(X, y)
    assert model.n_splits_ == 5
    assert np.isfinite(model.best_score_)


# The average


def test_weights_are_not_negative_and_of_sum_one(fitted):
    model, X, _ = fitted
    assert model.weights_.shape == (len(model.estimators_), 1)
    assert np.all(model.weights_ >= 0)
    np.testing.assert_allclose(model.weights_.sum(axis=0), 1)
    members = [member.predict(flat(X)) for member in model.estimators_]
    np.testing.assert_allclose(model.predict(X), model.weights_[:, 0] @ members)


def test_weights_are_those_of_stacking_held_out_predictions(fitted):
    model, X, y = fitted
    predicted = [
        cross_val_predict(clone(member), flat(X), y, cv=KFold(3))
        for member in model.estimators_
    ]
    expected = squared_error_weights(np.array(predicted), y, np.ones(len(y)))
    np.testing.assert_allclose(model.weights_[:, 0], expected, rtol=1e-6)


def test_weights_of_classes_are_those_of_stacking(fitted_classifier):
    model, _ = fitted_classifier
    (X, y), _ = digits(150, odd=False)
    of_class = []
    for member in model.estimators_:
        proba = cross_val_predict(
            clone(member), flat(X), y, cv=StratifiedKFold(3), method="predict_proba"
        )
        of_class.append(proba[np.arange(len(y)), y])
    order = np.argsort(y, kind="stable")  # the order does not matter
    expected = log_loss_weights(np.array(of_class)[:, order], np.ones(len(y)))
    np.testing.assert_allclose(model.weights_, expected, rtol=1e-6)


def test_networks_are_members_only_if_one_is_the_best(noisy):
    """Here a network was compared to the end, but a kernel is better."""
    X, y = make_patch_cnn_regression(
        100, (6, 5), n_filters=2, noise=1.0, random_state=1
    )
    model = DeepTDAutoRegressor(cv=3, random_state=0).fit(X, y)
    results = model.cv_results_
    is_network = np.array(["model" not in params for params in results["params"]])
    assert np.any(is_network & (results["stage"] == 3))
    assert not is_network[model.best_index_]
    assert not np.any(results["weight"][is_network])
    model = DeepTDAutoRegressor(cv=3, random_state=0).fit(*noisy)
    assert isinstance(model.best_estimator_, DeepTDRegressor)
    assert model.best_params_ == {"kernel_sizes": (4, 3, 2)}
    best = model.cv_results_["weight"][model.best_index_]
    assert best == model.cv_results_["weight"].max() > 0.5


def test_a_member_is_a_plain_fit(fitted):
    model, X, y = fitted
    assert {type(e) for e in model.estimators_} <= {DeepTDRegressor, DeepTDRidge}
    for member in model.estimators_:
        again = clone(member).fit(flat(X), y)
        np.testing.assert_array_equal(again.predict(flat(X)), member.predict(flat(X)))


def pooled_r2(y, predicted, fold, weight=None):
    """Return R2 of a fold, relative to the variance of all rows."""
    center = np.average(y, weights=weight)
    variance = np.average((y - center) ** 2, weights=weight)
    on_fold = None if weight is None else weight[fold]
    squares = (y[fold] - predicted[fold]) ** 2
    return 1 - np.average(squares, weights=on_fold) / variance


def test_scores_are_errors_relative_to_the_variance_of_all_rows(fitted):
    model, X, y = fitted
    results = model.cv_results_
    for i in np.flatnonzero(results["stage"] == 3):
        predicted = cross_val_predict(results["estimator"][i], flat(X), y, cv=KFold(3))
        for fold, (_, test) in enumerate(KFold(3).split(X)):
            score = results[f"split{fold}_test_score"][i]
            np.testing.assert_allclose(score, pooled_r2(y, predicted, test), rtol=1e-9)
        mean = results["mean_test_score"][i]
        np.testing.assert_allclose(mean, r2_score(y, predicted), rtol=1e-9)


def test_scores_are_weighted(noisy):
    X, y = noisy
    weight = np.random.default_rng(0).uniform(0.5, 2, len(y))
    model = DeepTDAutoRegressor(cv=3, random_state=0).fit(X, y, weight)
    for i in np.flatnonzero(model.cv_results_["stage"] == 3)[:3]:
        estimator = clone(model.cv_results_["estimator"][i])
        for fold, (train, test) in enumerate(KFold(3).split(X)):
            predicted = estimator.fit(X[train], y[train], weight[train]).predict(X)
            score = model.cv_results_[f"split{fold}_test_score"][i]
            expected = pooled_r2(y, predicted, test, weight)
            np.testing.assert_allclose(score, expected, rtol=1e-9)


def test_a_score_that_is_asked_for_is_that_of_cross_validation():
    (X, y), _ = digits(90)
    model = DeepTDAutoRegressor(cv=3, scoring="r2", random_state=0).fit(X, y)
    results = model.cv_results_
    for i in np.flatnonzero(results["stage"] == 3)[:3]:
        expected = cross_val_score(results["estimator"][i], flat(X), y, cv=KFold(3))
        ours = [results[f"split{fold}_test_score"][i] for fold in range(3)]
        np.testing.assert_allclose(ours, expected, rtol=1e-9)


def test_the_size_of_the_ensemble_has_a_bound(fitted):
    """The models of the smaller average are the heaviest ones."""
    large, X, y = fitted
    for size in (1, 2):
        model = DeepTDAutoRegressor(cv=3, ensemble_size=size, random_state=0)
        model.fit(X, y)
        assert len(model.estimators_) == size
        scores = "mean_test_score"
        np.testing.assert_array_equal(
            model.cv_results_[scores], large.cv_results_[scores]
        )
        members = np.flatnonzero(model.cv_results_["weight"])
        if size == 1:
            assert members == [model.best_index_]
            np.testing.assert_array_equal(model.weights_, [[1]])
        else:
            heaviest = np.argsort(-large.cv_results_["weight"])[:size]
            assert set(members) == set(heaviest)


def test_the_deviation_is_that_of_members_and_between_them(fitted):
    model, X, _ = fitted
    mean, std = model.predict(X, return_std=True)
    of_members = [m.predict(flat(X), return_std=True) for m in model.estimators_]
    square = sum(
        w * (s**2 + (m - mean) ** 2)
        for w, (m, s) in zip(model.weights_[:, 0], of_members, strict=True)
    )
    np.testing.assert_allclose(std, np.sqrt(square))
    assert np.all(std > 0)


def test_several_outputs_have_weights_of_their_own():
    (X, y), _ = digits(120)
    Y = np.column_stack([y, X[:, 3, 3], -2 * y + 5])
    model = DeepTDAutoRegressor(cv=3, random_state=0).fit(X, Y)
    assert model.weights_.shape == (len(model.estimators_), 3)
    np.testing.assert_allclose(model.weights_.sum(axis=0), 1)
    assert not np.allclose(model.weights_[:, 0], model.weights_[:, 1], atol=0.01)
    assert model.predict(X).shape == (120, 3)
    mean, std = model.predict(X, return_std=True)
    assert mean.shape == std.shape == (120, 3)


# Results


def test_results_hold_every_candidate(fitted):
    model, _, _ = fitted
    results = model.cv_results_
    n_candidates = len(results["params"])
    assert {len(column) for column in results.values()} == {n_candidates}
    assert models_of(model) == ON_IMAGES
    assert n_candidates > len(ON_IMAGES)
    scores = np.array([results[f"split{i}_test_score"] for i in range(3)])
    compared = np.isfinite(scores).all(axis=0)
    np.testing.assert_allclose(
        results["mean_test_score"], np.where(compared, scores.mean(axis=0), scores[0])
    )
    for name in ("mean_fit_time", "mean_score_time"):
        assert np.all(results[name] > 0)
    assert sorted(results["rank_test_score"]) == list(range(1, n_candidates + 1))
    assert results["params"][model.best_index_] == model.best_params_
    assert model.best_score_ == results["mean_test_score"][model.best_index_]
    np.testing.assert_allclose(results["weight"].sum(), 1)
    assert np.count_nonzero(results["weight"]) == len(model.estimators_)


def test_candidates_far_behind_on_the_first_fold_stop(fitted):
    """Their squared error is 2.5 times that of the best one, and the difference more
    than three standard errors."""
    model, X, y = fitted
    results, n_models = model.cv_results_, len(ON_IMAGES)
    train, test = next(KFold(3).split(X))
    losses = np.array(
        [
            (clone(e).fit(flat(X)[train], y[train]).predict(flat(X)[test]) - y[test])
            ** 2
            for e in results["estimator"][:n_models]
        ]
    )
    gap = losses - losses[losses.mean(axis=1).argmin()]
    is_worse = losses.mean(axis=1) > 2.5 * losses.mean(axis=1).min()
    is_sure = gap.mean(axis=1) > 3 * gap.std(axis=1) / np.sqrt(len(test))
    goes_on = ~(is_worse & is_sure)
    goes_on[0] = True  # ridge regression on the signal
    assert 0 < np.sum(~goes_on) < n_models - 1
    scores = np.array([results[f"split{i}_test_score"] for i in range(3)])
    np.testing.assert_array_equal(
        np.isfinite(scores[:, :n_models]), [np.full(n_models, True), goes_on, goes_on]
    )
    expected = np.where(goes_on, 3, 1)
    np.testing.assert_array_equal(results["stage"][:n_models], expected)
    assert not np.any(results["weight"][:n_models][~goes_on])


def test_the_leaderboard_has_the_best_candidate_first(fitted):
    model, _, _ = fitted
    board, results = model.leaderboard(), model.cv_results_
    assert isinstance(board, pd.DataFrame)
    columns = "model", "mean_score", "standard_error", "weight", "seconds", "stage"
    assert tuple(board.columns) == columns
    assert len(board) == len(results["params"])
    assert np.all(np.diff(board["stage"]) <= 0)
    for _, group in board.groupby("stage"):
        assert np.all(np.diff(group["mean_score"]) <= 0)
    assert board["mean_score"][0] == model.best_score_
    first = np.argmin(results["rank_test_score"])
    scores = [results[f"split{i}_test_score"][first] for i in range(3)]
    np.testing.assert_allclose(
        board["standard_error"][0], np.std(scores, ddof=1) / np.sqrt(3)
    )
    np.testing.assert_allclose(board["weight"].sum(), 1)
    assert set(ON_IMAGES) <= set(board["model"])
    assert any(n.startswith("network, kernel sizes ((") for n in board["model"])
    stopped = board["standard_error"].isna()
    assert np.any(stopped)
    assert np.all(board["stage"][stopped] == 1)


def test_the_leaderboard_is_a_list_without_pandas(fitted, monkeypatch):
    model, _, _ = fitted
    expected = model.leaderboard()
    with monkeypatch.context() as patched:
        patched.setitem(sys.modules, "pandas", None)
        rows = model.leaderboard()
    assert isinstance(rows, list)
    pd.testing.assert_frame_equal(pd.DataFrame(rows), expected)


@pytest.mark.parametrize(
    ("shape", "printed"),
    [
        ((12,), "DeepTDRidge(features=SignalScaler(), random_state=0)"),
        (
            (8, 8),
            "DeepTDRidge(features=SignalScaler(), input_shape=(8, 8), random_state=0)",
        ),
    ],
)
def test_candidates_print_in_two_lines(shape, printed):
    """The default shape is left out, another one and the seed are there once."""
    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((40, *shape)), rng.standard_normal(40)
    model = without_time(DeepTDAutoRegressor(random_state=0), X, y)
    assert str(model.best_estimator_) == printed
    for estimator in map(str, model.cv_results_["estimator"]):
        assert estimator.count("\n") < 2
        assert estimator.count("random_state") == 1
        assert estimator.count("input_shape") == len(shape) - 1


# Estimators that are handed in


def test_partial_least_squares_is_a_candidate():
    """The data are spectra with three latent components and noise. The folds have
    equal sizes, so that the mean score is R2 of all held-out predictions."""
    rng = np.random.RandomState(0)
    latent = rng.randn(120, 3)
    X = latent @ rng.randn(3, 40) + 0.3 * rng.randn(120, 40)
    y = latent @ [1.0, -1.0, 0.5] + 0.1 * rng.randn(120)
    pls = PLSRegression(3)
    model = DeepTDAutoRegressor(
        extra_estimators=[("pls", pls)], cv=3, ensemble_size=1, random_state=0
    ).fit(X.reshape(-1, 8, 5), y)
    board = model.leaderboard().set_index("model")
    predicted = cross_val_predict(PLSRegression(3), X, y, cv=KFold(3))
    expected = r2_score(y, predicted)
    np.testing.assert_allclose(board.loc["pls", "mean_score"], expected)
    assert expected > 0.9
    assert not hasattr(pls, "coef_")


def test_an_estimator_that_is_best_is_the_model():
    rng = np.random.RandomState(0)
    X = rng.uniform(-1, 1, (150, 6))
    y = np.sign(X[:, 0] * X[:, 5])  # nothing for a network of patches
    y = y + 0.01 * rng.randn(150)

    class Known(Ridge):
        def _features(self, X):
            return np.sign(X[:, :1] * X[:, 5:])

        def fit(self, X, y, sample_weight=None):
            return super().fit(self._features(X), y, sample_weight)

        def predict(self, X):
            return super().predict(self._features(X))

    extra = [("known", Known(alpha=1e-3)), ("gp", GaussianProcessRegressor())]
    model = DeepTDAutoRegressor(extra_estimators=extra, cv=3, random_state=0)
    model.fit(X, y)
    assert model.best_params_ == {"model": "known"}
    assert isinstance(model.best_estimator_, Known)
    assert model.score(X, y) > 0.99
    with pytest.raises(ValueError, match="Known has none"):
        model.predict(X, return_std=True)


def test_classifiers_are_candidates():
    X, y = planted_classes(90, 0, size=3)
    names = np.array(["no", "yes"])[y]
    extra = [
        ("bayes", GaussianNB()),
        ("svm", CalibratedClassifierCV(SVC(), ensemble=False)),
    ]
    model = DeepTDAutoClassifier(extra_estimators=extra, cv=3, random_state=0)
    board = model.fit(X, names).leaderboard().set_index("model")
    expected = [
        -log_loss(
            names[test], GaussianNB().fit(X[train], names[train]).predict_proba(X[test])
        )
        for train, test in StratifiedKFold(3).split(X, names)
    ]
    np.testing.assert_allclose(board.loc["bayes", "mean_score"], np.mean(expected))
    assert np.isfinite(board.loc["svm", "mean_score"])


class OnlyFit(BaseEstimator):
    def fit(self, X, y):
        return self


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        ([("mine", OnlyFit())], r"'mine'.*no predict.*use a regressor"),
        ([("one", Ridge()), ("one", Ridge())], "two estimators named 'one'"),
        ([("a class", Ridge)], "'a class'.*must be an unfitted estimator"),
        ([("a number", 3)], "'a number'.*got 3"),
        ([Ridge()], r"pairs of a name and an estimator.*got Ridge\(\)"),
        ([(1, Ridge())], r"pairs of a name and an estimator.*got \(1, Ridge"),
        (Ridge(), "extra_estimators"),
    ],
)
def test_bad_estimators(noisy, extra, message):
    model = DeepTDAutoRegressor(extra_estimators=extra)
    with pytest.raises((TypeError, ValueError), match=message):
        model.fit(*noisy)


def test_a_classifier_without_probabilities_is_refused():
    X, y = planted_classes(60, 0, size=4)
    model = DeepTDAutoClassifier(extra_estimators=[("svm", SVC())])
    with pytest.raises(TypeError, match=r"'svm'.*no predict_proba.*CalibratedClass"):
        model.fit(X, y)


class Failing(Ridge):
    def fit(self, X, y, sample_weight=None):
        raise ValueError("this cannot work")


def test_a_candidate_that_fails_is_named_and_not_chosen(noisy):
    model = DeepTDAutoRegressor(
        extra_estimators=[("broken", Failing())], cv=3, random_state=0
    )
    with pytest.warns(FitFailedWarning, match=r"broken.*ValueError: this cannot work"):
        model.fit(*noisy)
    board = model.leaderboard()
    assert board["model"].iloc[-1] == "broken"
    assert np.isnan(board["mean_score"].iloc[-1])
    assert board["weight"].iloc[-1] == 0


def test_an_estimator_without_weights_fails_only_if_weights_are_given(noisy):
    X, y = noisy[0][:60], noisy[1][:60]
    extra = [("neighbours", KNeighborsRegressor())]
    model = DeepTDAutoRegressor(extra_estimators=extra, cv=3, random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("error", FitFailedWarning)
        model.fit(X, y)
    with pytest.warns(FitFailedWarning, match=r"neighbours.*takes no sample_weight"):
        model.fit(X, y, np.linspace(1, 2, len(y)))


# Limits and failures


def test_ridge_on_the_signal_is_the_model_if_time_is_short(noisy):
    model = DeepTDAutoRegressor(max_time=1e-9, random_state=0)
    with pytest.warns(UserWarning, match="max_time=1e-09") as caught:
        model.fit(*noisy)
    n_candidates = len(model.cv_results_["params"])
    expected = (
        f"max_time=1e-09 was too short to compare {n_candidates - 1} of {n_candidates}"
    )
    assert any(expected in str(warning.message) for warning in caught)
    stages = model.cv_results_["stage"]
    assert stages[0] == 3
    assert not np.any(stages[1:])
    assert model.best_params_ == {"model": ON_SIGNAL[0]}
    assert model.estimators_ == [model.best_estimator_]
    assert model.score(*noisy) > 0


def test_a_limit_that_is_not_reached_changes_nothing(noisy):
    """Candidates that share filters, too, are those of a fit without a limit."""
    X, y = noisy[0][:60].reshape(-1, 4, 6), noisy[1][:60]
    free, limited = (
        DeepTDAutoRegressor(max_time=t, cv=3, n_jobs=2, random_state=0).fit(X, y)
        for t in (None, 1e6)
    )
    np.testing.assert_array_equal(free.predict(X), limited.predict(X))
    for name in ("mean_test_score", "stage", "weight"):
        np.testing.assert_array_equal(free.cv_results_[name], limited.cv_results_[name])


def test_a_limit_that_is_not_reached_changes_no_classifier():
    (X, y), _ = digits(100, odd=False)
    free, limited = (
        DeepTDAutoClassifier(max_time=t, cv=3, random_state=0).fit(X, y)
        for t in (None, 1e6)
    )
    for name in ("mean_test_score", "stage", "weight"):
        np.testing.assert_array_equal(free.cv_results_[name], limited.cv_results_[name])


@pytest.mark.parametrize(("left", "all_kept"), [(0.0, False), (1e6, True)])
def test_members_for_which_no_time_is_left_are_named(
    monkeypatch, fitted, left, all_kept
):
    """The clock stands at this distance from the end, once all are compared."""
    expected, X, y = fitted
    monkeypatch.setattr(_search_cv, "clock", lambda: 0.0)
    monkeypatch.setattr(_auto, "clock", lambda: 1e9 - left)
    model = DeepTDAutoRegressor(cv=3, max_time=1e9, random_state=0)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model.fit(X, y)
    n_members = np.count_nonzero(model.cv_results_["weight"])
    assert n_members == len(expected.estimators_)
    told = [str(w.message) for w in caught if "no time to fit" in str(w.message)]
    if all_kept:
        assert not told
        assert len(model.estimators_) == n_members
    else:
        has_weight = model.cv_results_["weight"][model.best_index_] > 0
        n_left = n_members - has_weight
        assert f"no time to fit {n_left} of {n_members} members" in told[0]
        assert model.estimators_ == [model.best_estimator_]
        np.testing.assert_array_equal(model.weights_, [[1]])
    best = model.cv_results_["estimator"][model.best_index_]
    again = clone(best).fit(flat(X), y)
    np.testing.assert_array_equal(
        model.best_estimator_.predict(flat(X)), again.predict(flat(X))
    )


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"ensemble_size": 0}, "ensemble_size.*Got 0"),
        ({"max_time": 0}, "max_time.*Got 0"),
        ({"cv": 1}, "cv|n_splits"),
        ({"cv": 200}, "n_splits=200"),
        ({"scoring": "no such score"}, "no such score"),
    ],
)
def test_bad_parameters(noisy, parameters, message):
    model = DeepTDAutoRegressor(**parameters)
    with pytest.raises((ValueError, TypeError), match=message):
        model.fit(*noisy)
    with pytest.raises(NotFittedError):
        check_is_fitted(model)
    with pytest.raises(NotFittedError):
        model.leaderboard()


# Within scikit-learn


def test_the_number_of_jobs_changes_nothing(noisy):
    X, y = noisy[0][:60].reshape(-1, 4, 6), noisy[1][:60]
    Y = np.column_stack([y, -2 * y])
    one, two = (
        DeepTDAutoRegressor(cv=3, n_jobs=n_jobs, random_state=0).fit(X, Y)
        for n_jobs in (None, 2)
    )
    np.testing.assert_array_equal(one.predict(X), two.predict(X))
    for name in ("mean_test_score", "rank_test_score", "stage", "weight"):
        np.testing.assert_array_equal(one.cv_results_[name], two.cv_results_[name])


def test_rows_of_weight_zero_count_neither_in_fits_nor_in_scores(noisy):
    X, y = noisy[0].reshape(-1, 4, 6), noisy[1]
    weight = np.r_[np.ones(100), np.zeros(50)]
    spoilt = np.where(weight > 0, y, 1e3)
    with_all = list(KFold(3).split(X))
    without = [(a[a < 100], b[b < 100]) for a, b in with_all if np.any(b < 100)]
    with_all = [(a, b) for a, b in with_all if np.any(b < 100)]
    weighted = DeepTDAutoRegressor(cv=with_all, random_state=0)
    weighted.fit(X, spoilt, sample_weight=weight)
    deleted = DeepTDAutoRegressor(cv=without, random_state=0)
    deleted.fit(X[:100], y[:100], sample_weight=np.ones(100))
    for name in ("mean_test_score", "stage", "weight"):
        np.testing.assert_allclose(
            weighted.cv_results_[name], deleted.cv_results_[name], rtol=1e-5
        )
    np.testing.assert_allclose(weighted.predict(X), deleted.predict(X), atol=1e-5)


def test_splits_may_hold_rows_out_twice_or_never(noisy):
    X, y = noisy[0].reshape(-1, 4, 6), noisy[1]
    cv = ShuffleSplit(4, test_size=0.3, random_state=0)
    model = DeepTDAutoRegressor(cv=cv, random_state=0).fit(X, y)
    np.testing.assert_allclose(model.weights_.sum(), 1)


def test_groups_are_routed_to_the_splitter_of_pipelines_too():
    X, y = planted_classes(90, 0, size=4)
    groups = np.arange(len(y)) % 3
    weight = np.random.RandomState(0).uniform(1, 2, len(y))
    model = DeepTDAutoClassifier(cv=GroupKFold(3), random_state=0)
    model.set_params(max_time=1e-6)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        with sklearn.config_context(enable_metadata_routing=True):
            requested = clone(model).set_fit_request(sample_weight=True)
            routed = make_pipeline(requested).fit(
                X, y, groups=groups, sample_weight=weight
            )
        splits = list(GroupKFold(3).split(X, y, groups))
        direct = clone(model).set_params(cv=splits).fit(X, y, weight)
    np.testing.assert_array_equal(routed.predict_proba(X), direct.predict_proba(X))


def test_a_fitted_model_can_be_stored_and_copied(fitted):
    model, X, _ = fitted
    again = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(again.predict(X), model.predict(X))
    assert clone(model).get_params() == model.get_params()


def test_verbose_prints_every_candidate(noisy, capsys):
    X, y = noisy[0][:60], noisy[1][:60]
    model = DeepTDAutoRegressor(cv=2, verbose=1, random_state=0).fit(X, y)
    board = model.leaderboard()
    head, *lines = capsys.readouterr().out.splitlines()
    n_candidates = f"{len(board)} candidates on 2 folds of 60 samples"
    assert head == f"[DeepTDAutoRegressor] {n_candidates}"
    printed = "\n".join(lines)
    assert all(f": {name}, score " in printed for name in board["model"])
    assert all("[DeepTDAutoRegressor] step " in line for line in lines)
    fits = [line for line in lines if "step 6 of 6, fit of all samples: " in line]
    assert len(fits) == len(model.estimators_)
    weights = [float(line.rpartition(", weight ")[2]) for line in fits]
    np.testing.assert_allclose(weights, model.weights_[:, 0], rtol=0.1)
    model.set_params(verbose=0).fit(X, y)
    assert not capsys.readouterr().out


# Classes


def test_classes_of_images_without_any_argument(fitted_classifier):
    """Logistic regression of pixels reaches .92 with the best penalty of several."""
    (X, y), (X_test, y_test) = digits(150, odd=False)
    ours = fitted_classifier[0].score(X_test, y_test)
    linear = LogisticRegression(C=10, max_iter=1000).fit(flat(X) / 16, y)
    assert ours > linear.score(flat(X_test) / 16, y_test) + 0.02
    assert ours > 0.94


def test_probabilities_are_those_of_the_members(fitted_classifier):
    model, (X, y) = fitted_classifier
    p = sum(
        w * e.predict_proba(flat(X))
        for w, e in zip(model.weights_, model.estimators_, strict=True)
    )
    np.testing.assert_allclose(model.predict_proba(X), p, rtol=1e-12)
    np.testing.assert_allclose(p.sum(axis=1), 1, rtol=1e-10)
    np.testing.assert_array_equal(model.predict(X), model.classes_[p.argmax(axis=1)])
    np.testing.assert_allclose(np.exp(model.predict_log_proba(X)), p, atol=1e-14)
    assert model.weights_.min() > 0
    np.testing.assert_allclose(model.weights_.sum(), 1)
    assert log_loss(y, p) < 0.3


def test_members_are_what_a_user_could_write(fitted_classifier):
    model, (X, _) = fitted_classifier
    (X_train, y), _ = digits(150, odd=False)
    X_train, X = flat(X_train), flat(X)
    for estimator in model.estimators_:
        assert isinstance(estimator, DeepTDRidgeClassifier)
        again = clone(estimator).fit(X_train, y)
        np.testing.assert_array_equal(
            again.predict_proba(X), estimator.predict_proba(X)
        )


def test_scores_of_classes_are_those_of_cross_validation(fitted_classifier):
    (X, y), _ = digits(150, odd=False)
    results = fitted_classifier[0].cv_results_
    compared = np.flatnonzero(results["stage"] == 3)
    assert len(compared) > 3
    for i in compared[::3]:
        expected = cross_val_score(
            results["estimator"][i], flat(X), y, cv=3, scoring="neg_log_loss"
        )
        ours = [results[f"split{fold}_test_score"][i] for fold in range(3)]
        np.testing.assert_allclose(ours, expected, rtol=1e-6)


def test_a_planted_network_is_preferred_and_near_the_truth():
    X, y = planted_classes(1400, 1, size=5)
    model = DeepTDAutoClassifier(cv=3, random_state=0).fit(X[:400], y[:400])
    assert isinstance(model.best_estimator_, DeepTDClassifier)
    assert model.best_params_ == {"kernel_sizes": (5, 5)}
    assert model.estimators_[0] is model.best_estimator_
    assert model.weights_[0] > 0.5
    linear = model.cv_results_["mean_test_score"][0]
    assert -log_loss(y[400:], model.predict_proba(X[400:])) > linear + 0.05


def test_noise_is_predicted_by_about_the_shares():
    losses = []
    for seed in range(2):
        rng = np.random.RandomState(seed)
        X, y = rng.randn(300, 12), rng.randint(3, size=300)
        model = DeepTDAutoClassifier(cv=3, random_state=0).fit(X[:150], y[:150])
        losses.append(log_loss(y[150:], model.predict_proba(X[150:])))
    assert np.mean(losses) < np.log(3) + 0.05


@pytest.mark.parametrize("scoring", ["accuracy", "neg_log_loss", "roc_auc"])
def test_scorers_of_scikit_learn(scoring):
    X, y = planted_classes(80, 0, size=3)
    y = np.array(["no", "yes"])[y]
    model = DeepTDAutoClassifier(scoring=scoring, cv=3, random_state=0).fit(X, y)
    assert np.isfinite(model.best_score_)
    assert set(model.predict(X)) <= {"no", "yes"}
    best = model.cv_results_["estimator"][model.best_index_]
    expected = cross_val_score(best, X, y, cv=3, scoring=scoring).mean()
    np.testing.assert_allclose(model.best_score_, expected)


def test_a_rare_class_may_be_missing_in_a_fold():
    (X, y), _ = digits(100, odd=False)
    keep = (y < 3) | (np.cumsum(y == 3) * (y == 3) == 1)
    X, y = X[keep], y[keep]
    extra = [("neighbours", KNeighborsClassifier())]
    model = DeepTDAutoClassifier(cv=3, extra_estimators=extra, random_state=0)
    with pytest.warns(UserWarning, match="least populated class"):
        model.fit(X, y)
    assert model.predict_proba(X).shape == (len(X), 4)
    assert np.all(np.isfinite(model.predict_log_proba(X)))
    assert np.all(np.isfinite(model.cv_results_["mean_test_score"]))


def test_classes_do_not_depend_on_the_number_of_jobs():
    (X, y), (X_test, _) = digits(80, odd=False)
    models = [
        DeepTDAutoClassifier(cv=3, n_jobs=n, random_state=0).fit(X, y) for n in (1, 2)
    ]
    np.testing.assert_array_equal(*[m.predict_proba(X_test) for m in models])


def test_labels_may_be_strings():
    X, y = planted_classes(60, 0, size=4)
    names = np.array(["no", "yes"])[y]
    numbers, strings = (
        DeepTDAutoClassifier(cv=3, random_state=0).fit(X, labels)
        for labels in (y, names)
    )
    np.testing.assert_array_equal(strings.predict_proba(X), numbers.predict_proba(X))


@pytest.mark.parametrize("auto", [DeepTDAutoRegressor, DeepTDAutoClassifier])
def test_weights_are_repetitions(noisy, auto):
    """In fits, scores and the average, if copies of a row are in one fold."""
    X, y = noisy[0][:60].reshape(-1, 4, 6), noisy[1][:60]
    y = np.digitize(y, [-0.5, 0.5]) if auto is DeepTDAutoClassifier else y
    repeats = np.random.RandomState(0).randint(1, 4, size=60)
    fold = np.arange(60) % 3
    places = np.repeat(np.arange(60), repeats)
    splits, repeated_splits = (
        [(np.flatnonzero(f != k), np.flatnonzero(f == k)) for k in range(3)]
        for f in (fold, fold[places])
    )
    weighted = auto(cv=splits, random_state=0).fit(X, y, repeats)
    repeated = auto(cv=repeated_splits, random_state=0).fit(X[places], y[places])
    ours, theirs = weighted.cv_results_, repeated.cv_results_
    assert ours["params"] == theirs["params"]
    for name in ("mean_test_score", "stage", "weight"):
        np.testing.assert_allclose(ours[name], theirs[name], rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(weighted.weights_, repeated.weights_, atol=1e-6)


def test_little_time_leaves_a_ridge_classifier_on_the_signal():
    (X, y), _ = digits(100, odd=False)
    model = without_time(DeepTDAutoClassifier(random_state=0), X, y)
    assert model.best_params_ == {"model": "ridge classifier on the signal"}
    assert model.cv_results_["stage"].nonzero()[0].tolist() == [0]


class Listing(BaseEstimator):
    def fit(self, X, y):
        return self

    def predict(self, X):
        return [float(row[0]) for row in X]


def test_a_model_may_predict_a_list():
    X = np.random.RandomState(0).standard_normal((60, 6))
    model = DeepTDAutoRegressor(
        extra_estimators=[("first", Listing())], cv=3, random_state=0
    ).fit(X, X[:, 0])
    np.testing.assert_allclose(model.predict(X), X[:, 0], atol=1e-6)
