"""Fit and predict on dask collections: the base of the two meta-estimators."""

from __future__ import annotations

import copy
import functools
import inspect
import math
from collections.abc import Callable
from dataclasses import replace
from itertools import compress
from numbers import Number
from typing import Any, Self

import numpy as np
from sklearn.base import MetaEstimatorMixin, clone
from sklearn.utils import check_array, check_consistent_length, column_or_1d
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted

from skdeeptd._base import BasePatchNetwork
from skdeeptd._compat import fit_context
from skdeeptd._data.chunks import Chunk, ChunkedRows, Scheduler, task
from skdeeptd._optional import optional
from skdeeptd._validation import (
    EstimatorMixin,
    check_containers,
    check_range_of_weights,
    flatten,
    refuse_not_finite,
    refuse_strings,
    refuse_times,
    reset_on_fit,
)

is_dask_collection = optional("dask", extra="dask").is_dask_collection
da = optional("dask.array", extra="dask")

LAZY = (
    "For a dask collection X, each result is a dask array with the chunks of X: it is\n"
    "computed when its values are needed, and invalid values in X raise errors then."
)


class DaskMixin(MetaEstimatorMixin, EstimatorMixin):
    """Fit a patch network on the chunks of dask collections, and predict lazily.

    A subclass names the default estimator in ``_default`` and checks a row of X and y
    in ``_check_row``. It converts a chunk of y on a worker in ``_read_y``, and computes
    a score from rows of predictions in ``_score_rows``.
    """

    _default: type[BasePatchNetwork]
    _read_y: Callable

    def __init__(
        self, estimator: BasePatchNetwork | None = None, *, client: Any = None
    ) -> None:
        self.estimator = estimator
        self.client = client

    @reset_on_fit
    @fit_context(prefer_skip_nested_validation=False)
    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Fit a clone of the estimator, on the cluster if X is a dask collection.

        Parameters
        ----------
        X : dask array or data frame, or array-like
            Shape (n_samples, n_features) or (n_samples,) + input_shape. If X is in
            memory, y and the weights are loaded, and the fit runs in this process.
        y : dask array, series or data frame, or array-like
            Shape (n_samples,), for regression also (n_samples, n_outputs).
        sample_weight : dask array or series, array-like or float, default=None
            Shape (n_samples,). A row of weight 2 counts as two rows, a row of weight 0
            as none.

        Returns
        -------
        DaskDeepTDRegressor or DaskDeepTDClassifier
            The fitted meta-estimator itself.

        Raises
        ------
        ValueError, TypeError
            If X, y or a parameter is invalid. The meta-estimator is not fitted then.
        RuntimeError
            If the client was closed, or another client holds a part of the data.
        """
        estimator = clone(self.estimator or self._default())
        if is_dask_collection(X):
            make_rows = functools.partial(self._make_rows, estimator)
            estimator._fit_chunks(X, y, sample_weight, make_rows=make_rows)
        else:
            estimator.fit(X, *self._load(y, sample_weight))
        self.estimator_ = estimator
        for name in ("n_features_in_", "feature_names_in_", "classes_"):
            if hasattr(estimator, name):
                setattr(self, name, getattr(estimator, name))
        return self

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """Return R2 averaged over the outputs, or the accuracy of a classifier.

        Parameters
        ----------
        X : dask array or data frame, or array-like
            Shape (n_samples, n_features) or (n_samples,) + input_shape.
        y : dask array, series or data frame, or array-like
            Shape (n_samples,), for regression also (n_samples, n_outputs).
        sample_weight : dask array or series, array-like or float, default=None
            Shape (n_samples,).

        Returns
        -------
        float
            As :func:`sklearn.metrics.r2_score`, except that a constant output counts 0
            unless the predictions equal it exactly, or as
            :func:`sklearn.metrics.accuracy_score`; for dask collections from sums over
            the chunks.
        """
        check_is_fitted(self)
        if not is_dask_collection(X):
            return self.estimator_.score(X, *self._load(y, sample_weight))
        predicted = self.predict(X)
        row = _row_like(predicted).reshape(1, -1)
        rows, _ = self._split_rows(predicted, y, sample_weight, row)
        return float(self._score_rows(rows))

    def __copy__(self):
        twin = type(self)()
        vars(twin).update(vars(self))
        return twin

    def __sklearn_clone__(self):
        bare = copy.copy(self).set_params(client=None)  # a client cannot be copied
        return super(DaskMixin, bare).__sklearn_clone__().set_params(client=self.client)

    def __getstate__(self):
        return {**super().__getstate__(), "client": None}

    def _load(self, *data):
        """Load those of ``data`` that are dask collections."""
        scheduler = Scheduler(self.client)
        return [scheduler.compute([a])[0] if is_dask_collection(a) else a for a in data]

    def _map_rows(self, function, X):
        """Return ``function(estimator_, X)``, lazily for a dask collection.

        The function returns an array with a row for each row of X, or several of one
        shape and dtype.
        """
        check_is_fitted(self)
        if not is_dask_collection(X):
            return function(self.estimator_, X)
        array = in_rows(X, "X")
        found = function(self.estimator_, _row_like(array, X))
        if isinstance(found, tuple):
            joined = self._map_rows(lambda *rows: np.stack(function(*rows), -1), X)
            return tuple(joined[..., i] for i in range(len(found)))
        empty = found[:0]
        unnamed = copy.copy(self.estimator_)  # the names in X have been checked
        vars(unnamed).pop("feature_names_in_", None)

        def predict_chunk(X):
            return function(unnamed, X) if len(X) else empty

        return array.map_blocks(
            predict_chunk,
            drop_axis=list(range(empty.ndim, array.ndim)),
            new_axis=list(range(array.ndim, empty.ndim)),
            chunks=(array.chunks[0], *((size,) for size in empty.shape[1:])),
            meta=empty,
        )

    def _make_rows(self, estimator, X, y, sample_weight):
        """Return the rows as ``ChunkedRows``, and the shape of a sample."""
        array = in_rows(X, "X")
        row, input_shape = flatten(_row_like(array, X), estimator.input_shape)
        y_row = None if y is None else _row_like(in_rows(y, "y"))
        row = self._check_row(estimator, row, y_row)
        rows, idle = self._split_rows(array, y, sample_weight, row, estimator.n_jobs)
        if idle.chunks:
            flipped = idle.with_targets(lambda y, w: (0.0 * w, 1.0 * (w == 0)))
            refuse_not_finite(self, flipped.largest()[0], input_shape)
        return rows.with_first(), input_shape

    def _split_rows(self, X, y, sample_weight, row, n_jobs=None, most_bytes=2**26):
        """Return the chunks with positive weights, and those with weights of zero.

        X is read as an array with the columns and the dtype of ``row``. y and the
        weights come to this process too if they take at most ``most_bytes``.
        """
        scheduler, name = Scheduler(self.client), type(self).__name__
        in_memory = [a for a in (y, sample_weight) if not is_dask_collection(a)]
        if np.isnan(X.shape[0]) and any(map(np.ndim, in_memory)):
            lengths = scheduler.compute([task(len, p) for p in X.to_delayed().ravel()])
            X = da.Array(X.dask, X.name, (lengths, *X.chunks[1:]), X.dtype)
        targets = scheduler.persist(_targets(X, y, sample_weight, self._read_y, name))
        summarize = functools.partial(_summarize, most_bytes=most_bytes / len(targets))
        summaries = scheduler.compute([task(summarize, target) for target in targets])
        *numbers, local = zip(*summaries, strict=True)
        n_rows, lightest, where, heaviest = np.array(numbers)
        if not np.any(n_rows):
            check_array(np.empty((0, *X.shape[1:])), allow_nd=True, estimator=self)
        at = lightest.argmin()
        position = int(np.sum(n_rows[:at]) + where[at])
        check_range_of_weights(lightest[at], position, heaviest.max())
        parts = X.to_delayed().ravel(), targets, n_rows, local
        chunks = [Chunk(*part) for part in zip(*parts, strict=True)]
        read = functools.partial(_read, row, name)
        rows = ChunkedRows(chunks, scheduler, read, row.shape[1], row.dtype, n_jobs)
        return [
            replace(rows, chunks=list(compress(chunks, chosen)))
            for chosen in (heaviest > 0, lightest == 0)
        ]


def lazily(method: Callable) -> Callable:
    """Make the method of an estimator work on each chunk of a dask collection X."""

    @functools.wraps(method)
    def on_chunks(self, X, *arguments, **options):
        return self._map_rows(
            lambda estimator, X: method(estimator, X, *arguments, **options), X
        )

    summary, *others = inspect.cleandoc(method.__doc__ or "").split("\n\n")
    on_chunks.__doc__ = "\n\n".join([summary, LAZY, *others])
    return on_chunks


def in_rows(data, name):
    """Return a dask array whose chunks are whole rows."""
    if hasattr(type(data), "to_dask_array"):
        if not isinstance(getattr(data, "dtype", np.dtype(float)), np.dtype):
            data = data.astype(object)  # as dask would make of text, with a warning
        data = data.to_dask_array()
    elif not is_dask_collection(data):
        data = da.from_array(np.asarray(data), chunks=-1)
    elif not isinstance(data, da.Array):
        raise TypeError(
            f"{name} must be a dask array or data frame, got {type(data).__name__}; "
            f"the array in a DataArray of xarray is {name}.data"
        )
    if np.isnan(data.shape[1:]).any():
        raise ValueError(
            f"{name} has the shape {data.shape}; call compute_chunk_sizes() on it"
        )
    return data.rechunk(dict.fromkeys(range(1, data.ndim), -1))


def _row_like(array, data=None):
    """Return a row of zeros like ``array``, with the columns of ``data`` if a frame.

    scikit-learn checks this row before any data are loaded.
    """
    row = np.zeros((1, *array.shape[1:]), array.dtype)
    meta = getattr(data, "_meta", None)
    return type(meta)(row, columns=meta.columns) if hasattr(meta, "columns") else row


def _targets(X, y, sample_weight, read_y, name):
    """Make a task for y and the weights of each chunk of X."""
    y_chunks = _split_like(X, y, "y")
    weights = 1.0 if sample_weight is None else sample_weight
    if isinstance(weights, Number):
        weights = [weights] * len(y_chunks)
    else:
        weights = _split_like(X, weights, "sample_weight")
    read = functools.partial(_read_target, read_y, name)
    return [task(read, *parts) for parts in zip(y_chunks, weights, strict=True)]


def _split_like(X, data, name):
    """Make tasks for ``data`` in chunks of the same rows as those of X."""
    array = in_rows(data, name)
    if not np.isnan([*X.shape[:1], *array.shape[:1]]).any():
        check_consistent_length(X, array)
        array = array.rechunk({0: X.chunks[0]})
    elif X.numblocks[0] != array.numblocks[0]:
        raise ValueError(
            f"X has {X.numblocks[0]} chunks, {name} {array.numblocks[0]}, of unknown "
            "lengths; chunk them alike, or let dask count the rows: "
            "compute_chunk_sizes() of an array, to_dask_array(lengths=True) of a frame"
        )
    return array.to_delayed().ravel()


# On a worker


def _read(row, name, X):
    """Return a chunk of X as an array (rows, columns) like ``row``."""
    X = _check(X, name, "X", row.dtype, ensure_all_finite=False, allow_nd=True)
    columns = math.prod(X.shape[1:])
    if columns != row.size:
        raise ValueError(
            f"a chunk of X has {columns} columns, but {row.size} were promised; give "
            "the right chunks or meta where X is made, as by map_blocks or from_delayed"
        )
    return X.reshape(len(X), columns)


def read_numbers(y, name):
    """Return a chunk of y as float64 (rows, outputs)."""
    refuse_strings(np.asarray(y))
    y = _check(y, name, "y", np.float64)
    return y.reshape(len(y), math.prod(y.shape[1:]))


def read_labels(y, name):
    """Return a chunk of y as labels of classes, (rows,)."""
    refuse_times(np.asarray(y))
    y = column_or_1d(_check(y, name, "y", None))
    are_text = {isinstance(label, str) for label in y} if y.dtype == object else {True}
    if are_text == {True, False}:
        raise ValueError("y holds strings and other labels; give all as strings")
    if are_text == {False}:
        y = np.array(y.tolist())  # numbers of pandas' own types
    if len(y):
        check_classification_targets(y)
    return y


def _check(array, name, input_name, dtype, **more):
    check_containers(**{input_name: array})
    # NaN is not missing, unlike None and what pandas has for it.
    kinds = {type(v).__name__ for v in array.flat} if array.dtype == object else set()
    if kinds & {"NoneType", "NAType", "NaTType"}:
        raise ValueError(
            f"{input_name} holds missing values; fill them, for example with fillna, "
            f"or leave out their rows"
        )
    known = {"estimator": name, "input_name": input_name, "dtype": dtype, **more}
    return check_array(array, ensure_2d=False, ensure_min_samples=0, **known)


def _read_target(read_y, name, y, weight):
    """Return a chunk of y as ``read_y`` makes it, and its weights."""
    y = read_y(y, name)
    weight = np.full(len(y), weight) if np.ndim(weight) == 0 else weight
    weight = _check(weight, name, "sample_weight", np.float64)
    if weight.shape != y.shape[:1]:
        raise ValueError(
            f"a chunk of sample_weight has the shape {weight.shape}, that of y has "
            f"{len(y)} rows"
        )
    return y, weight


def _summarize(target, most_bytes):
    """Return the rows of a chunk, the smallest weight and its row, the largest weight.

    The last item is y and the weights, if they take at most ``most_bytes``, else None.
    """
    y, weight = target
    if not len(weight):
        return 0, np.inf, 0, 0, target
    local = target if y.nbytes + weight.nbytes <= most_bytes else None
    return len(weight), weight.min(), weight.argmin(), weight.max(), local
