"""Containers of X and y: each estimator reads the same ones, or says what to do."""

import functools

import dask.array as da
import dask.dataframe as dd
import h5py
import numpy as np
import pandas as pd
import polars as pl
import pytest
import zarr
from numpy.testing import assert_allclose
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
from skdeeptd.dask import DaskDeepTDRegressor

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


def over(estimators):
    return pytest.mark.parametrize(
        "estimator", estimators, ids=lambda estimator: type(estimator).__name__
    )


OVER_ESTIMATORS, OVER_SUPERVISED = over(ESTIMATORS), over(ESTIMATORS[1:])
OVER_MODELS = over(ESTIMATORS[2:])
RNG = np.random.default_rng(5)
X = RNG.standard_normal((36, 4, 6))
Y = X[:, 0].sum(axis=1) + 0.1 * RNG.standard_normal(36)


def in_hdf5(values):
    file = h5py.File("none", "w", driver="core", backing_store=False)
    file["X"] = values
    return file["X"]


def in_xarray(values):
    return pytest.importorskip("xarray").DataArray(values)


def columns(values):
    return {f"{1100 + 2 * i} nm": column for i, column in enumerate(values.T)}


CONTAINERS = {
    "list of arrays": list,
    "tuple of arrays": tuple,
    "nested lists": np.ndarray.tolist,
    "pandas series of arrays": lambda X: pd.Series(list(X)),
    "polars series of arrays": pl.Series,
    "xarray": in_xarray,
    "hdf5": in_hdf5,
    "zarr": zarr.array,
    "masked array that hides nothing": np.ma.masked_array,
}
FRAMES = {
    "pandas": lambda X: pd.DataFrame(X, columns=1100 + 2.5 * np.arange(24)),
    "polars": lambda X: pl.DataFrame(columns(X)),
}
REFUSED = {
    "pandas column of arrays": (
        lambda X: pd.DataFrame({"nir": list(X)}),
        r"X is a frame with columns of arrays, \['nir'\]; for one channel pass",
    ),
    "polars columns of lists": (
        lambda X: pl.DataFrame({"a": X.tolist(), "b": X.tolist()}),
        r"X is a frame with columns of arrays, \['a', 'b'\]; .*numpy.stack",
    ),
    "lazy frame": (
        lambda X: pl.DataFrame(columns(X)).lazy(),
        r"X is a LazyFrame; load it with X.collect\(\)",
    ),
    "dask": (da.from_array, r"X is a dask collection.*X\.compute\(\)"),
    "dask frame": (
        lambda X: dd.from_pandas(pd.DataFrame(X), npartitions=2),
        r"X is a dask collection.*X\.compute\(\)",
    ),
    "xarray of dask": (
        lambda X: in_xarray(da.from_array(X)),
        r"X is a dask collection.*X\.compute\(\)",
    ),
}


def target(estimator):
    return (Y > 0).astype(int) if is_classifier(estimator) else Y


def outputs(estimator, X):
    for method in ("predict_proba", "predict", "transform"):
        if hasattr(estimator, method):
            return getattr(estimator, method)(X)
    raise AssertionError(estimator)


@functools.cache
def fitted_to_arrays(estimator, shape):
    samples = X.reshape(shape)
    fitted = clone(estimator).fit(samples, target(estimator))
    return fitted, samples, outputs(fitted, samples)


def assert_same_bits(estimator, container, shape):
    fitted, samples, expected = fitted_to_arrays(estimator, shape)
    held = CONTAINERS[container](samples)
    assert np.array_equal(outputs(fitted, held), expected)
    again = clone(estimator).fit(held, target(estimator))
    assert np.array_equal(outputs(again, samples), expected)


@OVER_ESTIMATORS
@pytest.mark.parametrize("container", CONTAINERS)
def test_containers_give_the_bits_of_arrays(estimator, container):
    assert_same_bits(estimator, container, (36, 4, 6))


@pytest.mark.parametrize("container", CONTAINERS)
def test_containers_of_rows_give_the_bits_of_tables(container):
    assert_same_bits(ESTIMATORS[2], container, (36, 24))


@OVER_ESTIMATORS
@pytest.mark.parametrize("frame", FRAMES)
def test_frames_with_a_column_per_wavelength_are_read_as_tables(estimator, frame):
    _, samples, expected = fitted_to_arrays(estimator, (36, 24))
    held = FRAMES[frame](samples)
    fitted = clone(estimator).fit(held, target(estimator))
    assert_allclose(outputs(fitted, held), expected, rtol=1e-6, atol=1e-6)


@OVER_ESTIMATORS
@pytest.mark.parametrize("container", REFUSED)
def test_other_containers_are_refused_with_what_to_do(estimator, container):
    fitted, samples, _ = fitted_to_arrays(estimator, (36, 24))
    make, message = REFUSED[container]
    held = make(samples)
    with pytest.raises(TypeError, match=f"^{message}"):
        clone(estimator).fit(held, target(estimator))
    with pytest.raises(TypeError, match=f"^{message}"):
        outputs(fitted, held)


@OVER_MODELS
@pytest.mark.parametrize("name", ["X", "y", "sample_weight"])
def test_dask_beside_numpy_is_refused_by_fit_and_loaded_by_score(estimator, name):
    fitted, *_ = fitted_to_arrays(estimator, (36, 4, 6))
    data = {"X": X, "y": target(estimator), "sample_weight": np.ones(36)}
    expected = fitted.score(**data)
    data[name] = da.from_array(data[name])
    message = rf"^{name} is a dask collection.*{name}\.compute\(\)"
    with pytest.raises(TypeError, match=message):
        clone(estimator).fit(**data)
    if name != "X":
        assert fitted.score(**data) == expected


def test_dask_in_xarray_is_an_error_that_names_the_array_in_it():
    labelled = in_xarray(da.from_array(X))
    with pytest.raises(TypeError, match=r"^X must be .* got DataArray; .* is X\.data$"):
        DaskDeepTDRegressor().fit(labelled, Y)


HOW_TO_EQUALIZE = r"Padder\(\), Truncator\(\) or Resizer\(\) of aeon, given "
RAGGED = {  # samples, and the error
    "spectra": (
        [row[: 20 + i % 3] for i, row in enumerate(X.reshape(36, -1))],
        rf"\(20,\) and \(22,\); {HOW_TO_EQUALIZE}X as a list",
    ),
    "channels first": (
        [sample[:, : 6 - i % 2] for i, sample in enumerate(X)],
        rf"\(4, 5\) and \(4, 6\); {HOW_TO_EQUALIZE}X as a list",
    ),
    "channels last": (
        [sample[: 4 - i % 2] for i, sample in enumerate(X)],
        rf"\(3, 6\) and \(4, 6\); {HOW_TO_EQUALIZE}\[x\.T for x in X\]",
    ),
    "images": (
        [sample[: 4 - i % 2, : 6 - i % 2] for i, sample in enumerate(X)],
        r"\(3, 5\) and \(4, 6\); crop them, or resize them",
    ),
    "volumes": (
        [sample[np.newaxis, :, : 6 - i % 2] for i, sample in enumerate(X)],
        r"\(1, 4, 5\) and \(1, 4, 6\); crop them, or resize them",
    ),
}


@OVER_ESTIMATORS
@pytest.mark.parametrize("case", RAGGED)
def test_samples_of_several_shapes_are_an_error_that_says_what_to_do(estimator, case):
    samples, message = RAGGED[case]
    objects = np.empty(36, dtype=object)
    objects[:] = samples
    for given in (samples, objects, pd.Series(samples)):
        with pytest.raises(ValueError, match=f"one shape, but X holds .* {message}"):
            clone(estimator).fit(given, target(estimator))


WITH_TABLE = r"SimpleImputer\(\) of scikit-learn across samples, .* input_shape="
FILLED_BY = {  # by the shape of X
    (36, 24): r"fill them, for example by SimpleImputer\(\) in a Pipeline$",
    (36, 4, 6): rf"by SimpleImputer\(\) of aeon .*, or by {WITH_TABLE}\(4, 6\)$",
    (36, 2, 2, 6): rf"fill them by {WITH_TABLE}\(2, 2, 6\)$",
}


@OVER_ESTIMATORS
@pytest.mark.parametrize("shape", FILLED_BY)
def test_the_error_for_nan_says_how_to_fill_this_shape(estimator, shape):
    fitted, samples, _ = fitted_to_arrays(estimator, shape)
    bad = samples.copy()
    bad.flat[100] = np.nan
    name = type(estimator).__name__
    message = rf"^Input X contains NaN\. {name} does not accept .*{FILLED_BY[shape]}"
    with pytest.raises(ValueError, match=message):
        clone(estimator).fit(bad, target(estimator))
    with pytest.raises(ValueError, match=message):
        outputs(fitted, bad)


@OVER_ESTIMATORS
@pytest.mark.parametrize("name", ["X", "y", "sample_weight"])
def test_hidden_entries_of_masked_arrays_are_refused(estimator, name):
    if name == "y" and isinstance(estimator, SignalScaler):
        return  # which ignores y
    data = {"X": X, "y": target(estimator), "sample_weight": np.ones(36)}
    data[name] = np.ma.masked_array(data[name], mask=data[name] > 0.9)
    with pytest.raises(TypeError, match=f"{name} is a masked array.*{name}.filled"):
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


@over([e for e in ESTIMATORS[1:] if not is_classifier(e)])
def test_objects_that_are_numbers_are_numbers(estimator):
    _, _, expected = fitted_to_arrays(estimator, (36, 4, 6))
    fitted = clone(estimator).fit(X, Y.astype(object))
    assert np.array_equal(outputs(fitted, X), expected)
    missing = np.where(np.arange(36) == 7, None, Y)
    with pytest.raises(ValueError, match="y contains NaN"):
        clone(estimator).fit(X, missing)
