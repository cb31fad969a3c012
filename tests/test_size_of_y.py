"""A float32 X does not limit how large or small y may be."""

import warnings

import numpy as np
import pytest
from sklearn.base import clone

from skdeeptd import (
    DeepTDAutoRegressor,
    DeepTDRegressor,
    DeepTDRegressorCV,
    DeepTDRidge,
    SignalScaler,
)

ESTIMATORS = {
    "relu": DeepTDRegressor((3, 4), n_init=2, random_state=0),
    "tanh": DeepTDRegressor((3, 4), activation="tanh", alpha=1.0, n_init=2),
    "linear": DeepTDRegressor((12,), alpha=0.1),
    "huber": DeepTDRegressor((3, 4), loss="huber", n_init=2, random_state=0),
    "cv": DeepTDRegressorCV({"kernel_sizes": [(3, 4)], "n_init": [2]}, cv=2),
    "linear ridge": DeepTDRidge(SignalScaler()),
    "rbf": DeepTDRidge(SignalScaler(), kernel="rbf", metric="learned"),
    "auto": DeepTDAutoRegressor(cv=2),
}


@pytest.mark.parametrize("size", [1e-60, 1e-42, 1e38, 1e50, 1e120])
@pytest.mark.parametrize("name", ESTIMATORS)
def test_predictions_have_the_size_of_y(name, size):
    rng = np.random.default_rng(2)
    X = rng.standard_normal((16 if name == "auto" else 60, 12)).astype(np.float32)
    y = np.maximum(X[:, :3].sum(axis=1), 0) + 0.1 * rng.standard_normal(len(X))
    model = clone(ESTIMATORS[name]).set_params(random_state=0)
    expected = model.fit(X.astype(float), y).predict(X.astype(float))
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        found = model.fit(X, size * y).predict(X)
    np.testing.assert_allclose(found / size, expected, rtol=1e-5, atol=1e-5)
    assert clone(model).fit(X, y).predict(X).dtype == np.float32
