"""Validate input, warn, and report progress: functions of all estimators."""

from __future__ import annotations

import functools
import inspect
import math
import sys
import warnings
from contextlib import contextmanager
from numbers import Integral

import numpy as np
from scipy.sparse import issparse
from sklearn.base import is_regressor
from sklearn.pipeline import Pipeline
from sklearn.utils import assert_all_finite, check_array
from sklearn.utils.validation import check_is_fitted, validate_data

from skdeeptd._array_api import METHODS, takes_other_arrays
from skdeeptd._compat import callback_task, check_sample_weight
from skdeeptd._init.multi_start import null_report
from skdeeptd._typing import Method

# What a fit leaves besides public attributes.
PRIVATE_STATE = ("_stream", "_y_ndim", "_table", "_held_out")
DOCUMENTATION = "https://skdeeptd.readthedocs.io/en/stable"
X_VALIDATION = {  # NaN and inf show in moments and outputs, without a pass over X
    "dtype": [np.float64, np.float32],
    "ensure_all_finite": False,
}


def clear_fitted_attributes(estimator):
    """Delete the attributes that an earlier fit has stored."""
    for name in list(vars(estimator)):
        if name.endswith("_") or name in PRIVATE_STATE:
            delattr(estimator, name)


def reset_on_fit(fit: Method) -> Method:
    """Delete fitted attributes before a fit, and after one that fails.

    Numbers may underflow in the fit, whatever ``numpy.seterr`` says.
    """

    @functools.wraps(fit)
    def forget_and_fit(self, *args, **kwargs):
        clear_fitted_attributes(self)
        try:
            with np.errstate(under="ignore"):
                return fit(self, *args, **kwargs)
        except BaseException:
            clear_fitted_attributes(self)
            raise

    return forget_and_fit  # type: ignore[return-value]


def warn(message, category=UserWarning):
    """Warn at the line of user code that called scikit-learn or this package."""
    frame, level = sys._getframe(1), 2
    while frame.f_back is not None:
        package = frame.f_globals.get("__name__", "").split(".")[0]
        if package not in ("skdeeptd", "sklearn"):
            break
        frame, level = frame.f_back, level + 1
    warnings.warn(message, category, stacklevel=level)


def warn_of_nan_deviations():
    """Warn that a network has no standard deviations."""
    warn(
        "standard deviations are NaN: the fit of a network has as many weights as "
        "samples, or more; use more samples or smaller kernels"
    )


def check_index(name, value, n_values):
    """Raise ValueError if the value is not an integer from 0 to ``n_values - 1``."""
    is_integer = isinstance(value, Integral) and not isinstance(value, bool)
    if not is_integer or not 0 <= value < n_values:
        raise ValueError(
            f"{name} must be an integer from 0 to {n_values - 1}, got {value!r}"
        )


def check_sequence(name, value, example):
    """Raise TypeError if the value is neither None nor a sequence like the example."""
    if value is not None and (isinstance(value, str) or not np.iterable(value)):
        raise TypeError(f"{name} must be a sequence, such as {example}, got {value!r}")


def check_containers(**data):
    """Raise TypeError for data that scikit-learn would read in another way than meant.

    scikit-learn would load a dask collection as a whole, read a lazy frame as one
    object, and see the numbers behind a mask.
    """
    for name, value in data.items():
        graph = getattr(value, "__dask_graph__", None)
        if graph is not None and graph() is not None:  # xarray has it without dask
            raise TypeError(
                f"{name} is a dask collection. Use DaskDeepTDRegressor or "
                f"DaskDeepTDClassifier of skdeeptd.dask, or load all of it with "
                f"{name}.compute()"
            )
        if hasattr(value, "collect"):
            raise TypeError(
                f"{name} is a {type(value).__name__}; load it with {name}.collect()"
            )
        if isinstance(value, np.ma.MaskedArray) and np.any(value.mask):
            raise TypeError(
                f"{name} is a masked array with {np.sum(value.mask)} hidden entries; "
                f"leave out their samples, or fill the NaN of {name}.filled(numpy.nan)"
            )


def check_range_of_weights(lightest, row, heaviest):
    """Raise ValueError if a weight is negative, at this row, or all are zero."""
    if lightest < 0:
        raise ValueError(
            f"sample_weight must not be negative, got {lightest:g} at row {row}"
        )
    if heaviest == 0:
        raise ValueError("sample_weight is zero everywhere; at least one must not be")


def check_new_rows(estimator, X, input_shape, ensure_all_finite=False, **options):
    """Return X with a row per sample, checked against the X of the fit."""
    X, _ = flatten(X, input_shape, getattr(estimator, "covariates", None))
    X = validate_data(estimator, X, **{**X_VALIDATION, **options}, reset=False)
    if ensure_all_finite:
        refuse_not_finite(estimator, X, input_shape)
    return X


@np.errstate(over="ignore", invalid="ignore")  # in a sum of X that scikit-learn takes
def refuse_not_finite(estimator, X, input_shape=None):
    """Raise ValueError if X, or a number of X, is not finite; say how to fill NaN."""
    try:
        assert_all_finite(np.asarray(X), input_name="X")
    except ValueError as error:
        if "NaN" not in str(error):
            raise
        raise ValueError(
            f"{error} {type(estimator).__name__} does not accept missing values; "
            f"{_how_to_fill(input_shape)}"
        ) from None


def _how_to_fill(input_shape):
    """Return what fills the NaN of samples of this shape; None is one axis."""
    if input_shape is None or len(input_shape) == 1:
        return "fill them, for example by SimpleImputer() in a Pipeline"
    table = (
        f"SimpleImputer() of scikit-learn across samples, with X.reshape(len(X), -1) "
        f"and input_shape={tuple(input_shape)}"
    )
    if len(input_shape) > 2:
        return f"fill them by {table}"
    return f"fill them by SimpleImputer() of aeon along the last axis, or by {table}"


def flatten(X, input_shape, covariates=None):
    """Return X with a row per sample, and the shape of a sample."""
    check_containers(X=X)
    if hasattr(X, "columns"):
        _refuse_columns_of_arrays(X)
    elif isinstance(X, list | tuple) or len(getattr(X, "shape", ())) == 1:
        samples = list(X)
        try:
            X = np.asarray(samples)
        except ValueError as error:
            shapes = sorted({np.shape(sample) for sample in samples})
            raise ValueError(
                f"all samples must have one shape, but X holds samples of the shapes "
                f"{shapes[0]} and {shapes[-1]}; {_how_to_equalize(shapes)}"
            ) from error
    shape = getattr(X, "shape", ())[1:]
    if len(shape) < 2:
        return X, input_shape
    if covariates is not None and len(covariates):
        raise ValueError(
            f"covariates are columns of X, but X has samples of shape {shape}; use "
            f"input_shape={shape} and an X with a flat row for each sample, such as "
            f"np.column_stack([X.reshape(len(X), -1), covariates])"
        )
    X = np.asarray(X)
    if input_shape is not None and tuple(input_shape) != shape:
        raise ValueError(
            f"X has samples of shape {shape}, but input_shape is {tuple(input_shape)}"
        )
    return X.reshape(len(X), math.prod(shape)), shape


def covariate_columns(estimator, input_shape):
    """Return the columns that ``covariates`` names, and the shape of a signal.

    Raises
    ------
    ValueError, TypeError
        If a name, an index or the number of the other columns is wrong.
    """
    given = [] if estimator.covariates is None else list(estimator.covariates)
    n_columns = estimator.n_features_in_
    names = list(getattr(estimator, "feature_names_in_", ()))
    index = np.array([_column(one, n_columns, names) for one in given], dtype=int)
    values, counts = np.unique(index, return_counts=True)
    if np.any(counts > 1):
        raise ValueError(
            f"covariates={given} has column {values[counts.argmax()]} twice; name each "
            f"column once"
        )
    n_others = n_columns - len(index)
    if n_others == 0:
        raise ValueError(
            f"covariates has all {n_columns} columns of X; leave out the columns of "
            f"the signal"
        )
    if len(index) and input_shape is not None and math.prod(input_shape) != n_others:
        raise ValueError(
            f"input_shape={tuple(input_shape)} has {math.prod(input_shape)} entries, "
            f"but X has {n_others} columns that are no covariates"
        )
    return index, (n_others,) if input_shape is None else tuple(input_shape)


def _column(given, n_columns, names):
    """Return the index of a column from its name or index."""
    if isinstance(given, str):
        if given in names:
            return names.index(given)
        known = f"names such as {names[-1]!r}" if names else "no names"
        raise ValueError(
            f"covariates has {given!r}, but X has no such column; its columns have "
            f"{known}; use these, or indices"
        )
    if not isinstance(given, Integral) or isinstance(given, bool):
        raise TypeError(
            f"covariates must hold names or indices of columns of X, such as [-1], got "
            f"{given!r}"
        )
    if not -n_columns <= given < n_columns:
        raise ValueError(
            f"covariates has {given}, but X has {n_columns} columns; use an index from "
            f"0 to {n_columns - 1}, or from the end, such as -1"
        )
    return int(given) % n_columns


def split_columns(X, covariates):
    """Return the columns of the signal, and the covariates, an index, as floats."""
    signal = np.delete(X, covariates, axis=1) if len(covariates) else X
    return signal, X[:, covariates].astype(float)


def _how_to_equalize(shapes):
    """Return what gives samples of these shapes one shape."""
    channels_first, channels_last = ({s[:-1] for s in shapes}, {s[1:] for s in shapes})
    if max(map(len, shapes)) > 2 or min(len(channels_first), len(channels_last)) > 1:
        return "crop them, or resize them, for example by scipy.ndimage.zoom"
    series = "X as a list of arrays" if len(channels_first) == 1 else "[x.T for x in X]"
    return (
        f"Padder(), Truncator() or Resizer() of aeon, given {series}, make their "
        f"lengths equal"
    )


def _refuse_columns_of_arrays(X):
    """Raise TypeError if a cell in the first row of a frame is an array."""
    cells = np.asarray(X[:1])
    if cells.dtype == object and any(np.ndim(cell) for cell in cells.flat):
        raise TypeError(
            f"X is a frame with columns of arrays, {list(X.columns)}; for one channel "
            f"pass the column, for several "
            f"numpy.stack([numpy.stack(X[c]) for c in X.columns], axis=1)"
        )


def unwrap_pipeline(estimator, X=None):
    """Return the last step of a Pipeline, and X transformed by the steps before."""
    if not isinstance(estimator, Pipeline):
        return estimator, X
    check_is_fitted(estimator)
    if X is not None and len(estimator) > 1:
        X = estimator[:-1].transform(X)
    return unwrap_pipeline(estimator[-1], X)


def check_kind(estimator, y):
    """Raise for a y of dates or durations, and for strings in a regression.

    Raises
    ------
    ValueError, TypeError
    """
    if y is None:
        return
    try:
        values = np.asarray(y)
    except ValueError:  # ragged: scikit-learn raises
        return
    refuse_times(values)
    if is_regressor(estimator):
        refuse_strings(values)


def refuse_times(values):
    """Raise TypeError for a y of dates or durations."""
    if values.dtype.kind in "mM":
        raise TypeError(
            f"y must hold numbers or classes, got {values.dtype}; for numbers use "
            f"y.astype('int64'), for classes y.astype(str)"
        )


def refuse_strings(values):
    """Raise ValueError for strings in the y of a regression, numbers among them."""
    if values.dtype.kind not in "OUST":
        return
    string = next((v for v in values.flat if isinstance(v, str | bytes)), None)
    if string is not None:
        example = f", such as {str(string)!r}" if string else ""
        raise ValueError(
            f"y holds strings{example}, but this is a regressor; for classes use "
            f"DeepTDClassifier, for numbers y.astype(float)"
        )


def check_weight(estimator, X, sample_weight):
    """Return the weights, (n_samples,); check that X is finite if they are zero."""
    weight = check_sample_weight(sample_weight, X, dtype=np.float64)
    check_range_of_weights(weight.min(), weight.argmin(), weight.max())
    without = np.flatnonzero(weight == 0)
    if len(without):
        check_array(X[without], dtype=None, input_name="X", estimator=estimator)
    return weight


def check_rows(estimator, X, y, sample_weight, reset=True):
    """Return X, y as float64 (n_samples, n_outputs) and weights, and the axes of y."""
    check_containers(y=y, sample_weight=sample_weight)
    check_kind(estimator, y)
    X, y = validate_data(
        estimator, X, y, **X_VALIDATION, multi_output=True, y_numeric=True, reset=reset
    )
    if issparse(y) or y.dtype.kind not in "biuf":
        raise TypeError(
            f"y must be a dense array of numbers, got {type(y).__name__} of {y.dtype}"
        )
    weight = check_weight(estimator, X, sample_weight)
    columns = y.astype(np.float64).reshape(len(X), -1)
    name = type(estimator).__name__  # None among objects becomes NaN
    assert_all_finite(columns, input_name="y", estimator_name=name)
    if columns.shape[1] == 0:
        raise ValueError(f"y must have at least one output, got shape {y.shape}")
    sizes = np.abs(columns).max(axis=0)
    low, high = np.sqrt([np.finfo(X.dtype).tiny, np.finfo(X.dtype).max])
    if np.any((sizes > 0) & ((sizes < low) | (sizes > high))):
        X = X.astype(float, copy=False)  # float32 cannot hold the squares of y
    return (X, columns, weight), y.ndim


def check_targets(rows, loss):
    """Raise ValueError if the loss does not allow some y of the rows."""
    smallest = min(rows.targets(lambda y, w: y.min(initial=np.inf)))
    if smallest < loss.least_y:
        raise ValueError(
            f"loss='poisson' is for counts and other y of 0 or more, but y holds "
            f"{smallest:g}; use loss='squared_error', or y without negative values"
        )


@contextmanager
def translate_overflow_error(estimator, rows, input_shape=None):
    """Raise ValueError for sums that overflow, or if X or y is not finite.

    LAPACK fails for matrices of such sums.
    """
    try:
        yield
    except (FloatingPointError, np.linalg.LinAlgError) as error:
        largest, largest_y = rows.largest()
        refuse_not_finite(estimator, largest, input_shape)
        raise ValueError(
            f"X or y is too large or too small: {error}. The largest |X| is "
            f"{largest:.3g}, the largest |y| {largest_y:.3g}; rescale them, for "
            f"example with StandardScaler"
        ) from error


def callback_stage(estimator, context):
    """Return a function that reports stages of a fit to the callbacks."""

    @contextmanager
    def stage(name, n_parts=None):
        more = {} if n_parts is None else {"max_subtasks": n_parts}
        of_stage = context.subcontext(task_name=name, **more)
        with callback_task(of_stage, estimator):
            yield callback_stage(estimator, of_stage)

    return stage


def reporter(estimator):
    """Return a function that prints a line on the progress, or ignores it."""
    if estimator.verbose:
        return functools.partial(print, f"[{type(estimator).__name__}]", flush=True)
    return null_report


def like_y(columns, y_ndim):
    """Return (rows, outputs), or (rows,) if y had one axis."""
    return columns[:, 0] if y_ndim == 1 else columns


class EstimatorMixin:
    """Take arrays of other libraries, and link the HTML representation to its page."""

    n_features_in_: int
    feature_names_in_: np.ndarray
    _doc_link_module = "skdeeptd"
    _doc_link_template = (
        DOCUMENTATION + "/generated/{estimator_module}.{estimator_name}.html"
    )

    def __init_subclass__(cls, **kwargs):
        super().__init_subclass__(**kwargs)
        for name in METHODS:
            owner = next((c for c in cls.__mro__ if name in vars(c)), cls)
            is_done = owner is not cls and issubclass(owner, EstimatorMixin)
            method = vars(owner).get(name)
            if inspect.isfunction(method) and not is_done:
                setattr(cls, name, takes_other_arrays(method))
