"""``numpy.seterr(all="raise")`` fails no fit and no prediction."""

import numpy as np
import pytest
from sklearn.base import clone, is_classifier

from skdeeptd import (
    DeepTDAutoClassifier,
    DeepTDAutoRegressor,
    DeepTDClassifier,
    DeepTDClassifierCV,
    DeepTDRegressor,
    DeepTDRidge,
    DeepTDRidgeClassifier,
)

GRID = {"kernel_sizes": [(4, 4)], "alpha": [1e-3]}
ESTIMATORS = {
    **{
        f"classifier, {name}": DeepTDClassifier(activation=name, alpha=1e-3, n_init=1)
        for name in ("relu", "softplus", "logistic")
    },
    "regressor": DeepTDRegressor(activation="softplus", n_init=1),
    "counts": DeepTDRegressor(loss="poisson", n_init=1),
    "ridge": DeepTDRidge(kernel="rbf"),
    "ridge classifier": DeepTDRidgeClassifier(),
    "kernel classifier": DeepTDRidgeClassifier(kernel="laplace", metric="learned"),
    "cv": DeepTDClassifierCV(GRID, cv=2),
    "auto regressor": DeepTDAutoRegressor(cv=2, ensemble_size=2),
    "auto classifier": DeepTDAutoClassifier(cv=2, ensemble_size=2),
}


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("size", [1.0, 1e3])
@pytest.mark.parametrize("name", ESTIMATORS)
def test_harmless_underflow_is_no_error(name, size):
    rng = np.random.default_rng(7)
    X = size * rng.standard_normal((70, 16))
    y = np.abs(X[:, :4].sum(axis=1) / size)
    model = clone(ESTIMATORS[name])
    if is_classifier(model):
        y = np.digitize(y, [0.8, 1.8])
    with np.errstate(all="raise"):
        model.fit(X, y)
        for rows in (X, 1e3 * X, 0 * X):
            assert model.predict(rows).shape == (70,)
            if is_classifier(model):
                assert np.all(np.isfinite(model.predict_proba(rows)))
                assert not np.any(np.isnan(model.predict_log_proba(rows)))
        if hasattr(model, "partial_fit"):
            model.partial_fit(X, y)
