"""Effective weights, against coefficients, gradients and permutations."""

import numpy as np
import pandas as pd
import polars as pl
import pytest
from scipy.stats import spearmanr
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.decomposition import PCA
from sklearn.exceptions import NotFittedError
from sklearn.inspection import permutation_importance
from sklearn.linear_model import LogisticRegression, RidgeCV
from sklearn.model_selection import cross_validate
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from skdeeptd import (
    DeepTDAutoClassifier,
    DeepTDAutoRegressor,
    DeepTDClassifier,
    DeepTDFeatures,
    DeepTDRegressor,
    DeepTDRidge,
)
from skdeeptd._model.fitted import networks_of
from skdeeptd._model.network import input_gradient
from skdeeptd.datasets import make_patch_cnn_classification, make_patch_cnn_regression
from skdeeptd.inspection import effective_weights

SEEDS = range(7)


def planted(seed, n_samples=400, **parameters):
    """X in units that differ from feature to feature, y, and standardised X."""
    Z, y = make_patch_cnn_regression(
        n_samples, (6, 5), noise=0.1, random_state=seed, **parameters
    )
    units = np.exp(np.random.default_rng(seed).standard_normal(Z.shape[1]))
    return Z * units, y, Z


def gradients(network, X):
    """The derivatives in each row, by the backward pass of the network."""
    return np.array([input_gradient(network, x[np.newaxis]) for x in X])


@pytest.mark.parametrize("last", [DeepTDRegressor, DeepTDRidge, DeepTDAutoRegressor])
def test_the_order_of_features_is_that_of_permutation_importance(last):
    found = []
    for seed in SEEDS[: 3 if last is DeepTDAutoRegressor else None]:
        X, y, _ = planted(seed)
        sizes = {"kernel_sizes": (6, 5)} if last is DeepTDRegressor else {}
        model = make_pipeline(StandardScaler(), last(**sizes, random_state=0))
        model.fit(X[:200], y[:200])
        permuted = permutation_importance(
            model, X[200:320], model.predict(X[200:320]), n_repeats=5, random_state=0
        )
        magnitude = effective_weights(model, X[200:320]).magnitude
        found.append(spearmanr(magnitude, permuted.importances_mean).statistic)
    assert np.median(found) > 0.9


def test_of_a_linear_layer_they_are_coefficient_times_spread():
    X, _, Z = planted(0)
    coef = np.linspace(-2, 2, 30)
    model = DeepTDRegressor((30,), random_state=0).fit(X, Z @ coef)
    (network,) = networks_of(model)
    slope = network.scales[0] * network.kernels[0][0]
    expected = slope * X.std(axis=0)
    found = effective_weights(model, X)
    np.testing.assert_allclose(found.magnitude, np.abs(expected), rtol=1e-9)
    np.testing.assert_allclose(found.sign, np.sign(expected), rtol=1e-9)
    np.testing.assert_allclose(
        found.weights, np.broadcast_to(expected, X.shape), rtol=1e-9
    )
    assert np.all(found.standard_error < 1e-9)
    assert np.isnan(found.refit_std).all()


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_of_smooth_networks_they_are_the_gradients_in_each_row(dtype):
    X, y, _ = planted(0, n_outputs=2)
    model = DeepTDRegressor((6, 5), activation="tanh", random_state=0)
    model.fit(X.astype(dtype), y.astype(dtype))
    X = X[:50].astype(dtype)
    for output, network in enumerate(networks_of(model)):
        found = effective_weights(model, X, output=output)
        exact = gradients(network, X.astype(float)) * X.astype(float).std(axis=0)
        atol = 1e-4 * np.abs(exact).max()
        np.testing.assert_allclose(found.weights, exact, rtol=1e-3, atol=atol)
        magnitude = np.abs(exact).mean(axis=0)
        np.testing.assert_allclose(found.magnitude, magnitude, rtol=1e-3)
        sign = exact.mean(axis=0) / magnitude
        np.testing.assert_allclose(found.sign, sign, atol=1e-3)
        error = np.abs(exact).std(axis=0, ddof=1) / np.sqrt(50)
        np.testing.assert_allclose(found.standard_error, error, rtol=1e-2)


def test_of_relu_networks_kinks_hardly_matter():
    X, y, _ = planted(0)
    model = DeepTDRegressor((6, 5), random_state=0).fit(X, y)
    exact = np.abs(gradients(networks_of(model)[0], X) * X.std(axis=0)).mean(axis=0)
    found = effective_weights(model, X).magnitude
    assert np.max(np.abs(found - exact)) < 0.02 * exact.max()


def test_of_a_mean_they_are_the_mean_of_those_of_its_members():
    X, y, _ = planted(0, n_outputs=2)
    model = DeepTDAutoRegressor(cv=3, random_state=0).fit(X[:80], y[:80])
    for output in range(2):
        of_members = [
            weight * effective_weights(e, X[80:120], output=output).weights
            for e, weight in zip(
                model.estimators_, model.weights_[:, output], strict=True
            )
        ]
        found = effective_weights(model, X[80:120], output=output).weights
        np.testing.assert_allclose(found, np.sum(of_members, axis=0), atol=1e-9)


def derivative(X):
    return np.gradient(X, axis=1)


def test_a_pipeline_maps_back_to_its_own_input():
    """By the chain rule: the gradient of the network times that of the steps."""
    X, y, _ = planted(0)
    network = DeepTDRegressor((5, 4), activation="tanh", random_state=0)
    steps = [StandardScaler(), FunctionTransformer(derivative), PCA(20)]
    model = make_pipeline(*steps, network).fit(X, y)
    scaler, _, pca, last = (step for _, step in model.steps)
    inner = model[:-1].transform(X[:40])
    back = gradients(networks_of(last)[0], inner) @ pca.components_
    exact = back @ derivative(np.eye(30)).T / scaler.scale_ * X[:40].std(axis=0)
    found = effective_weights(model, X[:40]).weights
    np.testing.assert_allclose(found, exact, atol=1e-3 * np.abs(exact).max())


def test_features_before_an_estimator_of_scikit_learn():
    X, y, _ = planted(0)
    model = make_pipeline(DeepTDFeatures(random_state=0), RidgeCV()).fit(X, y)
    assert np.all(effective_weights(model, X[:50]).magnitude > 0)


@pytest.mark.parametrize("n_classes", [2, 3])
def test_of_classes_they_are_those_of_the_logits(n_classes):
    X, y = make_patch_cnn_classification(
        300, (6, 5), n_classes=n_classes, random_state=0
    )
    model = DeepTDClassifier((6, 5), activation="tanh", alpha=1.0, random_state=0)
    model.fit(X, y)
    for output, network in enumerate(networks_of(model)):
        exact = gradients(network, X[:40]) * X[:40].std(axis=0)
        found = effective_weights(model, X[:40], output=output).weights
        np.testing.assert_allclose(found, exact, atol=1e-3 * np.abs(exact).max())
    with pytest.raises(ValueError, match="output must be an integer from 0 to"):
        effective_weights(model, X, output=n_classes if n_classes > 2 else 1)


class WithoutLogits(ClassifierMixin, BaseEstimator):
    """Probabilities alone, as a mean of classifiers has."""

    def fit(self, X, y):
        self.model_ = LogisticRegression().fit(X, y)
        self.classes_ = self.model_.classes_
        return self

    def predict_log_proba(self, X):
        return self.model_.predict_log_proba(X)


def test_without_logits_they_are_those_of_the_odds():
    X, y = make_patch_cnn_classification(300, (6, 5), random_state=0)
    logits = LogisticRegression().fit(X, y)
    alone = WithoutLogits().fit(X, y)
    expected = logits.coef_[0] * X.std(axis=0)
    for model in (logits, alone):
        found = effective_weights(model, X)
        np.testing.assert_allclose(found.magnitude * found.sign, expected, rtol=1e-6)
    y = np.digitize(X[:, 0], [-0.5, 0.5])
    alone = WithoutLogits().fit(X, y)
    p = np.exp(alone.predict_log_proba(X))[..., np.newaxis]
    coef = alone.model_.coef_
    mean = np.sum(p * coef, axis=1)
    exact = (coef[1] - mean) / (1 - p[:, 1]) * X.std(axis=0)
    found = effective_weights(alone, X, output=1).weights
    np.testing.assert_allclose(found, exact, atol=1e-3 * np.abs(exact).max())


def test_a_choice_of_classes_ranks_features_as_the_planted_logit():
    X, y = make_patch_cnn_classification(400, (30,), random_state=0)
    model = DeepTDAutoClassifier(random_state=0).fit(X[:300], y[:300])
    linear = LogisticRegression(C=1e6).fit(X, y).coef_[0]
    found = effective_weights(model, X[300:])
    assert spearmanr(found.magnitude * found.sign, linear).statistic > 0.9


def test_a_constant_feature_and_one_without_effect_have_none():
    X = np.random.default_rng(0).standard_normal((60, 4))
    X[:, 1] = 0.1
    model = RidgeCV().fit(X, X[:, 0])
    model.coef_[:] = [2, 3, 0, -1]
    found = effective_weights(model, X)
    np.testing.assert_array_equal(found.magnitude[[1, 2]], 0)
    np.testing.assert_allclose(found.sign, [1, 0, 0, -1], atol=1e-9)


def test_the_spread_over_refits_is_that_of_their_magnitudes():
    X, y, _ = planted(0)
    model = DeepTDRegressor((6, 5), random_state=0)
    refits = cross_validate(model, X, y, return_estimator=True)["estimator"]
    found = effective_weights(model.fit(X, y), X[:50], refits=refits)
    each = [effective_weights(e, X[:50]).magnitude for e in refits]
    np.testing.assert_allclose(found.refit_std, np.std(each, axis=0, ddof=1))
    assert np.all(found.refit_std > 0)


@pytest.mark.parametrize("frame", [pd.DataFrame, pl.DataFrame])
@pytest.mark.filterwarnings("error:X does not have valid feature names")
def test_frames_are_predicted_as_frames(frame):
    X, y, _ = planted(0)
    names = [f"f{i}" for i in range(30)]
    X_frame = frame(dict(zip(names, X.T, strict=True)))
    model = make_pipeline(StandardScaler(), DeepTDRegressor((6, 5), random_state=0))
    found = effective_weights(model.fit(X_frame, y), X_frame)
    expected = effective_weights(model.fit(X, y), X)
    np.testing.assert_allclose(found.magnitude, expected.magnitude, rtol=1e-9)


def test_results_have_the_shape_of_a_sample():
    X, y = make_patch_cnn_regression(
        100, ((2, 3), (2, 2)), input_shape=(4, 6), random_state=0
    )
    images = X.reshape(-1, 4, 6)
    plain = DeepTDRegressor(((2, 3), (2, 2)), random_state=0).fit(images, y)
    channels = make_pipeline(
        FunctionTransformer(np.moveaxis, kw_args={"source": 1, "destination": 2}), plain
    ).fit(np.moveaxis(images, 2, 1), y)
    scaled = make_pipeline(StandardScaler(), DeepTDRidge(random_state=0)).fit(X, y)
    ridge = DeepTDRidge(random_state=0).fit(images, y)
    for model, given, more, shape in [
        (plain, X, {}, (4, 6)),
        (plain, images, {}, (4, 6)),
        (channels, np.moveaxis(images, 2, 1), {}, (6, 4)),
        (scaled, X, {}, (24,)),
        (scaled, X, {"input_shape": (4, 6)}, (4, 6)),
        (ridge, X, {}, (4, 6)),
    ]:
        found = effective_weights(model, given, **more)
        assert found.magnitude.shape == found.sign.shape == shape
        assert found.weights.shape == (100, *shape)


def test_blocks_of_features_change_nothing(monkeypatch):
    X, y, _ = planted(0)
    model = DeepTDRidge(random_state=0).fit(X, y)
    whole = effective_weights(model, X).weights
    monkeypatch.setattr("skdeeptd.inspection.MOST_NUMBERS", 14 * X.size)
    np.testing.assert_allclose(effective_weights(model, X).weights, whole, atol=1e-10)


def test_bad_input():
    X, y, _ = planted(0)
    model = DeepTDRegressor((6, 5), max_iter=100, random_state=0).fit(X, y)
    with pytest.raises(NotFittedError):
        effective_weights(DeepTDRegressor(), X)
    with pytest.raises(TypeError, match="regressor or a classifier, got DeepTDFeat"):
        effective_weights(DeepTDFeatures().fit(X, y), X)
    with pytest.raises(ValueError, match=r"29 features, but .* expecting 30"):
        effective_weights(model, X[:, :29])
    with pytest.raises(ValueError, match="minimum of 2 is required"):
        effective_weights(model, X[:1])
    with pytest.raises(ValueError, match="NaN"):
        effective_weights(model, np.where(X > 1, np.nan, X))
    with pytest.raises(ValueError, match="from 0 to 0, got 1"):
        effective_weights(model, X, output=1)
    with pytest.raises(ValueError, match=r"\(4, 6\) has 24 entries, but X has 30"):
        effective_weights(model, X, input_shape=(4, 6))
    with pytest.raises(ValueError, match=r"holds one estimator; .* at least two"):
        effective_weights(model, X, refits=[model])
    with pytest.raises(NotFittedError):
        effective_weights(model, X, refits=[model, DeepTDRegressor()])
    few, many = (LogisticRegression().fit(X, np.digitize(y, [0] * n)) for n in (1, 2))
    many.classes_ = np.array([0, 2])
    with pytest.raises(ValueError, match="must have the classes of the estimator"):
        effective_weights(few, X, refits=[few, many])
    with pytest.raises(TypeError, match="must be of one kind"):
        effective_weights(model, X, refits=[model, few])
