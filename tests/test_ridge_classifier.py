"""DeepTDRidgeClassifier: probabilities, classes, weights and the contract."""

import pickle

import numpy as np
import pytest
from sklearn.datasets import load_digits, make_classification
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.exceptions import NotFittedError
from sklearn.metrics import log_loss
from sklearn.model_selection import KFold, StratifiedKFold

from skdeeptd import DeepTDFeatures, DeepTDRidge, DeepTDRidgeClassifier, SignalScaler

VARIANTS = {
    "linear": {},
    "rbf": {"kernel": "rbf"},
    "laplace": {"kernel": "laplace"},
    "learned": {"kernel": "rbf", "metric": "learned"},
}
OVER_VARIANTS = pytest.mark.parametrize("variant", VARIANTS)


def classifier(variant="linear", features=None, **options):
    options = {"random_state": 0, **VARIANTS[variant], **options}
    return DeepTDRidgeClassifier(features, **options)


def data(n_rows=120, n_classes=3, seed=0):
    """Return normal classes whose means are three deviations apart."""
    rng = np.random.default_rng(seed)
    means = 1.2 * rng.standard_normal((n_classes, 12))
    label = rng.integers(0, n_classes, n_rows)
    return means[label] + rng.standard_normal((n_rows, 12)), label


# Probabilities


@OVER_VARIANTS
@pytest.mark.parametrize("n_classes", [2, 3])
def test_probabilities_are_positive_and_sum_to_one(variant, n_classes):
    X, label = data(n_classes=n_classes)
    model = classifier(variant).fit(X, label)
    for rows in (X, 100 * X, 0 * X):
        p = model.predict_proba(rows)
        assert p.shape == (120, n_classes)
        assert p.min() > 0
        np.testing.assert_allclose(p.sum(axis=1), 1)
        np.testing.assert_allclose(model.predict_log_proba(rows), np.log(p))
        np.testing.assert_array_equal(model.predict(rows), p.argmax(axis=1))
        assert p.min() >= model.prior_weight_ * model.prior_.min() * (1 - 1e-12)


@OVER_VARIANTS
def test_the_factor_is_the_best_for_held_out_predictions(variant):
    """Those of a ridge regression on columns of classes, with one penalty."""
    X, label = data()
    folds = list(KFold(4, shuffle=True, random_state=0).split(X))
    model = classifier(variant, SignalScaler(), cv=folds).fit(X, label)
    regressor = DeepTDRidge(
        SignalScaler(), **VARIANTS[variant], cv=folds, alpha_per_target=False
    )
    regressor._fit_reusing(X, np.eye(3)[label], None, None)
    np.testing.assert_allclose(regressor.alpha_, model.regressor_.alpha_)
    scores = regressor._held_out[0]

    def loss(factor):
        shares = np.bincount(label) / len(label)
        p = shares * np.exp(factor * (scores - shares))
        return log_loss(label, p / p.sum(axis=1, keepdims=True))

    best = min(map(loss, np.logspace(-2, 2, 300)))
    assert loss(model.factor_) < best + 1e-6


@OVER_VARIANTS
def test_predictions_follow_from_the_public_attributes(variant):
    X, label = data()
    model = classifier(variant).fit(X, label)
    shares = model.prior_
    p = shares * np.exp(model.factor_ * (model.regressor_.predict(X) - shares))
    p /= p.sum(axis=1, keepdims=True)
    expected = (1 - model.prior_weight_) * p + model.prior_weight_ * model.prior_
    np.testing.assert_allclose(model.predict_proba(X), expected, rtol=1e-10)
    np.testing.assert_allclose(model.prior_, np.bincount(label) / 120)
    assert model.prior_weight_ == 1 / 122
    assert len(set(model.regressor_.alpha_)) == 1


@OVER_VARIANTS
def test_the_log_loss_is_near_that_of_the_exact_model(variant):
    """Of normal classes of equal covariance: linear discriminant analysis."""
    losses = []
    for seed in range(5):
        X, label = data(400, seed=seed)
        known, new = slice(0, 150), slice(150, 400)
        for model in (
            classifier(variant, SignalScaler()),
            LinearDiscriminantAnalysis(),
        ):
            p = model.fit(X[known], label[known]).predict_proba(X[new])
            losses.append(log_loss(label[new], p))
    ours, best = np.mean(np.reshape(losses, (-1, 2)), axis=0)
    assert ours < best + 0.1
    assert ours < 0.4 * np.log(3)


@pytest.mark.parametrize("variant", ["linear", "rbf", "laplace"])
def test_probabilities_are_calibrated(variant):
    """Among new rows the classes are as frequent as their probabilities say.

    Not tested of a learned metric, which has seen the rows that are held out.
    """
    p, is_class = [], []
    for seed in range(5):
        X, label = make_classification(
            1200, 12, n_informative=4, n_classes=2, flip_y=0.2, random_state=seed
        )
        model = classifier(variant, SignalScaler()).fit(X[:200], label[:200])
        p.append(model.predict_proba(X[200:])[:, 1])
        is_class.append(label[200:])
    p, is_class = np.concatenate(p), np.concatenate(is_class)
    for low, high in ((0, 0.2), (0.2, 0.5), (0.5, 0.8), (0.8, 1)):
        some = (p >= low) & (p < high)
        assert abs(np.mean(is_class[some]) - np.mean(p[some])) < 0.1


def test_noise_has_the_probabilities_of_the_prior():
    rng = np.random.default_rng(0)
    distances = []
    for _ in range(5):
        X, label = rng.standard_normal((300, 12)), rng.choice(3, 300, p=[0.6, 0.3, 0.1])
        p = classifier("rbf", SignalScaler()).fit(X, label).predict_proba(X[:50] + 1)
        distances.append(np.abs(p - [0.6, 0.3, 0.1]).mean())
    assert np.mean(distances) < 0.1


# Classes and weights


@OVER_VARIANTS
@pytest.mark.parametrize(
    "names", [["b", "c", "a"], [True, False], [7, -1, 3], [2.0, 0.0, 1.0]]
)
def test_labels_of_any_kind(variant, names):
    X, label = data(n_classes=len(names))
    y = np.array(names)[label]
    model = classifier(variant).fit(X, y)
    np.testing.assert_array_equal(model.classes_, np.unique(names))
    assert model.predict(X).dtype == y.dtype
    expected = classifier(variant).fit(X, label)
    order = np.argsort(names)
    np.testing.assert_allclose(
        model.predict_proba(X), expected.predict_proba(X)[:, order], atol=1e-6
    )


@OVER_VARIANTS
def test_weights_are_copies_of_samples(variant):
    X, label = data()
    weight = np.random.default_rng(0).integers(0, 4, 120)
    rows = np.repeat(np.arange(120), weight)
    weighted = classifier(variant).fit(X, label, weight)
    copied = classifier(variant).fit(X[rows], label[rows])
    np.testing.assert_allclose(weighted.factor_, copied.factor_, rtol=1e-3)
    np.testing.assert_allclose(weighted.prior_, copied.prior_)
    np.testing.assert_allclose(
        weighted.predict_proba(X), copied.predict_proba(X), atol=1e-4
    )


@OVER_VARIANTS
def test_classes_of_weight_zero_are_left_out(variant):
    X, label = data()
    weight = np.where(label == 1, 0.0, 1.0)
    model = classifier(variant).fit(X, label, weight)
    np.testing.assert_array_equal(model.classes_, [0, 2])
    kept = label != 1
    expected = classifier(variant).fit(X[kept], label[kept])
    np.testing.assert_allclose(
        model.predict_proba(X), expected.predict_proba(X), atol=1e-8
    )


def test_weights_move_the_prior():
    X, label = data()
    X = X + 2 * np.random.default_rng(1).standard_normal(X.shape)
    weight = np.where(label == 0, 10.0, 1.0)
    model = classifier("rbf").fit(X, label, weight)
    expected = np.bincount(label, weight) / weight.sum()
    np.testing.assert_allclose(model.prior_, expected)
    equal = classifier("rbf").fit(X, label)
    mean_of = [m.predict_proba(X)[:, 0].mean() for m in (model, equal)]
    assert mean_of[0] > mean_of[1]


def test_a_class_of_one_sample_is_kept():
    X, label = data()
    label[7] = 3
    model = classifier("rbf").fit(X, label)
    assert model.predict_proba(X).shape == (120, 4)
    assert model.prior_[3] == 1 / 120


# Contract


@OVER_VARIANTS
def test_parameters_set_after_fit_change_nothing(variant):
    X, label = data()
    model = classifier(variant, DeepTDFeatures()).fit(X, label)
    expected = model.predict_proba(X)
    model.set_params(features__pooling="local", kernel="laplace", gamma=3.0, cv=3)
    model.regressor_.set_params(kernel="linear", metric="euclidean")
    np.testing.assert_array_equal(model.predict_proba(X), expected)


def test_copies_by_pickle_predict_the_same_and_hold_no_tables():
    X, label = data()
    model = classifier("learned").fit(X, label)
    assert not {"_table", "_held_out"} & {*vars(model), *vars(model.regressor_)}
    copy = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(copy.predict_proba(X), model.predict_proba(X))


def test_a_fit_that_reuses_features_equals_a_fit():
    X, label = data()
    first = classifier("rbf")._fit_reusing(X, label, None, None)
    reused = classifier("learned")._fit_reusing(X, label, None, first)
    assert reused.regressor_.features_ is first.regressor_.features_
    expected = classifier("learned").fit(X, label)
    np.testing.assert_array_equal(reused.predict_proba(X), expected.predict_proba(X))


def test_images_and_flat_rows_have_the_same_model():
    X, digit = load_digits(return_X_y=True)
    X, digit = X[:150], digit[:150]
    images = classifier("rbf").fit(X.reshape(-1, 8, 8), digit)
    flat = classifier("rbf", input_shape=(8, 8)).fit(X, digit)
    of_features = classifier("rbf", DeepTDFeatures(input_shape=(8, 8))).fit(X, digit)
    for model in (flat, of_features):
        np.testing.assert_array_equal(
            model.predict_proba(X), images.predict_proba(X.reshape(-1, 8, 8))
        )
    assert images.n_features_in_ == 64


def test_folds_are_given_as_in_the_regression():
    X, label = data()
    shuffled = KFold(5, shuffle=True, random_state=0)
    one, two = (
        classifier("rbf", cv=cv).fit(X, label)
        for cv in (shuffled, list(shuffled.split(X)))
    )
    np.testing.assert_array_equal(one.predict_proba(X), two.predict_proba(X))
    stratified = list(StratifiedKFold(3).split(X, label))
    assert classifier(cv=stratified).fit(X, label).score(X, label) > 0.8
    with pytest.raises(ValueError, match="holds out sample"):
        classifier(cv=[(np.arange(60), np.arange(60, 120))]).fit(X, label)


def test_samples_sorted_by_class_do_no_harm():
    """They are no series, though neighbours are alike."""
    X, digit = load_digits(return_X_y=True)
    order = np.argsort(digit[:300], kind="stable")
    X, digit = X.reshape(-1, 8, 8), digit
    scores = [
        classifier("rbf").fit(X[rows], digit[rows]).score(X[300:], digit[300:])
        for rows in (np.arange(300), order)
    ]
    assert scores[1] > scores[0] - 0.01


@pytest.mark.parametrize(
    ("y", "weight", "message"),
    [
        (np.zeros(120), None, "class"),
        (np.arange(120) % 2, np.arange(120) % 2, "class"),
        (np.linspace(0, 1, 120), None, "continuous|class"),
        (np.full(120, np.nan), None, "NaN"),
        (np.arange(119) % 2, None, "119"),
        (np.arange(120) % 2, -np.ones(120), "must not be negative"),
    ],
)
def test_bad_classes_and_weights(y, weight, message):
    X, _ = data()
    with pytest.raises(ValueError, match=message):
        classifier().fit(X, y, weight)


def test_bad_data_and_parameters():
    X, label = data()
    with pytest.raises(NotFittedError):
        classifier().predict(X)
    model = classifier().fit(X, label)
    for bad in (np.nan, np.inf):
        some = X.copy()
        some[3, 4] = bad
        with pytest.raises(ValueError, match=r"NaN|infinity"):
            model.predict_proba(some)
        with pytest.raises(ValueError, match=r"NaN|infinity"):
            classifier().fit(some, label)
    with pytest.raises(ValueError, match="11 features"):
        model.predict(X[:, :11])
    with pytest.raises(ValueError, match="needs kernel='rbf'"):
        classifier(metric="learned").fit(X, label)
    with pytest.raises(ValueError, match="kernel"):
        classifier(kernel="cubic").fit(X, label)


# Quality


@pytest.mark.parametrize(("variant", "least"), [("linear", 0.9), ("learned", 0.92)])
def test_digits(variant, least):
    X, digit = load_digits(return_X_y=True)
    X = X.reshape(-1, 8, 8)
    scores = []
    for seed in range(3):
        rows = np.random.RandomState(seed).permutation(len(X))
        train, test = rows[:300], rows[300:]
        model = classifier(variant, random_state=seed).fit(X[train], digit[train])
        scores.append(model.score(X[test], digit[test]))
    assert np.mean(scores) > least
