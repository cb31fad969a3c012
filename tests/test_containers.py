"""Containers of X and y: each estimator takes the same ones."""

import h5py
import numpy as np
import pandas as pd
import pytest
import zarr
from sklearn.base import clone, is_classifier

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

GRID = {"polish": [False]}
ESTIMATORS = [
    SignalScaler(),
    DeepTDFeatures(random_state=0),
    DeepTDRidge(random_state=0),
    DeepTDRidgeClassifier(random_state=0),
    DeepTDRegressor(polish=False),
    DeepTDClassifier(polish=False),
    DeepTDRegressorCV(GRID, cv=2),
    DeepTDClassifierCV(GRID, cv=2),
    DeepTDAutoRegressor(cv=2, ensemble_size=1, random_state=0),
    DeepTDAutoClassifier(cv=2, ensemble_size=1, random_state=0),
]
OVER_ESTIMATORS = pytest.mark.parametrize(
    "estimator", ESTIMATORS, ids=lambda estimator: type(estimator).__name__
)
OVER_SUPERVISED = pytest.mark.parametrize(
    "estimator", ESTIMATORS[1:], ids=lambda estimator: type(estimator).__name__
)
RNG = np.random.default_rng(5)
X = RNG.standard_normal((36, 4, 6))
Y = X[:, 0].sum(axis=1) + 0.1 * RNG.standard_normal(36)


class Labelled:
    """An array with names of its axes, which dask might stand behind, as in xarray."""

    def __init__(self, values):
        self.values, self.shape, self.ndim = values, values.shape, values.ndim
        self.dtype = values.dtype

    def __len__(self):
        return len(self.values)

    def __array__(self, dtype=None, copy=None):
        return np.asarray(self.values, dtype)

    def __dask_graph__(self):
        return None


def in_hdf5(values):
    file = h5py.File("none", "w", driver="core", backing_store=False)
    file["X"] = values
    return file["X"]


CONTAINERS = {
    "list of arrays": list,
    "nested lists": np.ndarray.tolist,
    "labelled": Labelled,
    "hdf5": in_hdf5,
    "zarr": zarr.array,
}


def target(estimator):
    return (Y > 0).astype(int) if is_classifier(estimator) else Y


def outputs(estimator, X):
    for method in ("predict_proba", "predict", "transform"):
        if hasattr(estimator, method):
            return getattr(estimator, method)(X)
    raise AssertionError(estimator)


@OVER_ESTIMATORS
@pytest.mark.parametrize("container", CONTAINERS)
@pytest.mark.parametrize("n_axes", [2, 3])
def test_containers_give_the_bits_of_arrays(estimator, container, n_axes):
    samples = X.reshape(36, -1) if n_axes == 2 else X
    y, held = target(estimator), CONTAINERS[container](samples)
    expected = outputs(clone(estimator).fit(samples, y), samples)
    fitted = clone(estimator).fit(held, y)
    assert np.array_equal(outputs(fitted, held), expected)
    assert np.array_equal(outputs(fitted, samples), expected)


@OVER_ESTIMATORS
def test_samples_of_several_lengths_are_an_error_that_says_what_to_do(estimator):
    flat = [row[: 20 + i % 3] for i, row in enumerate(X.reshape(36, -1))]
    objects = np.empty(36, dtype=object)
    objects[:] = flat
    deep = [sample[:, : 6 - i % 2] for i, sample in enumerate(X)]
    for samples, shapes in (
        (flat, r"\(20,\) and \(22,\)"),
        (objects, r"\(20,\) and \(22,\)"),
        (deep, r"\(4, 5\) and \(4, 6\)"),
    ):
        message = f"one length, but X holds samples of the shapes {shapes}; cut them"
        with pytest.raises(ValueError, match=message):
            clone(estimator).fit(samples, target(estimator))


@OVER_ESTIMATORS
@pytest.mark.parametrize("name", ["X", "y", "sample_weight"])
def test_hidden_entries_of_masked_arrays_are_refused(estimator, name):
    if name == "y" and isinstance(estimator, SignalScaler):
        return  # which ignores y
    data = {"X": X, "y": target(estimator), "sample_weight": np.ones(36)}
    data[name] = np.ma.masked_array(data[name], mask=False)
    clone(estimator).fit(**data)  # nothing is hidden
    data[name][3:5] = np.ma.masked
    with pytest.raises(TypeError, match=f"{name} is a masked array.*fill them"):
        clone(estimator).fit(**data)


@OVER_SUPERVISED
@pytest.mark.parametrize("kind", ["datetime64[D]", "timedelta64[ms]"])
@pytest.mark.parametrize("make", [np.array, pd.Series])
def test_dates_and_durations_are_no_targets(estimator, kind, make):
    y = make((np.arange(36) // 18).astype(kind))
    with pytest.raises(
        TypeError, match=r"y must hold numbers or classes, got .*astype"
    ):
        clone(estimator).fit(X, y)


@pytest.mark.parametrize(
    "estimator",
    [e for e in ESTIMATORS[1:] if not is_classifier(e)],
    ids=lambda estimator: type(estimator).__name__,
)
def test_objects_that_are_numbers_are_numbers(estimator):
    fitted = clone(estimator).fit(X, Y.astype(object))
    expected = outputs(clone(estimator).fit(X, Y), X)
    assert np.array_equal(outputs(fitted, X), expected)
    missing = np.where(np.arange(36) == 7, None, Y)
    with pytest.raises(ValueError, match="y contains NaN"):
        clone(estimator).fit(X, missing)


@OVER_ESTIMATORS
def test_an_error_names_the_estimator_of_the_user(estimator):
    bad = X.copy()
    bad[4, 1, 2] = np.nan
    with pytest.raises(
        ValueError, match=rf"{type(estimator).__name__} does not accept"
    ):
        clone(estimator).fit(bad, target(estimator))
