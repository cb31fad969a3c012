"""A script of a user: pyright and mypy know all attributes of fitted models."""

from __future__ import annotations

from typing import Any, assert_type

import numpy as np

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
from skdeeptd.export import TRUSTED_TYPES

Pair = tuple[np.ndarray, np.ndarray]
GRID = {"kernel_sizes": [(4, 3)], "n_init": [1]}


def look_at_networks(X: np.ndarray, y: np.ndarray, label: np.ndarray) -> None:
    model = DeepTDRegressor((4, 3), n_init=1, random_state=0).fit(X, y)
    assert_type(model, DeepTDRegressor)
    assert_type(model.kernels_, list[np.ndarray])
    for array in (model.gains_, model.scales_, model.biases_, model.intercept_):
        assert_type(array, np.ndarray)
    for array in (model.moment_, model.covariance_, model.noise_variance_):
        assert_type(array, np.ndarray)
    for array in (model.loo_r2_, model.conformity_scores_, model.conformity_weight_):
        assert_type(array, np.ndarray)
    assert_type(model.input_shape_, tuple[int, ...])
    assert_type(model.activations_, tuple[str, ...])
    assert_type(model.n_iter_ + model.n_features_in_, int)
    assert_type((model.kernel_sizes_, model.strides_), tuple[tuple, tuple])
    assert_type(model.predict(X), np.ndarray)
    assert_type(model.predict(X, return_std=True), Pair)
    assert_type(model.predict_interval(X, coverage=0.8), np.ndarray)
    classifier = DeepTDClassifier((4, 3), n_init=1, random_state=0)
    assert_type(classifier.fit(X, label).classes_, np.ndarray)
    assert_type(classifier.kernels_, list[np.ndarray])
    assert_type(classifier.predict_proba(X), np.ndarray)


def look_at_ridge_regressions(X: np.ndarray, y: np.ndarray, label: np.ndarray) -> None:
    scaler = SignalScaler("snv").fit(X)
    assert_type(scaler.view_, str | None)
    assert_type(scaler.transform(X), np.ndarray)
    assert_type((scaler.shift_, scaler.scale_), Pair)
    features = DeepTDFeatures(n_filters=2, random_state=0).fit(X, y)
    for bank in (features.kernels_, features.biases_, features.ramps_):
        assert_type(bank, list[np.ndarray])
    assert_type(features.dilations_ + features.pooling_, tuple[int, ...])
    linear = DeepTDRidge(SignalScaler()).fit(X, y)
    assert_type(linear.coef_, np.ndarray)
    model = DeepTDRidge(SignalScaler(), kernel="rbf", metric="learned").fit(X, y)
    assert_type(model.features_, DeepTDFeatures | SignalScaler)
    assert_type(model.gamma_, float)
    for array in (model.X_fit_, model.dual_coef_, model.alpha_, model.metric_):
        assert_type(array, np.ndarray)
    assert_type(model.predict(X, return_std=True), Pair)
    classifier = DeepTDRidgeClassifier(SignalScaler()).fit(X, label)
    assert_type(classifier.regressor_.intercept_, np.ndarray)
    assert_type((classifier.factor_, classifier.prior_), tuple[float, np.ndarray])


def look_at_searches(X: np.ndarray, y: np.ndarray, label: np.ndarray) -> None:
    search = DeepTDRegressorCV(GRID, cv=2, random_state=0).fit(X, y)
    assert_type(search.best_estimator_, DeepTDRegressor)
    assert_type(search.best_params_, dict[str, Any])
    assert_type(search.cv_results_["mean_test_score"], Any)
    assert_type(search.predict(X, return_std=True), Pair)
    found = DeepTDClassifierCV(GRID, cv=2, random_state=0).fit(X, label)
    assert_type(found.best_estimator_.scales_, np.ndarray)
    model = DeepTDAutoRegressor(cv=2, random_state=0).fit(X, y)
    assert_type(model.weights_, np.ndarray)
    assert_type(model.estimators_, list[Any])
    assert_type(model.best_score_, float)
    assert_type(model.predict(X, return_std=True), Pair)
    print(model.leaderboard())
    classifier = DeepTDAutoClassifier(cv=2, random_state=0).fit(X, label)
    assert_type((classifier.classes_, classifier.weights_), Pair)
    assert_type(TRUSTED_TYPES, list[str])
