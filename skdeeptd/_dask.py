"""What the estimators for data in dask collections share."""

from __future__ import annotations

import copy
import functools
import math
from itertools import compress
from numbers import Number
from typing import Any

import numpy as np
from sklearn.utils import check_array, check_consistent_length, column_or_1d
from sklearn.utils.multiclass import check_classification_targets

from skdeeptd._base import (
    BasePatchNetwork,
    check_finite,
    check_range_of_weights,
    flatten,
)
from skdeeptd._data.chunks import (
    FEW_BYTES,
    Chunk,
    ChunkedRows,
    ChunkReader,
    Scheduler,
    task,
)
from skdeeptd._optional import optional

is_dask_collection = optional("dask", extra="dask").is_dask_collection
da = optional("dask.array", extra="dask")


class DaskMixin:
    """What fits dask collections where their chunks are, and predicts them lazily.

    A subclass names in ``_plain`` the estimator that it is without dask, which comes
    after this class; it says in ``_check_row`` what X and y may be, by a row of each,
    and in ``_read_y``, on a worker, what a chunk of y is.
    """

    _plain: type[BasePatchNetwork]

    def to_local(self) -> BasePatchNetwork:
        """The same model without dask.

        Returns
        -------
        DeepTDRegressor or DeepTDClassifier
            With the same parameters and, after ``fit``, the same attributes.
        """
        local: Any = self._plain()
        vars(local).update(vars(self))
        del local.client
        return local

    def __copy__(self):
        twin = type(self)()
        vars(twin).update(vars(self))
        return twin

    def __sklearn_clone__(self):
        bare = copy.copy(self)
        bare.client = None  # a client cannot be copied, but shared
        twin = super(DaskMixin, bare).__sklearn_clone__()
        return twin.set_params(client=self.client)

    def __getstate__(self):
        return {**super().__getstate__(), "client": None}

    def _of_rows(self, function, X):
        """``function(estimator, X)``, an array of a row per row of X, as X is."""
        if not is_dask_collection(X):
            return function(self, X)
        frame, X = _empty_frame(X), in_rows(X, "X")
        like = function(self, _row_like(X, frame))[:0]
        local = self.to_local()
        vars(local).pop("feature_names_in_", None)  # that X has them has been checked
        return X.map_blocks(
            functools.partial(_of_chunk, function, local, like),
            drop_axis=list(range(like.ndim, X.ndim)),
            chunks=(X.chunks[0], *((size,) for size in like.shape[1:])),
            meta=like,
        )

    def _rows(self, X, y, sample_weight):
        if not is_dask_collection(X):
            return super()._rows(X, y, sample_weight)
        frame, X = _empty_frame(X), in_rows(X, "X")
        y = None if y is None else in_rows(y, "y")
        like, input_shape = flatten(_row_like(X, frame), self.input_shape)
        like = self._check_row(like, _row_like(y))
        rows, idle = self._chunked(X, y, sample_weight, like.shape[1], like.dtype)
        if idle.chunks:
            flipped = idle.with_targets(lambda y, w: (0.0 * w, 1.0 * (w == 0)))
            check_finite(self, flipped.largest()[0])
        return rows.with_first(), input_shape

    def _chunked(self, X, y, sample_weight, n_features, dtype):
        """The chunks that hold rows with a weight, and those with rows of weight zero.

        X is read as an array (rows, n_features) of ``dtype``.
        """
        scheduler, name = Scheduler(self.client), type(self).__name__
        targets = scheduler.persist(_targets(X, y, sample_weight, self._read_y, name))
        look = functools.partial(_look, most_bytes=FEW_BYTES / len(targets))
        looks = scheduler.compute([task(look, target) for target in targets])
        *weights, here = zip(*looks, strict=True)
        n_rows, lightest, where, heaviest = np.array(weights)
        if not np.any(n_rows):
            check_array(np.empty((0, *X.shape[1:])), allow_nd=True, estimator=self)
        at = lightest.argmin()
        row = int(np.sum(n_rows[:at]) + where[at])
        check_range_of_weights(lightest[at], row, heaviest.max())
        of_chunks = X.to_delayed().ravel(), targets, n_rows, here
        chunks = [Chunk(*of_chunk) for of_chunk in zip(*of_chunks, strict=True)]
        read = functools.partial(_read, n_features=n_features, dtype=dtype, name=name)
        reader = ChunkReader(read, n_features, dtype, self.n_jobs)
        return (
            ChunkedRows(list(compress(chunks, chosen)), reader, scheduler)
            for chosen in (heaviest > 0, lightest == 0)
        )


def in_rows(data, name):
    """A dask array whose chunks are whole rows."""
    if hasattr(type(data), "to_dask_array"):
        if not isinstance(getattr(data, "dtype", np.dtype(float)), np.dtype):
            data = data.astype(object)  # as dask would make of text, with a warning
        data = data.to_dask_array()
    elif is_dask_collection(data) and not isinstance(data, da.Array):
        raise TypeError(f"{name} must be a dask array or data frame, got {data!r}")
    array = da.asarray(data)
    if np.isnan(array.shape[1:]).any():
        raise ValueError(
            f"{name} has the shape {array.shape}; call compute_chunk_sizes() on it"
        )
    return array.rechunk(dict.fromkeys(range(1, array.ndim), -1))


def _empty_frame(data):
    """A frame of no rows with the columns of a dask data frame; None for an array."""
    meta = getattr(data, "_meta", None)
    return meta if hasattr(meta, "columns") else None


def _row_like(array, frame=None):
    """A row of zeros with the shape and dtype of a dask array, the columns of a frame.

    It shows to scikit-learn what can be known of the data before they are looked at.
    """
    if array is None:
        return None
    row = np.zeros((1, *array.shape[1:]), array.dtype)
    return row if frame is None else type(frame)(row, columns=frame.columns)


def _targets(X, y, sample_weight, read_y, name):
    """Tasks that give y and the weights of each chunk of X."""
    of_y = _in_chunks_of(X, y, "y")
    if sample_weight is None or isinstance(sample_weight, Number):
        of_weight = [1.0 if sample_weight is None else sample_weight] * len(of_y)
    else:
        weight = in_rows(sample_weight, "sample_weight")
        of_weight = _in_chunks_of(X, weight, "sample_weight")
    read = functools.partial(_target, read_y, name)
    return [task(read, *of) for of in zip(of_y, of_weight, strict=True)]


def _in_chunks_of(X, array, name):
    """Tasks that give ``array`` in chunks of the same rows as those of X."""
    if not np.isnan([*X.shape[:1], *array.shape[:1]]).any():
        check_consistent_length(X, array)
        array = array.rechunk({0: X.chunks[0]})
    elif X.numblocks[0] != array.numblocks[0]:
        raise ValueError(
            f"X has {X.numblocks[0]} chunks, {name} {array.numblocks[0]}, of unknown "
            "lengths; chunk them alike, or call compute_chunk_sizes() on both"
        )
    return array.to_delayed().ravel()


# On a worker


def _read(X, n_features, dtype, name):
    """A chunk of X as an array (rows, n_features)."""
    X = check_array(
        X,
        dtype=dtype,
        ensure_all_finite=False,
        ensure_2d=False,
        allow_nd=True,
        ensure_min_samples=0,
        input_name="X",
        estimator=name,
    )
    columns = math.prod(X.shape[1:])
    if columns != n_features:
        raise ValueError(
            f"a chunk of X has {columns} columns, but {n_features} were promised; give "
            "the right chunks or meta where X is made, as by map_blocks or from_delayed"
        )
    return X.reshape(len(X), n_features)


def numbers(y, name):
    """A chunk of y as float64 (rows, outputs)."""
    y = _finite(y, name, "y", np.float64)
    return y.reshape(len(y), math.prod(y.shape[1:]))


def labels(y, name):
    """A chunk of y as labels of classes, (rows,)."""
    y = column_or_1d(_finite(y, name, "y", None))
    are_text = {isinstance(label, str) for label in y} if y.dtype == object else {True}
    if are_text == {True, False}:
        raise ValueError("y holds strings and other labels; give all as strings")
    if are_text == {False}:
        y = np.array(y.tolist())  # numbers of pandas' own types
    if len(y):
        check_classification_targets(y)
    return y


def _finite(array, name, input_name, dtype):
    return check_array(
        array,
        dtype=dtype,
        ensure_2d=False,
        ensure_min_samples=0,
        estimator=name,
        input_name=input_name,
    )


def _target(read_y, name, y, weight):
    """A chunk of y as ``read_y`` has it, and its weights."""
    y = read_y(y, name)
    weight = np.full(len(y), weight) if np.ndim(weight) == 0 else weight
    weight = _finite(weight, name, "sample_weight", np.float64)
    if weight.shape != y.shape[:1]:
        raise ValueError(
            f"a chunk of sample_weight has the shape {weight.shape}, that of y has "
            f"{len(y)} rows"
        )
    return y, weight


def _look(target, most_bytes):
    """Rows of a chunk, its smallest weight and where that stands, its largest one.

    Last y and the weights themselves, if they take no more than ``most_bytes``.
    """
    y, weight = target
    if not len(weight):
        return 0, np.inf, 0, 0, target
    here = target if y.nbytes + weight.nbytes <= most_bytes else None
    return len(weight), weight.min(), weight.argmin(), weight.max(), here


def _of_chunk(function, estimator, like, X):
    """``function`` of a chunk, which may be empty."""
    return function(estimator, X) if len(X) else like
