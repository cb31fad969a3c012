"""Arrays of other libraries, with scikit-learn's array API dispatch and without."""

import functools

import numpy as np
import pytest
import sklearn
from sklearn.base import clone, is_classifier
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler

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
from skdeeptd._array_api import METHODS
from skdeeptd._compat import get_namespace

GRID = {"polish": [False]}
ESTIMATORS = [
    SignalScaler(),
    DeepTDFeatures(random_state=0),
    DeepTDRidge(random_state=0),
    DeepTDRidgeClassifier(random_state=0),
    DeepTDRegressor(((2, 3), (2, 2)), n_init=1, max_iter=5, random_state=0),
    DeepTDClassifier(((2, 3), (2, 2)), n_init=1, max_iter=5, random_state=0),
    DeepTDRegressorCV(GRID, cv=2),
    DeepTDClassifierCV(GRID, cv=2),
    DeepTDAutoRegressor(cv=2, ensemble_size=1, random_state=0),
    DeepTDAutoClassifier(cv=2, ensemble_size=1, random_state=0),
]


def name_of(estimator):
    return type(estimator).__name__


RNG = np.random.default_rng(5)
X = RNG.standard_normal((36, 4, 6))
Y = X[:, 0].sum(axis=1) + 0.1 * RNG.standard_normal(36)
WEIGHT = RNG.uniform(0.5, 2, 36)
pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


@pytest.fixture(params=["torch", "array_api_strict"])
def library(request):
    found = pytest.importorskip(request.param)
    try:
        with sklearn.config_context(array_api_dispatch=True):
            get_namespace(found.asarray([1.0]))
    except ImportError as error:  # scikit-learn before 1.8 needs array-api-compat
        pytest.skip(str(error))
    return found


def target(estimator):
    return (Y > 0).astype(int) if is_classifier(estimator) else Y


def calls(estimator, X, y, weight):
    """Yield the name and the result of each method, after a fit."""
    fitted = clone(estimator)
    assert fitted.fit(X, y, sample_weight=weight) is fitted
    for name in METHODS:
        if not hasattr(fitted, name) or name == "fit":
            continue
        if name == "partial_fit":
            classes = {"classes": [0, 1]} if is_classifier(fitted) else {}
            part = clone(estimator).partial_fit(X, y, **classes)
            yield name, part.predict(X)
        elif name == "score":
            yield name, fitted.score(X, y, sample_weight=weight)
        elif name == "fit_transform":
            yield name, clone(estimator).fit_transform(X, y)
        else:
            yield name, getattr(fitted, name)(X=X)


@functools.cache
def expected_results(estimator):
    return dict(calls(estimator, X, target(estimator), WEIGHT))


@pytest.mark.parametrize("estimator", ESTIMATORS, ids=name_of)
def test_with_dispatch_results_are_of_the_library_of_X(estimator, library):
    given = [library.asarray(values) for values in (X, target(estimator), WEIGHT)]
    with sklearn.config_context(array_api_dispatch=True):
        found = dict(calls(estimator, *given))
    assert found.keys() == expected_results(estimator).keys()
    for name, expected in expected_results(estimator).items():
        kind = float if name == "score" else type(given[0])
        assert isinstance(found[name], kind), name
        np.testing.assert_array_equal(np.asarray(found[name]), expected)


@pytest.mark.parametrize("estimator", ESTIMATORS[:6], ids=name_of)
def test_without_dispatch_results_are_of_numpy(estimator, library):
    given = [library.asarray(values) for values in (X, target(estimator), WEIGHT)]
    found = dict(calls(estimator, *given))
    np.testing.assert_equal(found, expected_results(estimator))


def test_with_dispatch_numpy_arrays_stay_numpy_arrays(library):
    with sklearn.config_context(array_api_dispatch=True):
        found = dict(calls(ESTIMATORS[2], X, Y, WEIGHT))
    np.testing.assert_equal(found, expected_results(ESTIMATORS[2]))


def test_both_results_with_standard_deviations_are_converted(library):
    with sklearn.config_context(array_api_dispatch=True):
        samples = library.asarray(X)
        model = DeepTDRidge(SignalScaler()).fit(samples, library.asarray(Y))
        mean, std = model.predict(samples, return_std=True)
    assert type(mean) is type(std) is type(samples)


def test_classes_that_are_strings_stay_numpy(library):
    y = np.where(Y > 0, "high", "low")
    with sklearn.config_context(array_api_dispatch=True):
        model = DeepTDRidgeClassifier(SignalScaler()).fit(library.asarray(X), y)
        predicted = model.predict(library.asarray(X))
        assert type(model.predict_proba(library.asarray(X))) is not np.ndarray
    assert set(predicted) == {"high", "low"}


def test_scikit_learn_around_an_estimator(library):
    samples, y = X.reshape(36, 24), Y
    model = make_pipeline(MinMaxScaler(), DeepTDRidge(SignalScaler()))
    expected = cross_val_score(model, samples, y)
    with sklearn.config_context(array_api_dispatch=True):
        found = cross_val_score(model, library.asarray(samples), library.asarray(y))
    np.testing.assert_allclose(found, expected)


@pytest.mark.parametrize("dispatch", [False, True])
def test_tensors_that_require_a_gradient_are_an_error_that_says_what_to_do(dispatch):
    torch = pytest.importorskip("torch")
    samples = torch.tensor(X, requires_grad=True)
    with (
        sklearn.config_context(array_api_dispatch=dispatch),
        pytest.raises(RuntimeError, match=r"Use tensor.detach\(\).numpy\(\) instead"),
    ):
        DeepTDRidge(SignalScaler()).fit(samples, Y)


def test_a_method_of_a_subclass_gets_numpy_arrays(library):
    class Own(DeepTDRidge):
        def predict(self, X, return_std=False):
            assert isinstance(X, np.ndarray)
            return super().predict(X, return_std)

    with sklearn.config_context(array_api_dispatch=True):
        model = Own(SignalScaler()).fit(library.asarray(X), library.asarray(Y))
        assert type(model.predict(library.asarray(X))) is type(library.asarray(X))


def test_partial_fit_stays_unavailable_with_balanced_classes():
    assert not hasattr(DeepTDClassifier(class_weight="balanced"), "partial_fit")
    assert hasattr(DeepTDClassifier(), "partial_fit")
