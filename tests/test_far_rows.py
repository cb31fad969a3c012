"""Finite samples as large as the dtype allows: bounded features, real probabilities."""

import warnings

import numpy as np
import pytest
from scipy.signal import savgol_filter
from sklearn.base import clone

from skdeeptd import (
    DeepTDAutoClassifier,
    DeepTDClassifier,
    DeepTDClassifierCV,
    DeepTDFeatures,
    DeepTDRidgeClassifier,
    SignalScaler,
)
from skdeeptd._data.signals import derivative

DTYPES = pytest.mark.parametrize("dtype", [np.float32, np.float64])
CLASSIFIERS = {
    name: DeepTDClassifier((5, 4), activation=name, n_init=1, random_state=0)
    for name in ("relu", "leaky_relu", "softplus", "tanh", "identity")
} | {
    "two filters": DeepTDClassifier((5, 4), n_filters=2, n_init=1, hidden_bias=True),
    "linear": DeepTDClassifier((20,)),
    "ridge": DeepTDRidgeClassifier(random_state=0),
    "ridge, derivative": DeepTDRidgeClassifier(SignalScaler("derivative")),
    "cv": DeepTDClassifierCV({"n_init": [1]}, cv=2, random_state=0),
    "auto": DeepTDAutoClassifier(cv=2, ensemble_size=2, random_state=0),
}


@pytest.fixture(autouse=True)
def warnings_of_numpy_are_errors():
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        yield


def data(dtype, n_classes=2):
    """Return X with a constant feature, and classes of its first patch."""
    rng = np.random.default_rng(11)
    X = rng.standard_normal((50, 20)).astype(dtype)
    X[:, 7] = 0.5
    score = np.maximum(X[:, :5].sum(axis=1), 0) + 0.3 * rng.standard_normal(50)
    return X, np.searchsorted(
        np.quantile(score, np.arange(1, n_classes) / n_classes), score
    )


def far_rows(dtype):
    rng, largest = np.random.default_rng(12), np.finfo(dtype).max
    alternating = np.where(np.arange(20) % 2, -1.0, 1.0)
    one = 1.0 * (np.arange(20) == 3)
    rows = [np.ones(20), -np.ones(20), alternating, one, *rng.uniform(-1, 1, (6, 20))]
    rows = 0.999 * np.vstack([*rows, *np.sign(rng.standard_normal((3, 20)))])
    return (largest * np.vstack([rows, 1e-3 * rows])).astype(dtype)


@DTYPES
@pytest.mark.parametrize("view", [None, "derivative", "snv"])
@pytest.mark.parametrize("shape", [(20,), (2, 10)])
@pytest.mark.parametrize("make", [SignalScaler, DeepTDFeatures])
def test_features_are_bounded(make, shape, view, dtype):
    X, y = data(dtype)
    model = make(view=view, input_shape=shape).fit(X, y)
    features = model.transform(far_rows(dtype))
    assert features.dtype == dtype
    assert np.abs(features).max() <= 5


@DTYPES
@pytest.mark.parametrize("n_classes", [2, 3])
@pytest.mark.parametrize("name", CLASSIFIERS)
def test_probabilities_are_finite_and_sum_to_one(name, n_classes, dtype):
    X, y = data(dtype, n_classes)
    model, far = clone(CLASSIFIERS[name]).fit(X, y), far_rows(dtype)
    p = model.predict_proba(far)
    np.testing.assert_allclose(p.sum(axis=1), 1, rtol=1e-5)
    assert p.min() >= 0
    assert not np.any(np.isnan(model.predict_log_proba(far)))
    assert np.array_equal(model.predict(far), model.classes_[p.argmax(axis=1)])
    if hasattr(model, "decision_function"):
        assert np.all(np.isfinite(model.decision_function(far)))
    for bad in (np.nan, np.inf):
        far[2, 9] = bad
        with pytest.raises(ValueError, match=r"X contains (NaN|infinity)"):
            model.predict_proba(far)


def test_far_rows_have_the_class_of_their_direction():
    X, y = data(float, 3)
    model = DeepTDClassifier((5, 4), random_state=0).fit(X, y)
    rows = far_rows(float)
    at_limit = model.decision_function(rows / 1e200).argmax(axis=1)
    assert np.array_equal(model.predict(rows), model.classes_[at_limit])


def test_derivatives_are_those_of_savitzky_and_golay():
    signals = np.random.default_rng(0).standard_normal((3, 2, 40))
    expected = savgol_filter(signals, 15, 2, deriv=1, mode="nearest")
    np.testing.assert_array_equal(derivative(signals), expected)
