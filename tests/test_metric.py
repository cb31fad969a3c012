"""The weights of features in a learned metric, and their display."""

import numpy as np
import pytest
from sklearn.exceptions import NotFittedError

from skdeeptd import DeepTDFeatures, DeepTDRidge, DeepTDRidgeClassifier, SignalScaler
from skdeeptd.inspection import metric_weights
from skdeeptd.plotting import MetricDisplay

LEARNED = {"kernel": "rbf", "metric": "learned", "random_state": 0}


def draw(shape=(12,), where=3, seed=0, n_rows=150):
    X = np.random.default_rng(seed).standard_normal((n_rows, *shape))
    return X, np.sin(2 * X.reshape(n_rows, -1)[:, where])


@pytest.mark.parametrize("shape", [(12,), (3, 4), (4, 3), (2, 10), (10, 2), (3, 3, 2)])
def test_the_feature_that_matters_has_the_largest_weight(shape):
    """Also if an axis of channels is moved to the front inside."""
    for seed in range(3):
        where = 4 + seed
        X, y = draw(shape, where, seed, n_rows=300)
        weights = metric_weights(
            DeepTDRidge(SignalScaler(), **LEARNED).fit(X, y)
        ).weights
        assert weights.shape == shape
        np.testing.assert_allclose(weights.sum(), 1)
        assert weights.ravel().argmax() == where


def test_weights_of_filters_have_their_names():
    X, y = draw((30,))
    model = DeepTDRidge(DeepTDFeatures(random_state=0), **LEARNED).fit(X, y)
    found = metric_weights(model)
    assert len(found.weights) == len(found.feature_names)
    assert found.feature_names == model.features_.get_feature_names_out().tolist()


def test_weights_of_a_classifier_are_those_of_its_regression():
    X, y = draw()
    model = DeepTDRidgeClassifier(SignalScaler(), **LEARNED).fit(X, y > 0)
    assert metric_weights(model).weights.argmax() == 3


def test_a_metric_that_is_not_learned_is_even():
    X, y = draw()
    model = DeepTDRidge(SignalScaler(), kernel="rbf").fit(X, y)
    np.testing.assert_allclose(metric_weights(model).weights, 1 / 12)


def test_bad_estimators():
    X, y = draw()
    with pytest.raises(NotFittedError):
        metric_weights(DeepTDRidge())
    with pytest.raises(AttributeError, match="linear"):
        metric_weights(DeepTDRidge(SignalScaler()).fit(X, y))
    with pytest.raises(TypeError, match="SignalScaler"):
        metric_weights(SignalScaler().fit(X))


def test_the_display_draws_lines_images_and_bars():
    pytest.importorskip("matplotlib").use("Agg")
    X, y = draw()
    line = MetricDisplay.from_estimator(
        DeepTDRidge(SignalScaler(), **LEARNED).fit(X, y)
    )
    np.testing.assert_allclose(line.ax_.lines[0].get_ydata(), line.weights)
    at = np.linspace(900, 1000, 12)
    named = MetricDisplay(line.weights, feature_names=at).plot()
    np.testing.assert_allclose(named.ax_.lines[0].get_xdata(), at)
    bars = MetricDisplay(line.weights, feature_names=list("abcdefghijkl"), n_best=5)
    widths = [patch.get_width() for patch in bars.plot().ax_.patches]
    np.testing.assert_allclose(widths, np.sort(line.weights)[::-1][:5])
    X, y = draw((5, 6))
    image = MetricDisplay.from_estimator(
        DeepTDRidge(SignalScaler(), **LEARNED).fit(X, y)
    )
    np.testing.assert_allclose(image.ax_.images[0].get_array(), image.weights)
    with pytest.raises(ValueError, match="2 names of 12 features"):
        MetricDisplay(line.weights, feature_names=["a", "b"]).plot()
