"""Covariates: columns of X beside the signal, in all estimators that take them."""

import pickle

import numpy as np
import pandas as pd
import polars as pl
import pytest
from sklearn.base import clone
from sklearn.compose import ColumnTransformer
from sklearn.datasets import load_digits
from sklearn.linear_model import Ridge, RidgeCV
from sklearn.metrics import log_loss
from sklearn.metrics.pairwise import rbf_kernel
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from skdeeptd import (
    DeepTDAutoClassifier,
    DeepTDAutoRegressor,
    DeepTDFeatures,
    DeepTDRidge,
    DeepTDRidgeClassifier,
    SignalScaler,
)
from skdeeptd._solvers.learned_kernel import kernel_values, squared_distances
from skdeeptd._solvers.ridge import Validation, cv_kernel_ridge, cv_ridge
from skdeeptd.inspection import effective_weights, metric_weights

VARIANTS = {
    "linear": {},
    "rbf": {"kernel": "rbf"},
    "laplace": {"kernel": "laplace"},
    "learned": {"kernel": "rbf", "metric": "learned"},
    "landmarks": {"kernel": "rbf", "n_landmarks": 30},
}
OVER_VARIANTS = pytest.mark.parametrize("variant", VARIANTS)
ESTIMATORS = [
    DeepTDRidge(SignalScaler(), covariates=[-1]),
    DeepTDRidgeClassifier(SignalScaler(), covariates=[-1]),
    DeepTDAutoRegressor(cv=2, random_state=0, covariates=[-1]),
    DeepTDAutoClassifier(cv=2, random_state=0, covariates=[-1]),
]
FEW = 38  # samples, with which the default models compare kernels on the signal only
OVER_ESTIMATORS = pytest.mark.parametrize(
    "estimator", ESTIMATORS, ids=lambda estimator: type(estimator).__name__
)
WHERE = [3, 12, 0]  # of the covariates among 16 columns
REST = np.setdiff1d(np.arange(16), WHERE)


def data(n_rows=60, seed=1):
    """Return X with a number and two columns of a category among those of a signal."""
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n_rows, 16))
    X[:, 3] = 20 + 5 * rng.uniform(size=n_rows) + X[:, 5]
    X[:, [12, 0]] = np.eye(3)[rng.integers(0, 3, n_rows)][:, :2]
    y = np.sin(X[:, 1]) + X[:, 5] + 2 * X[:, 3] - 3 * X[:, 12] + X[:, 0]
    return X, y + 0.3 * rng.standard_normal(n_rows)


def ridge(variant, features=None, **options):
    options = {"covariates": WHERE, "random_state": 0, **VARIANTS[variant], **options}
    return DeepTDRidge(features or SignalScaler(), **options)


# Solvers


def refit(K, C, y, weight, others, left, alpha):
    """Predict rows by the others, with unknown intercept and slopes: kriging."""
    C = np.column_stack([np.ones(len(C)), C])
    system = K[np.ix_(others, others)] + np.diag(alpha / weight[others])
    inverse = np.linalg.inv(system)
    slopes = np.linalg.pinv(C[others].T @ inverse @ C[others], 1e-9)
    slopes = slopes @ C[others].T @ inverse @ y[others]
    dual = inverse @ (y[others] - C[others] @ slopes)
    return C[left] @ slopes + K[np.ix_(left, others)] @ dual


@pytest.mark.parametrize("kind", ["single rows", "blocks", "unequal blocks"])
@pytest.mark.parametrize("n_entries", [3, 60])
def test_held_out_rows_are_predicted_by_refits_that_have_not_seen_them(kind, n_entries):
    """Neither for the ridge regression nor for the slopes of the covariates."""
    rng = np.random.default_rng(0)
    F, C = rng.standard_normal((30, n_entries)), rng.standard_normal((30, 3))
    C[:, 0] += F[:, 0]
    y = F[:, :1] + C @ np.array([[3.0], [0], [-2]]) + rng.standard_normal((30, 1))
    weight = rng.uniform(0.5, 2, 30)
    order = rng.permutation(30)
    blocks = {
        "single rows": np.split(np.arange(30), 30),
        "blocks": np.array_split(order, 4),
        "unequal blocks": np.split(order, [1, 3, 15]),
    }[kind]
    validation = Validation(None if kind == "single rows" else tuple(blocks))
    gram = rbf_kernel(F, gamma=1 / n_entries)
    for K, found in (
        (F @ F.T, cv_ridge(F, y, weight, validation, C)),
        (F @ F.T, cv_kernel_ridge(F @ F.T, y, weight, validation, C)),
        (gram, cv_kernel_ridge(gram, y, weight, validation, C)),
    ):
        expected = np.empty_like(y)
        for left in blocks:
            others = np.setdiff1d(np.arange(30), left)
            expected[left] = refit(K, C, y, weight, others, left, found.alpha[0])
        np.testing.assert_allclose(found.held_out, expected, atol=1e-5)
        error = weight @ (y - expected) ** 2 / weight.sum()
        np.testing.assert_allclose(found.cv_error, error, rtol=1e-5)


def test_slopes_are_those_of_a_ridge_regression_that_penalises_features_only():
    rng = np.random.default_rng(0)
    F, C = rng.standard_normal((40, 5)), rng.standard_normal((40, 2))
    y = F[:, :1] + 1e3 * C[:, :1] + rng.standard_normal((40, 1))
    found = cv_ridge(F, y, np.ones(40), covariates=C)
    unit = 1e5  # a large unit takes the penalty off
    model = Ridge(found.alpha[0], solver="svd")
    model.fit(np.column_stack([F, unit * C]), y[:, 0])
    np.testing.assert_allclose(found.coef[:, 0], model.coef_[:5], atol=1e-6)
    np.testing.assert_allclose(found.slopes[:, 0], model.coef_[5:] * unit, 1e-6)


@pytest.mark.parametrize("blocks", [None, tuple(np.array_split(np.arange(30), 6))])
def test_rows_that_alone_have_a_category_are_predicted_without_its_column(blocks):
    """Nothing but these rows determines its slope."""
    rng = np.random.default_rng(0)
    F = rng.standard_normal((30, 50))
    alone = np.arange(5) if blocks else np.array([0])
    C = np.column_stack([rng.standard_normal(30), np.isin(np.arange(30), alone)])
    y = F[:, :1] + C @ [[1.0], [5]]
    found = cv_ridge(F, y, np.ones(30), Validation(blocks), C)
    others = np.setdiff1d(np.arange(30), alone)
    share = C.copy()
    share[:, 1] = 0
    expected = refit(F @ F.T, share, y, np.ones(30), others, alone, found.alpha[0])
    np.testing.assert_allclose(found.held_out[alone], expected, atol=2e-2)


# DeepTDRidge


def kernels_of(model, new, known):
    """Return the kernel of the known rows, with new rows, and the diagonal of these."""
    tables = [model.features_.transform(X[:, REST]) for X in (known, new)]
    if model.kernel_ == "linear":
        known, new = tables
        return known @ known.T, new @ known.T, np.sum(new**2, axis=1)
    shift, scale = model.covariate_shift_, model.covariate_scale_
    tables = [
        np.column_stack(
            [
                table,
                model.covariate_weight_ * np.clip((X[:, WHERE] - shift) / scale, -5, 5),
            ]
        )
        for table, X in zip(tables, (known, new), strict=True)
    ]
    if hasattr(model, "components_"):
        tables = [table @ model.components_.T for table in tables]
    how = model.kernel_, model.gamma_
    known, new = tables
    gram, cross = (kernel_values(squared_distances(a, known), *how) for a in tables)
    own = np.ones(len(new))
    if hasattr(model, "whitening_"):  # the process of the landmarks, and what is beyond
        known, new = (
            kernel_values(squared_distances(a, model.X_fit_), *how) @ model.whitening_
            for a in tables
        )
        gram, cross = known @ known.T, new @ known.T
    return gram, cross, own


def kriging(known, cross, own, C, C_new, y):
    """Return mean and variance of a Gaussian process with unknown slopes of C."""
    C, C_new = (np.column_stack([np.ones(len(a)), a]) for a in (C, C_new))
    inverse = np.linalg.inv(known)
    weights = cross @ inverse
    precision = C.T @ inverse @ C
    slopes = np.linalg.solve(precision, C.T @ inverse @ y)
    rest = C_new - weights @ C
    variance = own - np.sum(weights * cross, axis=1)
    variance = variance + np.sum(rest * np.linalg.solve(precision, rest.T).T, axis=1)
    return C_new @ slopes + weights @ (y - C @ slopes), variance


@OVER_VARIANTS
@pytest.mark.parametrize("is_weighted", [False, True])
def test_predictions_and_deviations_are_those_of_kriging(variant, is_weighted):
    X, y = data()
    new, _ = data(20, seed=2)
    weight = (
        np.random.default_rng(3).uniform(0.2, 4, 60) if is_weighted else np.ones(60)
    )
    model = ridge(variant).fit(X, y, weight)
    predicted, std = model.predict(new, return_std=True)
    known, cross, own = (k / model.alpha_ for k in kernels_of(model, new, X))
    in_unit = weight / weight.sum() * model.total_weight_
    covariates = (
        (a[:, WHERE] - model.covariate_shift_) / model.covariate_scale_
        for a in (X, new)
    )
    mean, variance = kriging(known + np.diag(1 / in_unit), cross, own, *covariates, y)
    np.testing.assert_allclose(predicted, mean, atol=1e-5)
    np.testing.assert_allclose(std**2, variance * model.variance_scale_, rtol=1e-4)


@pytest.mark.parametrize("variant", ["linear", "rbf", "laplace", "landmarks"])
@pytest.mark.parametrize("features", [SignalScaler(), DeepTDFeatures((4,))])
def test_a_linear_part_of_y_is_found_as_it_is(variant, features):
    """The filters, the penalty and the bandwidth do not depend on the part.

    A learned metric does a little: its folds are stratified by y.
    """
    X, y = data()
    new, _ = data(20, seed=2)
    slopes = np.array([7.0, -100, 40])
    expected = ridge(variant, features).fit(X, y)
    found = ridge(variant, features).fit(X, y + X[:, WHERE] @ slopes)
    np.testing.assert_allclose(found.alpha_, expected.alpha_)
    for a, b in zip(
        found.predict(new, return_std=True),
        (
            expected.predict(new) + new[:, WHERE] @ slopes,
            expected.predict(new, return_std=True)[1],
        ),
        strict=True,
    ):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(
        found.covariate_coef_[0], expected.covariate_coef_[0] + slopes, atol=1e-5
    )
    np.testing.assert_allclose(
        found.noise_variance_, expected.noise_variance_, rtol=1e-5
    )


@OVER_VARIANTS
def test_unit_and_level_of_a_covariate_do_not_matter(variant):
    X, y = data()
    other = X.copy()
    other[:, 3] = 1e4 + 1e-3 * X[:, 3]
    other[:, 12] = -1e3 * X[:, 12]
    expected, found = ridge(variant).fit(X, y), ridge(variant).fit(other, y)
    for a, b in zip(
        found.predict(other, return_std=True),
        expected.predict(X, return_std=True),
        strict=True,
    ):
        np.testing.assert_allclose(a, b, rtol=1e-5)
    np.testing.assert_allclose(
        found.covariate_coef_, expected.covariate_coef_ * [1e3, -1e-3, 1], rtol=1e-5
    )


@OVER_VARIANTS
def test_constant_and_repeated_covariates_change_nothing(variant):
    X, y = data()
    expected = ridge(variant, covariates=[3]).fit(X, y)
    more = np.column_stack([X, np.full(60, 7.0), -2 * X[:, 3], 5 + X[:, 3]])
    found = ridge(variant, covariates=[3, 16, 17, 18]).fit(more, y)
    for a, b in zip(
        found.predict(more, return_std=True),
        expected.predict(X, return_std=True),
        strict=True,
    ):
        np.testing.assert_allclose(a, b, rtol=1e-5)
    np.testing.assert_allclose(
        found.noise_variance_, expected.noise_variance_, rtol=1e-5
    )
    more[:, 16] = 8
    np.testing.assert_allclose(found.predict(more), expected.predict(X), rtol=1e-5)


@OVER_VARIANTS
@pytest.mark.parametrize("kind", ["constant", "linear"])
def test_a_target_without_a_part_of_the_signal_is_predicted(variant, kind):
    X, y = data()
    slopes = np.array([2.0, -3, 1]) if kind == "linear" else np.zeros(3)
    y = 5 + X[:, WHERE] @ slopes
    model = ridge(variant, DeepTDFeatures((4,))).fit(X, y)
    new, _ = data(20, seed=2)
    np.testing.assert_allclose(model.predict(new), 5 + new[:, WHERE] @ slopes, 1e-6)
    assert model.noise_variance_[0] < 1e-10


@OVER_VARIANTS
def test_weights_are_copies_of_samples(variant):
    X, y = data(80)
    weight = np.random.default_rng(0).integers(0, 4, 80)
    rows = np.repeat(np.arange(80), weight)
    weighted, copied = (
        ridge(variant).fit(X, y, weight),
        ridge(variant).fit(X[rows], y[rows]),
    )
    np.testing.assert_allclose(copied.predict(X), weighted.predict(X), atol=1e-6)
    np.testing.assert_allclose(copied.covariate_coef_, weighted.covariate_coef_, 1e-5)


def test_equal_signals_with_other_covariates_are_two_samples():
    X, y = data()
    X[1::2, REST] = X[::2, REST]
    assert len(ridge("rbf").fit(X, y).X_fit_) == 60


@pytest.mark.parametrize("variant", ["linear", "rbf", "laplace"])
def test_intervals_hold_new_values_at_the_given_rate(variant):
    rates = []
    for seed in range(10):
        X, y = data(400, seed)
        bounds = ridge(variant).fit(X[:100], y[:100]).predict_interval(X[100:])
        inside = (bounds[:, 0] <= y[100:]) & (y[100:] <= bounds[:, 1])
        rates.append(inside.mean())
    assert 0.88 < np.mean(rates) < 0.95


@pytest.mark.parametrize("variant", ["learned", "rbf"])
def test_a_kernel_finds_interactions_with_the_signal(variant):
    """The sign of a feature's effect is that of a covariate."""
    scores = []
    for seed in range(3):
        rng = np.random.default_rng(seed)
        X = rng.standard_normal((400, 20))
        X[:, 0] = np.sign(X[:, 0])
        y = X[:, 0] * X[:, 4] + 0.1 * rng.standard_normal(400)
        model = ridge(variant, covariates=[0]).fit(X[:200], y[:200])
        scores.append(model.score(X[200:], y[200:]))
        weights = metric_weights(model)
        assert weights.weights.shape == (19,)
        np.testing.assert_allclose(weights.weights.sum() + weights.covariates.sum(), 1)
        if hasattr(model, "components_"):
            assert weights.weights.argmax() == 3
            assert weights.covariates[0] > np.median(weights.weights)
    assert np.mean(scores) > 0.5


def test_a_series_is_told_by_its_signal():
    """Covariates would hide that neighbouring windows share their values."""
    rng = np.random.default_rng(0)
    series, n_rows = rng.standard_normal(140), 120
    windows = np.lib.stride_tricks.sliding_window_view(series, 20)[:n_rows]
    X, y = np.column_stack([windows, rng.standard_normal((n_rows, 3))]), series[20:]
    blocks = np.array_split(np.arange(n_rows), 20)
    cv = [(np.setdiff1d(np.arange(n_rows), block), block) for block in blocks]
    found, expected = (
        ridge("linear", covariates=[-3, -2, -1], cv=cv).fit(X, y) for cv in (None, cv)
    )
    np.testing.assert_array_equal(found.noise_variance_, expected.noise_variance_)
    auto = DeepTDAutoRegressor()
    auto.covariate_indices_ = np.array([20, 21, 22])
    folds = auto._folds(X, y, np.ones(n_rows), None, {})
    np.testing.assert_array_equal(np.concatenate([fold.X_test for fold in folds]), X)


# Columns, names and errors


def test_columns_may_be_named_by_index_from_the_end_and_by_name():
    X, y = data()
    names = [f"c{i}" for i in range(16)]
    frame = pd.DataFrame(X, columns=names)
    expected = ridge("rbf").fit(X, y)
    assert expected.covariate_indices_.tolist() == WHERE
    assert expected.n_features_in_ == 16
    for covariates, given in (
        ([-13, -4, -16], X),
        (np.array(WHERE), X),
        (WHERE, X.tolist()),
        (["c3", "c12", "c0"], frame),
        (("c3", 12, "c0"), frame),
        (pd.Index(["c3", "c12", "c0"]), frame),
        (["c3", "c12", "c0"], pl.DataFrame(X, schema=names)),
    ):
        found = ridge("rbf", covariates=covariates).fit(given, y)
        np.testing.assert_array_equal(found.predict(given), expected.predict(X))
        np.testing.assert_array_equal(found.covariate_indices_, WHERE)
    assert found.feature_names_in_.tolist() == names


def test_the_signal_has_the_input_shape_and_the_order_of_the_other_columns():
    X, y = data(61)
    X = np.delete(X, 15, axis=1)
    rest = np.setdiff1d(np.arange(15), WHERE)
    found = ridge("rbf", DeepTDFeatures(), input_shape=(3, 4)).fit(X, y)
    assert found.features_.input_shape_ == (3, 4)
    moved = np.column_stack([X[:, rest], X[:, WHERE]])
    expected = ridge(
        "rbf", DeepTDFeatures(input_shape=(3, 4)), covariates=[12, 13, 14]
    ).fit(moved, y)
    np.testing.assert_array_equal(found.predict(X), expected.predict(moved))


@OVER_ESTIMATORS
@pytest.mark.parametrize(
    ("covariates", "error", "message"),
    [
        ([4], ValueError, "covariates has 4, but X has 4 columns.*0 to 3"),
        ([-5], ValueError, "covariates has -5"),
        ([1, -3], ValueError, "column 1 twice"),
        (range(4), ValueError, "all 4 columns"),
        (["b", "temp"], ValueError, "'temp', but X has no such column.*'d'"),
        ([True], TypeError, "names or indices.*True"),
        ([1.0], TypeError, "got 1.0"),
        ("temp", ValueError, "covariates"),
    ],
)
def test_bad_covariates_are_named(estimator, covariates, error, message):
    X = pd.DataFrame(
        np.random.default_rng(0).standard_normal((20, 4)), columns=[*"abcd"]
    )
    y = np.arange(20) % 2
    with pytest.raises(error, match=message):
        clone(estimator).set_params(covariates=covariates).fit(X, y)


@OVER_ESTIMATORS
def test_samples_of_several_axes_have_no_columns_for_covariates(estimator):
    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((20, 2, 3)), np.arange(20) % 2
    with pytest.raises(ValueError, match=r"column_stack\(\[X.reshape"):
        clone(estimator).fit(X, y)
    flat = np.column_stack([X.reshape(20, -1), y])
    with pytest.raises(ValueError, match="6 columns that are no covariates"):
        clone(estimator).set_params(input_shape=(2, 2)).fit(flat, y)
    model = clone(estimator).set_params(input_shape=(2, 3)).fit(flat, y)
    with pytest.raises(ValueError, match=r"samples of shape \(2, 3\)"):
        model.predict(X)
    flat[3, -1] = np.nan
    with pytest.raises(ValueError, match="NaN"):
        model.predict(flat)
    with pytest.raises(ValueError, match="NaN"):
        clone(estimator).fit(flat, y)


@OVER_ESTIMATORS
def test_copies_and_pipelines_and_float32(estimator):
    X, y = data(FEW)
    y = y > np.median(y) if hasattr(estimator, "predict_proba") else y
    frame = pd.DataFrame(X, columns=[f"c{i}" for i in range(16)])
    model = clone(estimator).set_params(covariates=["c3", "c12"]).fit(frame, y)
    predict = "predict_proba" if hasattr(model, "predict_proba") else "predict"
    expected = getattr(model, predict)(frame)
    copy = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(getattr(copy, predict)(frame), expected)
    again = clone(model).set_params(covariates=[3, 12]).fit(X, y)
    np.testing.assert_array_equal(getattr(again, predict)(X), expected)
    scaler = FunctionTransformer(lambda X: X * 1.0)
    piped = make_pipeline(scaler, clone(again)).fit(X, y)
    np.testing.assert_array_equal(getattr(piped, predict)(X), expected)
    single = clone(again).fit(X.astype(np.float32), y)
    found = getattr(single, predict)(X.astype(np.float32))
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-3)
    effects = effective_weights(again, X).magnitude
    assert effects.shape == (16,)
    assert effects[3] > 5 * np.median(effects)


# The case that covariates are for


def digits_and_scalars(seed, n_rows=300):
    """Return 300 digits and the others, with a temperature and a category.

    y is whether the digit is odd, and both covariates add to it: their share of the
    variance of y is 0.7.
    """
    rng = np.random.default_rng(seed)
    X, digit = load_digits(return_X_y=True)
    number, category = rng.uniform(0, 2.08, len(X)), rng.integers(0, 3, len(X))
    y = digit % 2 + number + 0.6 * category + 0.1 * rng.standard_normal(len(X))
    X = np.column_stack([X, 20 + 10 * number, np.eye(3)[category]])
    order = rng.permutation(len(X))
    known, new = order[:n_rows], order[n_rows:]
    return (X[known], y[known]), (X[new], y[new])


def test_four_covariates_are_not_drowned_by_responses_of_filters():
    """Under one penalty they are; the mean of five seeds."""
    covariates, scores = [64, 65, 66, 67], []
    for seed in range(5):
        known, new = digits_and_scalars(seed)
        features = DeepTDFeatures(input_shape=(8, 8), pooling=4, random_state=seed)
        columns = ColumnTransformer(
            [
                ("filters", features, list(range(64))),
                ("scalars", StandardScaler(), covariates),
            ]
        )
        side_by_side = make_pipeline(columns, RidgeCV(np.logspace(-3, 6, 19)))
        model = DeepTDRidge(features, covariates=covariates)
        scores.append([m.fit(*known).score(*new) for m in (side_by_side, model)])
    assert np.mean(scores, axis=0)[0] < 0.78
    assert np.mean(scores, axis=0)[1] > 0.93


def test_the_default_model_and_extra_estimators_use_covariates():
    X, y = data(238)
    known, new, seen = slice(38), slice(38, None), []
    extra = make_pipeline(FunctionTransformer(lambda X: seen.append(X) or X), RidgeCV())
    model = DeepTDAutoRegressor(
        covariates=WHERE, extra_estimators=[("own", extra)], cv=2, random_state=0
    ).fit(X[known], y[known])
    assert model.score(X[new], y[new]) > 0.95
    assert model.input_shape_ == (13,)
    assert {X.shape[1] for X in seen} == {16}
    candidates = model.cv_results_["estimator"]
    assert all(c.covariates for c in candidates if c is not extra)
    assert model.predict_interval(X).shape == (238, 2)


def test_probabilities_of_classes_use_covariates_and_are_calibrated():
    """The class follows from the digit and the category together."""
    (X, y), (new, y_new) = digits_and_scalars(0, 400)
    label, label_new = y > 2.1, y_new > 2.1
    losses = []
    for covariates in ([64, 65, 66, 67], None):
        columns = slice(None) if covariates else slice(64)
        model = DeepTDRidgeClassifier(
            SignalScaler(input_shape=(8, 8)), kernel="rbf", covariates=covariates
        ).fit(X[:, columns], label)
        probability = model.predict_proba(new[:, columns])
        losses.append(log_loss(label_new, probability))
        assert abs(probability[:, 1].mean() - label_new.mean()) < 0.05
    assert losses[0] < 0.75 * losses[1]
