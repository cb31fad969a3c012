"""DeepTDRidge: predictions, deviations, metric, landmarks, folds and the contract."""

import pickle

import numpy as np
import pytest
from scipy.signal import lfilter
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import RidgeCV
from sklearn.model_selection import GroupKFold, KFold, LeaveOneOut, TimeSeriesSplit

from skdeeptd import DeepTDFeatures, DeepTDRidge, SignalScaler
from skdeeptd._solvers.learned_kernel import kernel_values, squared_distances

VARIANTS = {
    "linear": {},
    "rbf": {"kernel": "rbf"},
    "laplace": {"kernel": "laplace"},
    "learned": {"kernel": "rbf", "metric": "learned"},
}
OVER_VARIANTS = pytest.mark.parametrize("variant", VARIANTS)
NONLINEAR = pytest.mark.parametrize("variant", list(VARIANTS)[1:])


def data(n_rows=60, seed=1):
    X = np.random.default_rng(seed).standard_normal((n_rows, 16))
    return X, np.sin(X[:, 0]) + X[:, 5] + 0.1 * X[:, 9] ** 2


def ridge(variant="linear", features=None, **options):
    options = {"random_state": 0, **VARIANTS[variant], **options}
    return DeepTDRidge(features, **options)


def kernels_of(model, new, known):
    """Return the kernel of the known rows, with new rows, and of these."""
    tables = [model.features_.transform(rows) for rows in (known, new)]
    if model.kernel_ == "linear":
        known, new = tables
        return known @ known.T, new @ known.T, new @ new.T
    if hasattr(model, "components_"):
        tables = [table @ model.components_.T for table in tables]

    def kernel(a, b):
        return kernel_values(squared_distances(a, b), model.kernel_, model.gamma_)

    known, new = tables
    return kernel(known, known), kernel(new, known), kernel(new, new)


def kriging(known, cross, own, y):
    """Mean and covariance at new rows of a Gaussian process with an unknown mean."""
    solved = np.linalg.solve(known, cross.T).T
    ones = np.linalg.solve(known, np.ones(len(known)))
    rest = 1 - solved.sum(axis=1)
    covariance = own - solved @ cross.T + np.outer(rest, rest) / ones.sum()
    return rest * (ones @ y) / ones.sum() + solved @ y, covariance


# Predictions and deviations


@OVER_VARIANTS
def test_predictions_and_deviations_are_those_of_a_gaussian_process(variant):
    X, y = data()
    y = y + 0.3 * np.random.default_rng(0).standard_normal(60)
    model = ridge(variant).fit(X, y)
    new = np.random.default_rng(2).standard_normal((20, 16))
    predicted, std = model.predict(new, return_std=True)
    known, cross, own = (k / model.alpha_ for k in kernels_of(model, new, X))
    mean, covariance = kriging(known + np.eye(60), cross, own, y)
    np.testing.assert_allclose(predicted, mean, atol=1e-6)
    variance = model.variance_scale_ * np.diag(covariance)
    np.testing.assert_allclose(std**2, variance, rtol=1e-4)


@OVER_VARIANTS
@pytest.mark.parametrize("weight_unit", [1, 1e-3, 50])
def test_weights_count_in_predictions_and_deviations(variant, weight_unit):
    """Whatever their unit is; ``total_weight_`` is in that of ``alpha_``."""
    rng = np.random.default_rng(5)
    X, noise = rng.standard_normal((40, 10)), rng.standard_normal(40)
    weight = np.r_[np.full(10, 9.0), np.full(30, 0.2)]
    y, weight = 3 + noise / np.sqrt(weight), weight_unit * weight
    new = rng.standard_normal((20, 10))
    features = DeepTDFeatures((4,), n_filters=1, n_random_filters=1)
    model = ridge(variant, features).fit(X, y, weight)
    predicted, std = model.predict(new, return_std=True)
    known, cross, own = (k / model.alpha_ for k in kernels_of(model, new, X))
    in_unit = weight / weight.sum() * model.total_weight_
    mean, covariance = kriging(known + np.diag(1 / in_unit), cross, own, y)
    np.testing.assert_allclose(predicted, mean, rtol=1e-6)
    variance = np.diag(covariance) * model.variance_scale_
    np.testing.assert_allclose(std**2, variance, rtol=1e-5)


@OVER_VARIANTS
def test_the_unit_of_the_weights_does_not_matter(variant):
    X, y = data()
    weight = np.random.default_rng(0).uniform(0.5, 2, 60)
    expected = ridge(variant).fit(X, y, weight).predict(X, return_std=True)
    for unit in (1e-6, 1e6):
        found = ridge(variant).fit(X, y, unit * weight).predict(X, return_std=True)
        np.testing.assert_allclose(found, expected, atol=1e-8)


@pytest.mark.parametrize("variant", ["linear", "rbf", "laplace"])
def test_the_noise_is_the_weighted_mean_of_squared_held_out_residuals(variant):
    rng = np.random.default_rng(0)
    X, weight = rng.standard_normal((60, 16)), np.r_[np.full(59, 1.0), 30.0]
    y = rng.standard_normal(60)
    features = SignalScaler()
    model = ridge(variant, features, cv=KFold(3)).fit(X, y, weight)
    residual = []
    for known, left in KFold(3).split(X):
        part = ridge(variant, features, cv=KFold(3))
        part = part.fit(X[known], y[known], weight[known])
        residual.append(y[left] - part.predict(X[left]))
    expected = np.average(np.concatenate(residual) ** 2, weights=weight)
    np.testing.assert_allclose(model.noise_variance_, expected, rtol=0.3)


@OVER_VARIANTS
@pytest.mark.parametrize("noise", [0.02, 0.3, 1.0])
def test_deviations_are_of_the_size_of_the_errors(variant, noise):
    """Also if the fit interpolates and in-sample residuals vanish."""
    errors, deviations, noises = [], [], []
    for seed in range(12):
        rng = np.random.default_rng(seed)
        X = np.cumsum(rng.standard_normal((260, 30)), axis=1)
        X -= X.mean(axis=1, keepdims=True)
        mean = np.tanh(X[:, 3] - X[:, 9]) + X[:, 20] / 5
        y = mean[:60] + noise * rng.standard_normal(60)
        model = ridge(variant, random_state=seed).fit(X[:60], y)
        predicted, std = model.predict(X[60:], return_std=True)
        errors.append(np.abs(predicted - mean[60:]))
        deviations.append(std)
        noises.append(model.noise_variance_)
    errors, deviations = np.array(errors), np.array(deviations)
    # The deviation does not contain the uncertainty of the metric.
    assert np.mean(errors < 2 * deviations) > (0.6 if variant == "learned" else 0.8)
    ratio = np.sqrt(np.mean(deviations**2, 1) / np.mean(errors**2, 1))
    assert 0.5 < np.median(ratio) < 1.6
    assert np.mean((ratio > 0.33) & (ratio < 3)) > 0.8
    assert np.mean(noises) > 0.8 * noise**2


@OVER_VARIANTS
def test_the_noise_is_found_if_the_mean_is_easy(variant):
    noises, scales = [], []
    for seed in range(10):
        rng = np.random.default_rng(seed)
        X = rng.standard_normal((300, 4))
        y = X[:, 0] + 0.5 * rng.standard_normal(300)
        model = ridge(variant, SignalScaler(), random_state=seed).fit(X, y)
        noises.append(model.noise_variance_)
        scales.append(model.variance_scale_)
    assert 0.9 < np.mean(noises) / 0.5**2 < 1.3
    assert 0.75 < np.mean(scales) / 0.5**2 < 1.2


@OVER_VARIANTS
def test_one_sample_has_no_deviations(variant):
    X, y = data()
    with pytest.warns(UserWarning, match="deviations are NaN"):
        model = ridge(variant).fit(X[:1], y[:1])
    predicted, std = model.predict(X, return_std=True)
    np.testing.assert_allclose(predicted, y[0])
    assert np.all(np.isnan(std))
    assert np.all(np.isnan(model.noise_variance_))


@pytest.mark.parametrize("gamma", [None, 1e-16, 1e-9, 1e3])
@pytest.mark.parametrize("value", [0.0, 0.1, -4e5])
@NONLINEAR
def test_a_kernel_of_constant_samples_predicts_the_mean(variant, value, gamma):
    y = data()[1]
    X = np.full((60, 16), value)
    model = ridge(variant, gamma=gamma).fit(X, y)
    predicted, std = model.predict(X + np.eye(60, 16), return_std=True)
    np.testing.assert_allclose(predicted, y.mean(), rtol=1e-9)
    np.testing.assert_allclose(std, std[0], rtol=1e-6)
    assert 0 < std[0] < y.std()


@pytest.mark.parametrize("gamma", [1e-300, 1e-16, 1e-14, 1e-12, 1e-6, 1e6])
@pytest.mark.parametrize("unit", [1e-310, 1.0])
@NONLINEAR
def test_kernels_of_any_width_predict_within_the_range_of_y(variant, unit, gamma):
    X, y = data(120)
    model = ridge(variant, gamma=gamma).fit(unit * X[:60], y[:60])
    predicted, std = model.predict(unit * X, return_std=True)
    assert np.abs(predicted).max() < 3 * np.abs(y).max()
    assert np.all((std >= 0) & (std < 3 * np.abs(y).max()))
    assert np.median(std) > 0


@OVER_VARIANTS
def test_a_constant_target_is_predicted(variant):
    X, _ = data()
    predicted, std = ridge(variant).fit(X, np.full(60, 3.0)).predict(X, True)
    np.testing.assert_allclose(predicted, 3)
    assert np.isfinite(std).all()


# Series


def windows(seed):
    """Windows of an oscillation, and its value three steps ahead."""
    noise = np.random.default_rng(seed).standard_normal(400)
    series = lfilter([1], [1, -1.6, 0.9], noise) / 4
    X = np.lib.stride_tricks.sliding_window_view(series, 20)[:-3]
    return X, series[22:]


@pytest.mark.parametrize("variant", ["rbf", "learned"])
def test_windows_of_a_series_are_held_out_in_blocks(variant):
    """Single rows held out promise too much; the default tells the series."""
    scores = []
    for seed in range(8):
        X, y = windows(seed)
        known, new = slice(0, 150), slice(160, None)
        for cv in (None, LeaveOneOut(), KFold(20)):
            model = ridge(variant, SignalScaler(), gamma=0.02, cv=cv)
            model.fit(X[known], y[known])
            scores.append((model.score(X[new], y[new]), model.alpha_[0]))
    default, single, blocks = np.reshape(scores, (-1, 3, 2)).transpose(1, 0, 2)
    np.testing.assert_array_equal(default[:, 1], blocks[:, 1])
    assert np.mean(default[:, 0]) > np.mean(single[:, 0]) + 0.05


@OVER_VARIANTS
def test_independent_rows_are_held_out_one_by_one(variant):
    X, y = data()
    expected = ridge(variant, cv=LeaveOneOut()).fit(X, y)
    found = ridge(variant).fit(X, y)
    np.testing.assert_allclose(found.alpha_, expected.alpha_)
    np.testing.assert_allclose(found.noise_variance_, expected.noise_variance_)


def test_rows_that_are_sorted_by_y_do_no_harm():
    X, digit = load_digits(return_X_y=True)
    model = ridge()
    losses = []
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
        losses.append(mixed - ordered)
    assert np.mean(losses) < 0.03


# Folds


def test_given_folds_are_those_that_are_held_out():
    """Integers, splitters, and pairs of indices or masks of rows in any order."""
    X, y = data()
    groups = np.random.default_rng(0).integers(0, 5, 60)
    masks = [(groups != g, groups == g) for g in range(5)]
    indices = [(np.flatnonzero(a), np.flatnonzero(b)) for a, b in masks]
    shuffled = KFold(5, shuffle=True, random_state=0)
    for folds, other in (
        (5, KFold(5)),
        (masks, indices),
        (shuffled, list(shuffled.split(X))),
        (indices, list(GroupKFold(5).split(X, groups=groups))),
    ):
        one, two = (ridge("rbf", cv=cv).fit(X, y) for cv in (folds, other))
        np.testing.assert_allclose(one.noise_variance_, two.noise_variance_)
    default = ridge("rbf").fit(X, y)
    assert abs(default.noise_variance_ / one.noise_variance_ - 1) > 1e-6


@pytest.mark.parametrize(
    ("cv", "message"),
    [
        (TimeSeriesSplit(3), "sample 0 0 times; use KFold"),
        ([(np.arange(30), np.arange(30, 60))], "sample 0 0 times"),
        ([([0], np.arange(60)), ([0], [7])], "sample 7 2 times"),
    ],
)
def test_folds_that_do_not_hold_out_each_sample_once_are_refused(cv, message):
    with pytest.raises(ValueError, match=message):
        ridge(cv=cv).fit(*data())


@OVER_VARIANTS
def test_folds_count_samples_of_weight_zero(variant):
    X, y = data()
    weight = np.ones(60)
    weight[::3] = 0
    folds = list(KFold(4, shuffle=True, random_state=0).split(X))
    kept = np.flatnonzero(weight)
    place = np.cumsum(weight > 0).astype(int) - 1
    of_kept = [(place[a[weight[a] > 0]], place[b[weight[b] > 0]]) for a, b in folds]
    found = ridge(variant, cv=folds).fit(X, y, weight)
    expected = ridge(variant, cv=of_kept).fit(X[kept], y[kept])
    np.testing.assert_allclose(found.alpha_, expected.alpha_)
    np.testing.assert_allclose(found.noise_variance_, expected.noise_variance_)


def test_copies_of_a_row_may_be_in_several_folds():
    X, y = data()
    rows = np.r_[np.arange(60), np.arange(10)]
    model = ridge(cv=5).fit(X[rows], y[rows])
    assert np.isfinite(model.predict(X)).all()


# Weights and copies


@OVER_VARIANTS
def test_weights_are_copies_of_samples(variant):
    X, y = data()
    weight = np.random.default_rng(0).integers(0, 4, 60)
    rows = np.repeat(np.arange(60), weight)
    np.random.default_rng(1).shuffle(rows)
    weighted = ridge(variant).fit(X, y, weight)
    copied = ridge(variant).fit(X[rows], y[rows])
    np.testing.assert_allclose(copied.predict(X), weighted.predict(X), atol=1e-6)
    np.testing.assert_allclose(
        copied.noise_variance_, weighted.noise_variance_, rtol=1e-6
    )


def test_copies_of_a_sample_are_held_out_together():
    """Otherwise a copy would predict its sample, and noise would be none."""
    noises = []
    for seed in range(10):
        rng = np.random.default_rng(seed)
        X, y = rng.standard_normal((40, 10)), rng.standard_normal(40)
        rows = np.tile(np.arange(40), 2)
        noises.append(ridge("rbf").fit(X[rows], y[rows]).noise_variance_)
    assert np.mean(noises) > 0.7


@OVER_VARIANTS
def test_rows_of_weight_zero_do_not_count(variant):
    X, y = data()
    weight = np.r_[np.ones(40), np.zeros(20)]
    weighted = ridge(variant).fit(X, np.where(weight > 0, y, 1e3), weight)
    expected = ridge(variant).fit(X[:40], y[:40])
    np.testing.assert_allclose(
        weighted.predict(X, return_std=True),
        expected.predict(X, return_std=True),
        atol=1e-9,
    )


# Outputs


@OVER_VARIANTS
def test_outputs_have_penalties_of_their_own(variant):
    X, y = data()
    noise = np.random.default_rng(3).standard_normal(60)
    Y = np.column_stack([y, noise, 1e6 * y - 5])
    model = ridge(variant).fit(X, Y)
    predicted, std = model.predict(X, return_std=True)
    assert predicted.shape == std.shape == (60, 3)
    np.testing.assert_allclose(
        predicted[:, 2], 1e6 * predicted[:, 0] - 5, rtol=1e-6, atol=1e-2
    )
    assert model.alpha_[1] > model.alpha_[0]
    np.testing.assert_allclose(std[:, 2], 1e6 * std[:, 0], rtol=1e-5)


@OVER_VARIANTS
def test_a_one_hot_target_has_one_penalty(variant):
    """Standardised or not, unless the parameter says otherwise."""
    X, digit = load_digits(return_X_y=True)
    X, one_hot = X[:120].reshape(-1, 8, 8), np.eye(10)[digit[:120]]
    standard = (one_hot - one_hot.mean(axis=0)) / one_hot.std(axis=0)
    for y in (one_hot, standard, 1 - 2 * one_hot[:, :1] @ [[1, -1]]):
        assert len(set(ridge(variant).fit(X, y).alpha_)) == 1
    X, y = data()
    Y = np.column_stack([y, np.random.default_rng(0).standard_normal(60)])
    model = ridge(variant, SignalScaler())
    assert len(set(model.fit(X, Y).alpha_)) == 2
    assert len(set(model.set_params(alpha_per_target=False).fit(X, Y).alpha_)) == 1


@pytest.mark.parametrize("variant", ["linear", "rbf", "laplace"])
def test_columns_of_classes_have_the_penalties_of_single_columns_if_asked_to(variant):
    X, digit = load_digits(return_X_y=True)
    X, one_hot = X[:120].reshape(-1, 8, 8), np.eye(10)[digit[:120]]
    model = ridge(variant, SignalScaler(), gamma=0.003, alpha_per_target=True)
    together = model.fit(X, one_hot).alpha_
    for column, alpha in zip(one_hot.T, together, strict=True):
        np.testing.assert_allclose(model.fit(X, column).alpha_, alpha)


# The metric


def relevant_features(seed, n_rows=300):
    """Return a target of two of 20 features."""
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n_rows + 500, 20))
    y = np.sin(X[:, 3] - X[:, 12]) + 0.1 * rng.standard_normal(n_rows + 500)
    return (X[:n_rows], y[:n_rows]), (X[n_rows:], y[n_rows:])


@pytest.mark.parametrize("kernel", ["rbf", "laplace"])
def test_a_learned_metric_finds_the_features_that_matter(kernel):
    gain = []
    for seed in range(3):
        known, new = relevant_features(seed)
        learned, euclidean = (
            DeepTDRidge(SignalScaler(), kernel=kernel, metric=metric).fit(*known)
            for metric in ("learned", "euclidean")
        )
        gain.append(learned.score(*new) - euclidean.score(*new))
        weight = np.diag(learned.metric_)
        assert set(np.argsort(weight)[-2:]) == {3, 12}
        assert weight[[3, 12]].min() > 2 * np.sort(weight)[-3]
        assert learned.metric_[3, 12] < 0
    assert np.min(gain) > 0.2


def test_the_metric_is_that_of_the_components():
    known, _ = relevant_features(0)
    learned = ridge("learned", SignalScaler()).fit(*known)
    metric = learned.metric_
    np.testing.assert_array_equal(metric, learned.components_.T @ learned.components_)
    values = np.linalg.eigvalsh(metric)
    assert values[0] > -1e-12
    np.testing.assert_allclose(values[-1], 1)
    euclidean = ridge("rbf", SignalScaler()).fit(*known)
    np.testing.assert_array_equal(euclidean.metric_, np.eye(20))
    assert not hasattr(euclidean, "components_")
    linear = ridge("linear").fit(*known)
    with pytest.raises(AttributeError, match="kernel other than 'linear'"):
        _ = linear.metric_
    with pytest.raises(NotFittedError):
        _ = DeepTDRidge(kernel="rbf").metric_


def test_no_metric_is_learned_from_noise_that_no_round_predicts_better():
    X = np.random.default_rng(0).standard_normal((40, 5))
    model = ridge("learned", SignalScaler()).fit(X, np.full(40, 2.0))
    assert not hasattr(model, "components_")
    np.testing.assert_array_equal(model.metric_, np.eye(5))


# Landmarks


@NONLINEAR
def test_landmarks_are_samples_and_close_to_all_of_them(variant):
    distances = []
    known, (new, _) = relevant_features(0)
    exact = ridge(variant, SignalScaler(), gamma=0.02).fit(*known).predict(new)
    for n in (10, 280):
        model = ridge(variant, SignalScaler(), gamma=0.02, n_landmarks=n).fit(*known)
        assert len(model.X_fit_) == len(model.dual_coef_) == n
        table = model.features_.transform(known[0])
        if hasattr(model, "components_"):
            table = table @ model.components_.T
        nearest = squared_distances(model.X_fit_, table).min(axis=1)
        np.testing.assert_allclose(nearest, 0, atol=1e-12)
        distances.append(np.std(model.predict(new) - exact) / np.std(exact))
    assert distances[0] > 2 * distances[1]
    assert distances[1] < 0.4


def test_as_many_landmarks_as_samples_are_all_samples():
    X, y = data()
    all_rows, landmarks = (ridge("rbf", n_landmarks=n).fit(X, y) for n in (None, 60))
    np.testing.assert_array_equal(all_rows.predict(X), landmarks.predict(X))
    assert not hasattr(landmarks, "whitening_")
    with pytest.raises(ValueError, match=r"n_landmarks=61 .* the 60 .* at most 60"):
        ridge("rbf", n_landmarks=61).fit(X, y)
    rows = np.tile(np.arange(40), 2)
    with pytest.raises(ValueError, match=r"the 40 different .* at most 40"):
        ridge("rbf", n_landmarks=41).fit(X[rows], y[rows])


def test_landmarks_have_the_seed_of_the_model():
    X, y = data(100)
    features = DeepTDFeatures(random_state=0)
    one, same, other = (
        ridge("rbf", features, n_landmarks=10, random_state=seed).fit(X, y)
        for seed in (0, 0, 1)
    )
    np.testing.assert_array_equal(one.X_fit_, same.X_fit_)
    assert one.X_fit_.shape != other.X_fit_.shape or np.any(one.X_fit_ != other.X_fit_)


def test_many_samples_get_landmarks_by_default():
    (X, y), (new, target) = relevant_features(0, 1500)
    features = SignalScaler()
    model = ridge("learned", features).fit(X, y)
    assert len(model.X_fit_) == 1000
    assert model.score(new, target) > 0.95
    few = ridge("rbf", features).fit(X[:1200], y[:1200])
    assert len(few.X_fit_) == 1200


def deviations(variant, unit, n_landmarks):
    """Return deviations at multiples of the samples of a fit."""
    (X, y), _ = relevant_features(0)
    model = ridge(variant, SignalScaler(), gamma=0.01, n_landmarks=n_landmarks)
    return model.fit(X, y).predict(unit * X, return_std=True)[1]


def test_deviations_at_the_samples_are_about_those_of_all_landmarks():
    exact, landmarks = (deviations("rbf", 1, n) for n in (None, 280))
    np.testing.assert_allclose(np.median(landmarks), np.median(exact), rtol=0.1)
    assert np.corrcoef(exact, landmarks)[0, 1] > 0.9


@pytest.mark.parametrize("variant", ["rbf", "laplace"])
def test_deviations_far_from_the_samples_do_not_vanish_with_landmarks(variant):
    exact, landmarks = (deviations(variant, 4, n) for n in (None, 150))
    np.testing.assert_allclose(np.median(landmarks), np.median(exact), rtol=0.35)


# What a fit stores


@OVER_VARIANTS
def test_parameters_set_after_fit_change_nothing(variant):
    X, y = data()
    model = ridge(variant, DeepTDFeatures()).fit(X, y)
    expected = model.predict(X, return_std=True)
    model.set_params(
        features__pooling="local",
        features__view="snv",
        kernel="rbf" if variant == "linear" else "linear",
        metric="learned" if variant == "rbf" else "euclidean",
        gamma=3.0,
        n_landmarks=3,
        alpha_per_target=False,
        cv=3,
        input_shape=(4, 4),
    )
    model.features_.set_params(pooling="local", view="snv", n_filters=1)
    np.testing.assert_array_equal(model.predict(X, return_std=True), expected)


def test_predictions_follow_from_the_public_attributes():
    X, y = data()
    linear = ridge("linear").fit(X, np.column_stack([y, -y]))
    table = linear.features_.transform(X)
    np.testing.assert_allclose(
        linear.predict(X), linear.intercept_ + table @ linear.coef_.T
    )
    for variant in list(VARIANTS)[1:]:
        model = ridge(variant).fit(X, y)
        table = model.features_.transform(X)
        if hasattr(model, "components_"):
            table = table @ model.components_.T
        squares = squared_distances(table, model.X_fit_)
        gram = kernel_values(squares, model.kernel_, model.gamma_)
        np.testing.assert_allclose(
            model.predict(X), (model.intercept_ + gram @ model.dual_coef_)[:, 0]
        )
        assert not hasattr(model, "coef_")


def test_a_linear_fit_stores_no_samples():
    X, y = data(1500)
    few = DeepTDFeatures((4,), dilations=(1,), n_filters=2, n_random_filters=0)
    model = ridge("linear", few).fit(X, y)
    stored = {name: np.size(value) for name, value in vars(model).items()}
    assert not {"X_fit_", "dual_coef_", "share_", "gamma_"} & set(stored)
    scores = stored.pop("conformity_scores_"), stored.pop("conformity_weight_")
    assert scores == (1500, 1500)
    assert max(stored.values()) <= 16**2
    wide = ridge("linear").fit(X[:60], y[:60])
    assert wide.eigenvectors_.shape[0] == wide.coef_.shape[1]
    assert wide.eigenvectors_.shape[1] < 60


@OVER_VARIANTS
def test_copies_by_pickle_predict_the_same_and_hold_no_tables(variant):
    X, y = data()
    model = ridge(variant).fit(X, y)
    state = model.__getstate__()
    assert not {"_table", "_held_out"} & set(state)
    copy = pickle.loads(pickle.dumps(model))
    for one, other in zip(
        copy.predict(X, return_std=True), model.predict(X, return_std=True), strict=True
    ):
        np.testing.assert_array_equal(one, other)


def test_a_failed_fit_leaves_no_model():
    X, y = data()
    model = ridge("rbf").fit(X, y)
    with pytest.raises(ValueError, match="n_landmarks"):
        model.set_params(n_landmarks=1000).fit(X, y)
    with pytest.raises(NotFittedError):
        model.predict(X)


def test_the_given_features_are_not_changed():
    X, y = data()
    features = DeepTDFeatures(n_filters=3)
    model = ridge("linear", features).fit(X, y)
    assert not hasattr(features, "kernels_")
    assert model.features_ is not features
    assert len(model.features_.kernels_[0]) == 19
    scaler = ridge("rbf", SignalScaler("snv")).fit(X, y)
    assert scaler.features_.view_ == "snv"


def test_the_seed_of_the_filters_is_that_of_the_features_or_of_the_model():
    X, y = data()

    def kernels(of_features, of_model):
        model = DeepTDRidge(
            DeepTDFeatures(random_state=of_features), random_state=of_model
        )
        return model.fit(X, y).features_.kernels_[0]

    np.testing.assert_array_equal(kernels(None, 3), kernels(3, None))
    np.testing.assert_array_equal(kernels(3, 5), kernels(3, 7))
    assert np.any(kernels(None, 3) != kernels(None, 4))


@OVER_VARIANTS
def test_a_fit_that_reuses_features_equals_a_fit(variant):
    """The search fits several models to the same features."""
    X, y = data()
    first = ridge("linear")._fit_reusing(X, y, None, None)
    reused = ridge(variant)._fit_reusing(X, y, None, first)
    assert reused.features_ is first.features_
    expected = ridge(variant).fit(X, y)
    np.testing.assert_array_equal(reused.predict(X), expected.predict(X))
    other = ridge(variant, SignalScaler())._fit_reusing(X, y, None, first)
    assert isinstance(other.features_, SignalScaler)
    held_out, target, weight = reused._held_out
    np.testing.assert_allclose(target[:, 0], y)
    error = np.average((target - held_out)[:, 0] ** 2, weights=weight)
    np.testing.assert_allclose(error, expected.noise_variance_[0])


# Shapes, dtypes and errors


def test_input_shape_is_that_of_the_samples():
    X, y = data()
    images = ridge("linear").fit(X.reshape(-1, 4, 4), y)
    for model in (
        ridge("linear", input_shape=(4, 4)),
        ridge("linear", DeepTDFeatures(input_shape=(4, 4))),
        ridge("linear", DeepTDFeatures(input_shape=(2, 8)), input_shape=(4, 4)),
    ):
        np.testing.assert_array_equal(model.fit(X, y).predict(X), images.predict(X))
    np.testing.assert_array_equal(
        images.predict(X.reshape(-1, 4, 4)), images.predict(X)
    )
    with pytest.raises(ValueError, match=r"\(4, 4\).*\(2, 8\)"):
        ridge("linear", input_shape=(2, 8)).fit(X.reshape(-1, 4, 4), y)


@OVER_VARIANTS
def test_predictions_have_the_dtype_of_the_new_rows(variant):
    X, y = data()
    model = ridge(variant).fit(X, y)
    single = model.predict(X.astype(np.float32))
    assert single.dtype == np.float32
    np.testing.assert_allclose(single, model.predict(X), atol=1e-4)


@OVER_VARIANTS
def test_samples_that_are_not_finite_are_named(variant):
    X, y = data()
    model = ridge(variant).fit(X, y)
    for bad in (np.nan, np.inf):
        some = X.copy()
        some[3, 4] = bad
        with pytest.raises(ValueError, match=r"(NaN|infinity)[\s\S]*"):
            ridge(variant).fit(some, y)
        with pytest.raises(ValueError, match=r"NaN|infinity"):
            model.predict(some)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"kernel": "cubic"}, "kernel"),
        ({"metric": "manhattan"}, "metric"),
        ({"gamma": 0}, "gamma"),
        ({"gamma": -1.0}, "gamma"),
        ({"n_landmarks": 0}, "n_landmarks"),
        ({"alpha_per_target": "each"}, "alpha_per_target"),
        ({"features": RidgeCV()}, "features"),
        ({"features": DeepTDFeatures(pooling=0)}, "pooling"),
        ({"features": DeepTDFeatures(n_filters=0, n_random_filters=0)}, "n_filters"),
        ({"metric": "learned"}, "needs kernel='rbf' or kernel='laplace'"),
    ],
)
def test_bad_parameters(parameters, message):
    with pytest.raises(ValueError, match=message):
        DeepTDRidge(**parameters).fit(*data())


# Quality


@pytest.mark.parametrize(("variant", "least"), [("rbf", 0.78), ("learned", 0.8)])
def test_kernel_ridge_on_images(variant, least):
    X, digit = load_digits(return_X_y=True)
    X, y = X.reshape(-1, 8, 8), digit % 2
    scores = []
    for seed in range(3):
        rows = np.random.RandomState(seed).permutation(len(X))
        train, test = rows[:150], rows[150:]
        model = ridge(variant, random_state=seed).fit(X[train], y[train])
        scores.append(model.score(X[test], y[test]))
    assert np.mean(scores) > least


def test_one_landmark_with_folds():
    """All landmarks are in one fold, and so are held out one by one."""
    X, y = data()
    for n in (1, 2):
        model = ridge("rbf", n_landmarks=n, cv=KFold(3)).fit(X, y)
        assert np.all(np.isfinite(model.predict(X)))
