"""Predictions do not depend on units, levels, dtype, memory order or order of rows.

Each property is tested for each estimator for which it holds. The data have at least
five rows per weight and some noise, so that a fit is not a matter of rounding.
"""

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.datasets import load_digits

from skdeeptd import (
    DeepTDAutoClassifier,
    DeepTDAutoRegressor,
    DeepTDClassifier,
    DeepTDClassifierCV,
    DeepTDFeatures,
    DeepTDRegressor,
    DeepTDRegressorCV,
    DeepTDRidge,
    DeepTDRidgeClassifier,
    SignalScaler,
)
from skdeeptd.datasets import make_patch_cnn_regression

N_NEW = 40  # rows that are predicted
SIZES = (3, 2), (1, 4)
pytestmark = [
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
    pytest.mark.filterwarnings("ignore:Few rows hold most"),
]

# Data


def planted(n_rows=300, n_filters=1):
    """Return 3 channels of 8 places, and the noisy outputs of a network."""
    X, y = make_patch_cnn_regression(
        n_rows + N_NEW,
        SIZES,
        input_shape=(3, 8),
        noise=0.1,
        n_filters=n_filters,
        random_state=0,
    )
    return X.reshape(-1, 3, 8), y


def two_planted():
    return planted(600, n_filters=2)


def spectra(n_rows=60):
    rng, places = np.random.RandomState(0), np.linspace(0, 1, 15)
    content = rng.uniform(size=(n_rows + N_NEW, 3))
    bands = [np.exp(-(((places - at) / 0.12) ** 2)) for at in (0.3, 0.5, 0.7)]
    X = content @ bands + 0.02 * rng.standard_normal((len(content), len(places)))
    return X, content[:, 0] + 0.05 * rng.standard_normal(len(content))


def images(n_rows=150):
    """Return digits on white paper."""
    pixels, digit = load_digits(return_X_y=True)
    X = np.full((n_rows + N_NEW, 16, 16), 240 / 255)
    X[:, 4:12, 4:12] = (240 - 15 * pixels[: len(X)].reshape(-1, 8, 8)) / 255
    return X, (digit[: len(X)] % 2).astype(float)


def counts():
    X, y = planted()
    mean = np.exp(0.5 * (y - y.mean()) / y.std() + 2)
    return X, np.random.RandomState(1).poisson(mean).astype(float)


def classes(data, *ends):
    X, y = data
    noise = 0.5 * np.random.RandomState(1).standard_normal(len(y))
    return X, np.digitize((y - y.mean()) / y.std() + noise, ends)


def two_classes():
    return classes(planted(), 0)


def three_classes():
    return classes(planted(), -0.5, 0.5)


def few():
    """Return 200 rows; of more than 256 DeepTDFeatures uses a sample."""
    return planted(200)


def classes_of_few():
    return classes(few(), 0)


def three_classes_of_few():
    return classes(few(), -0.5, 0.5)


def spectra_of_two_classes():
    return classes(spectra(), 0)


# Estimators: closed forms depend on rounding only, networks on where iterations stop


def three_folds(places):
    """Return folds of rows that stand at ``places`` of the data."""
    fold = places % 3
    return [(np.flatnonzero(fold != k), np.flatnonzero(fold == k)) for k in range(3)]


def network(**options):
    return DeepTDRegressor(SIZES, random_state=0, **options)


def ridge(features=None, **options):
    return DeepTDRidge(features, random_state=0, **options)


GRID = {"kernel_sizes": [SIZES, ((3, 4), (1, 2))], "alpha": [1.0]}
CLOSED = {
    "ridge": (ridge(), few),
    "ridge rbf": (ridge(kernel="rbf"), few),
    "ridge laplace": (ridge(kernel="laplace"), images),
    "ridge learned": (ridge(kernel="rbf", metric="learned"), few),
    "ridge images": (ridge(), images),
    "ridge signals": (ridge(SignalScaler(), kernel="rbf"), spectra),
    "ridge classifier": (DeepTDRidgeClassifier(random_state=0), classes_of_few),
    "ridge classifier learned": (
        DeepTDRidgeClassifier(kernel="rbf", metric="learned", random_state=0),
        three_classes_of_few,
    ),
    "features": (DeepTDFeatures(random_state=0), few),
    "features of images": (DeepTDFeatures(pooling=2, random_state=0), images),
    "scaler": (SignalScaler(), few),
    "scaler snv": (SignalScaler(view="snv"), spectra),
    "scaler derivative": (SignalScaler(view="derivative"), spectra),
}
NETWORKS = {
    "network": (network(), planted),
    "network of two filters": (network(n_filters=2), two_planted),
    "network with biases": (network(hidden_bias=True), planted),
    "network tanh": (network(activation="tanh", hidden_bias=True), planted),
    "network loo": (network(alpha="loo"), planted),
    "network alpha": (network(alpha=1.0), planted),
    "network huber": (network(loss="huber"), planted),
    "network poisson": (network(loss="poisson"), counts),
    "network of images": (DeepTDRegressor(random_state=0), images),
    "linear network": (network(activation="identity"), planted),
    "classifier": (DeepTDClassifier(SIZES, random_state=0), two_classes),
    "classifier of three": (DeepTDClassifier(SIZES, random_state=0), three_classes),
}
SEARCHES = {
    "regressor CV": (
        DeepTDRegressorCV(GRID, random_state=0, cv=three_folds(np.arange(300))),
        planted,
    ),
    "classifier CV": (
        DeepTDClassifierCV(GRID, random_state=0, cv=three_folds(np.arange(300))),
        two_classes,
    ),
    "auto regressor": (
        DeepTDAutoRegressor(random_state=0, cv=three_folds(np.arange(60))),
        spectra,
    ),
    "auto classifier": (
        DeepTDAutoClassifier(random_state=0, cv=three_folds(np.arange(60))),
        spectra_of_two_classes,
    ),
}
AUTO = "auto regressor", "auto classifier"
SINGLE = {**CLOSED, **NETWORKS}
ALL = {**SINGLE, **SEARCHES}


def predictions(estimator, X):
    names = ("predict_proba", "predict", "transform")
    method = next(name for name in names if hasattr(estimator, name))
    return np.asarray(getattr(estimator, method)(X), dtype=float)


def fitted_predictions(estimator, X, y, **params):
    """Fit to the first rows, and return the predictions for the others."""
    model = clone(estimator).set_params(**params).fit(X[:-N_NEW], y[:-N_NEW])
    return predictions(model, X[-N_NEW:])


def assert_same(found, expected, tolerance):
    """Compare in units of the spread of the predictions."""
    assert expected.std(axis=0).max() > 0
    scale = expected.std(axis=0).max()
    np.testing.assert_allclose(found / scale, expected / scale, atol=tolerance, rtol=0)


def tolerance_of(name, closed=1e-7, iterated=1e-3):
    return closed if name in CLOSED else iterated


@pytest.fixture(scope="module")
def reference():
    found = {}

    def predicted(name):
        if name not in found:
            estimator, data = ALL[name]
            found[name] = fitted_predictions(estimator, *data())
        return found[name]

    return predicted


def each(names):
    return pytest.mark.parametrize("name", list(names))


# Units and levels


def assert_no_unit_of_x(name, unit, expected):
    """A penalty that is given counts in units of X^2."""
    estimator, data = ALL[name]
    X, y = data()
    given, params = estimator.get_params(), {}
    if isinstance(given.get("alpha"), float):
        params = {"alpha": given["alpha"] * unit**2}
    if "param_grid" in given:
        params = {"param_grid": {**given["param_grid"], "alpha": [unit**2]}}
    found = fitted_predictions(estimator, unit * X, y, **params)
    assert_same(found, expected, tolerance_of(name))


@pytest.mark.parametrize("unit", [1e-6, 65535, 1e6])
@each(SINGLE)
def test_the_unit_of_x_does_not_matter(reference, name, unit):
    assert_no_unit_of_x(name, unit, reference(name))


@each(SEARCHES)
def test_the_unit_of_x_does_not_matter_to_searches(reference, name):
    assert_no_unit_of_x(name, 65535, reference(name))


@pytest.mark.parametrize("search", [DeepTDAutoClassifier, DeepTDClassifierCV])
def test_the_unit_of_x_does_not_matter_to_default_networks_of_classes(search):
    X, y = classes(planted(90), 0)
    model = search(cv=three_folds(np.arange(90)), random_state=0)
    expected, found = (fitted_predictions(model, u * X, y) for u in (1, 65535))
    assert_same(found, expected, 1e-2)


@pytest.mark.parametrize("levels", [-1e3, (5.0, -20.0, 100.0)])
@each([*CLOSED, "linear network"])
def test_the_level_of_x_and_of_its_channels_does_not_matter(reference, name, levels):
    """Networks that are not linear have another function behind another level."""
    estimator, data = ALL[name]
    X, y = data()
    if np.ndim(levels):
        if X.ndim < 3 or X.shape[1] != len(levels):
            pytest.skip("one channel")
        levels = np.array(levels)[:, np.newaxis]
    found = fitted_predictions(estimator, X + levels, y)
    assert_same(found, reference(name), tolerance_of(name))


OF_NUMBERS = [
    name
    for name, (estimator, _) in ALL.items()
    if hasattr(estimator, "predict") and not hasattr(estimator, "predict_proba")
]


@pytest.mark.parametrize(("unit", "level"), [(1e-5, 0.0), (-37.3, 1e3)])
@each(OF_NUMBERS)
def test_the_unit_and_the_level_of_y_do_not_matter(reference, name, unit, level):
    if name == "network poisson":
        level, unit = 0.0, abs(unit)
    estimator, data = ALL[name]
    X, y = data()
    found = fitted_predictions(estimator, X, unit * y + level)
    assert_same((found - level) / unit, reference(name), tolerance_of(name))


# Rows and memory


@each(ALL)
def test_float32_gives_the_predictions_of_the_same_numbers_in_float64(name):
    estimator, data = ALL[name]
    X, y = data()
    X = X.astype(np.float32)
    expected = fitted_predictions(estimator, X.astype(float), y)
    assert_same(fitted_predictions(estimator, X, y), expected, tolerance_of(name, 1e-4))


@each(ALL)
def test_the_order_of_memory_does_not_matter(reference, name):
    estimator, data = ALL[name]
    X, y = data()
    found = fitted_predictions(estimator, np.asfortranarray(X), y)
    assert_same(found, reference(name), tolerance_of(name))
    flat = np.asfortranarray(X.reshape(len(X), -1))
    if X.ndim > 2:
        found = fitted_predictions(estimator, flat, y, input_shape=X.shape[1:])
        assert_same(found, reference(name), tolerance_of(name))


def with_folds(estimator, places):
    """Return the parameters that give copies of a row the fold of this row."""
    has_folds = getattr(estimator, "cv", None) is not None
    return {"cv": three_folds(places)} if has_folds else {}


@each(ALL)
def test_the_order_of_rows_does_not_matter(reference, name):
    estimator, data = ALL[name]
    X, y = data()
    order = np.random.RandomState(3).permutation(len(X) - N_NEW)
    rows = np.append(order, np.arange(len(order), len(X)))
    params = with_folds(estimator, order)
    found = fitted_predictions(estimator, X[rows], y[rows], **params)
    assert_same(found, reference(name), tolerance_of(name))


@each(name for name in ALL if name not in ("network loo", *AUTO))
def test_weights_are_repetitions(name):
    """Leave-one-out leaves out a copy, or a row of weight two as a whole.

    The averages of the default models have their own test.
    """
    estimator, data = ALL[name]
    X, y = data()
    X, y, new = X[:-N_NEW], y[:-N_NEW], X[-N_NEW:]
    weight = np.random.RandomState(5).randint(1, 4, len(X))
    rows = np.repeat(np.arange(len(X)), weight)
    weighted = clone(estimator).fit(X, y, sample_weight=weight)
    repeated = clone(estimator).set_params(**with_folds(estimator, rows))
    found = predictions(repeated.fit(X[rows], y[rows]), new)
    assert_same(found, predictions(weighted, new), tolerance_of(name))


# Constant features


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@each(
    [name for name in NETWORKS if name not in ("network of images", "linear network")]
)
def test_a_constant_margin_changes_no_network(name, dtype):
    """Patches of the margin are constant, and the intercept takes their part."""
    estimator, data = ALL[name]
    X, y = data()
    padded = ((0, 0), (0, 0), (0, 8))
    expected, *others = (
        fitted_predictions(
            estimator,
            np.pad(X, padded, constant_values=v).astype(dtype),
            y,
            kernel_sizes=((3, 2), (1, 8)),
        )
        for v in (0, 1, 240 / 255)
    )
    for found in others:
        assert_same(found, expected, 5e-3)


@pytest.mark.parametrize("value", [0, 1, 240 / 255])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@each(["ridge signals", "scaler"])
def test_constant_features_change_no_scaled_signals(reference, name, value, dtype):
    estimator, data = ALL[name]
    X, y = data()
    X = np.concatenate([X, np.full_like(X, value)], axis=-1).astype(dtype)
    found = fitted_predictions(estimator, X, y)
    if name == "scaler":
        found = found.reshape(len(found), 3, 16)
        assert not found[:, :, 8:].any()
        found = found[:, :, :8].reshape(len(found), -1)
    assert_same(found, reference(name), tolerance_of(name, 1e-5))
