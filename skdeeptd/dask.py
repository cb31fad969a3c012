"""The estimator for data in dask collections."""

import copy
import functools
import math
from itertools import compress
from numbers import Number

import numpy as np
from sklearn.utils import check_array, check_consistent_length

from skdeeptd._base import check_finite, check_range_of_weights
from skdeeptd._compat import HasMethods
from skdeeptd._data.chunks import (
    FEW_BYTES,
    Chunk,
    ChunkedRows,
    ChunkReader,
    Scheduler,
    task,
)
from skdeeptd._data.rows import add
from skdeeptd._optional import optional
from skdeeptd._regressor import DeepTDRegressor

is_dask_collection = optional("dask", extra="dask").is_dask_collection
da = optional("dask.array", extra="dask")


class DaskDeepTDRegressor(DeepTDRegressor):
    """DeepTDRegressor for dask arrays and data frames, fitted where their chunks are.

    Every pass over the data is a task per chunk of rows, which returns sums, and a tree
    that adds them: the moment and the normal equations travel, X does not. The search
    for a start sees a sample of the rows, which one worker draws together. For the same
    chunks the result is the same to the last bit, on any number of workers, also where
    one was lost; but for rounding it is that of DeepTDRegressor.

    A fit takes some passes over X. Where its chunks are not in memory
    (``X = X.persist()``), each pass loads or computes them anew.

    Parameters
    ----------
    kernel_sizes, input_shape, strides, padding, n_filters, activation, \
output_activation, fit_intercept, hidden_bias, share_filters, alpha, polish, \
max_iter, tol, n_init, random_state
        As in :class:`~skdeeptd.DeepTDRegressor`.
    n_jobs : int, default=None
        Threads of one task, for chunks of X from 64 MiB on.
    verbose : int, default=0
        1 prints a line per stage; a stage that runs on a worker prints there.
    client : distributed.Client, default=None
        The cluster to work on. None: that of the current client if there is one, else
        the scheduler that dask is configured to use. It is kept by ``clone``, and left
        behind by ``pickle``.

    Attributes
    ----------
    kernels_, gains_, scales_, biases_, intercept_, moment_, kernel_sizes_, \
strides_, input_shape_, activations_, alpha_, verdict_, held_out_r2_, n_iter_, \
covariance_, noise_variance_, y_ndim_, n_features_in_, feature_names_in_
        As in DeepTDRegressor: arrays in memory.

    See Also
    --------
    skdeeptd.DeepTDRegressor : For data in memory or memory-mapped, and for streams.

    Notes
    -----
    X may be a dask array of shape (n_samples, n_features) or (n_samples,) +
    input_shape, or a dask data frame of numbers; y and ``sample_weight`` dask arrays,
    series or frames. Chunks of columns are joined. y and the weights are chunked like X
    where the lengths of all chunks are known; where they are not, they must have as
    many chunks, of the same lengths. They stay in the memory of the workers during a
    fit. Chunks of X of 50 to 250 MB are a good size.

    As all work of dask does, a fit waits for as long as its cluster has no worker.

    Workers that dask starts give freed memory back to the system at once, and ask for
    it again with every block of rows. Where that takes long, start the cluster after
    ``dask.config.set({"distributed.nanny.pre-spawn-environ.MALLOC_TRIM_THRESHOLD_":
    2**27, "distributed.nanny.pre-spawn-environ.MALLOC_MMAP_THRESHOLD_": 2**25})``, and
    each worker keeps some (with glibc).

    Where X is not a dask collection (nor y, nor the weights), all methods are those of
    DeepTDRegressor and use no cluster. ``partial_fit`` takes no dask collection.

    Examples
    --------
    >>> import dask.array as da
    >>> from skdeeptd.dask import DaskDeepTDRegressor
    >>> from skdeeptd.datasets import make_patch_cnn_regression
    >>> X, y, _ = make_patch_cnn_regression(
    ...     n_samples=1000, kernel_sizes=(4, 4, 4), random_state=0
    ... )
    >>> X, y = da.from_array(X, chunks=(250, 64)), da.from_array(y, chunks=250)
    >>> model = DaskDeepTDRegressor(kernel_sizes=(4, 4, 4), random_state=0).fit(X, y)
    >>> model.score(X, y) > 1 - 1e-6
    True
    >>> model.predict(X)
    dask.array<...shape=(1000,), dtype=float64, chunksize=(250,)...>
    >>> type(model.to_local()).__name__
    'DeepTDRegressor'
    """

    _parameter_constraints: dict = {
        **{
            name: constraint
            for name, constraint in DeepTDRegressor._parameter_constraints.items()
            if name not in ("loss", "epsilon")
        },
        "client": [HasMethods(["as_current", "persist"]), None],
    }

    def __init__(
        self,
        kernel_sizes=None,
        *,
        input_shape=None,
        strides=None,
        padding="valid",
        n_filters=1,
        activation="relu",
        output_activation="identity",
        fit_intercept=True,
        hidden_bias=False,
        share_filters=False,
        alpha=0.0,
        polish=True,
        max_iter=500,
        tol=1e-6,
        n_init="auto",
        n_jobs=None,
        random_state=None,
        verbose=0,
        client=None,
    ):
        super().__init__(
            kernel_sizes,
            input_shape=input_shape,
            strides=strides,
            padding=padding,
            n_filters=n_filters,
            activation=activation,
            output_activation=output_activation,
            fit_intercept=fit_intercept,
            hidden_bias=hidden_bias,
            share_filters=share_filters,
            alpha=alpha,
            polish=polish,
            max_iter=max_iter,
            tol=tol,
            n_init=n_init,
            n_jobs=n_jobs,
            random_state=random_state,
            verbose=verbose,
        )
        self.client = client

    def predict(self, X, return_std=False):
        """Output of the network, lazily for a dask collection.

        Parameters
        ----------
        X : dask array or data frame, or array-like
            Of shape (n_samples, n_features) or (n_samples,) + input_shape.
        return_std : bool, default=False
            Whether to return its standard deviation too, as in DeepTDRegressor.

        Returns
        -------
        y : dask array of shape (n_samples,) or (n_samples, n_outputs)
            In the dtype (float32 or float64) and the chunks of X; an ndarray where X is
            no dask collection.
        y_std : dask array of the same shape, dtype and chunks
            Only with ``return_std``.

        Raises
        ------
        sklearn.exceptions.NotFittedError
            Before ``fit``.
        ValueError
            As in DeepTDRegressor; for NaN or inf when the result is computed.
        """
        if not is_dask_collection(X):
            return super().predict(X, return_std)
        frame, X = _empty_frame(X), _in_rows(X, "X")
        like = super().predict(_row_like(X, frame), return_std)
        local = self.to_local()
        vars(local).pop("feature_names_in_", None)  # that X has them has been checked

        def lazily(function, like):
            return X.map_blocks(
                functools.partial(_predicted, function, like[:0]),
                drop_axis=list(range(like.ndim, X.ndim)),
                chunks=(X.chunks[0], *((size,) for size in like.shape[1:])),
                meta=like[:0],
            )

        if not return_std:
            return lazily(local.predict, like)
        return tuple(map(lazily, (local.predict, functools.partial(_std, local)), like))

    def score(self, X, y, sample_weight=None):
        """Coefficient of determination, the mean over the outputs.

        Parameters
        ----------
        X : dask array or data frame, or array-like
            Of shape (n_samples, n_features) or (n_samples,) + input_shape.
        y : dask array, series or data frame, or array-like
            Of shape (n_samples,) or (n_samples, n_outputs).
        sample_weight : dask array or series, or array-like, default=None
            Of shape (n_samples,).

        Returns
        -------
        float
            For dask collections from sums over the chunks. As in
            :func:`sklearn.metrics.r2_score`, an output that is constant counts 1 where
            it is predicted to the last bit, else 0.
        """
        if not is_dask_collection(X):
            return super().score(X, y, sample_weight)
        predicted, y = self.predict(X), _in_rows(y, "y")
        outputs = [math.prod(array.shape[1:]) for array in (predicted, y)]
        if outputs[0] != outputs[1]:
            raise ValueError(f"y has {outputs[1]} outputs, the model has {outputs[0]}")
        rows, _ = self._chunked(
            predicted, y, sample_weight, outputs[0], predicted.dtype
        )
        total, weight = add(rows.targets(lambda y, w: (w @ y, np.sum(w))))
        mean = total / weight
        (spread,) = add(rows.targets(lambda y, w: (w @ (y - mean) ** 2,)))
        (error,) = rows.reduce(lambda f, y, w: (w @ (y - f) ** 2,))
        constant = spread == 0
        scores = 1 - error / np.where(constant, 1, spread)
        return float(np.mean(np.where(constant, error == 0, scores)))

    def to_local(self):
        """The same model without dask.

        Returns
        -------
        DeepTDRegressor
            With the same parameters and, after ``fit``, the same attributes.
        """
        local = DeepTDRegressor()
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
        twin = super(DaskDeepTDRegressor, bare).__sklearn_clone__()
        return twin.set_params(client=self.client)

    def __getstate__(self):
        return {**super().__getstate__(), "client": None}

    def _rows(self, X, y, sample_weight):
        if not is_dask_collection(X):
            return super()._rows(X, y, sample_weight)
        frame, X = _empty_frame(X), _in_rows(X, "X")
        y = None if y is None else _in_rows(y, "y")
        like, input_shape = super()._rows(_row_like(X, frame), _row_like(y), None)
        n_features, dtype = like.X.shape[1], like.X.dtype
        rows, idle = self._chunked(X, y, sample_weight, n_features, dtype)
        if idle.chunks:
            flipped = idle.with_targets(lambda y, w: (y, 1.0 * (w == 0)))
            check_finite(self, flipped.largest()[0])
        return rows.with_first(), input_shape

    def _chunked(self, X, y, sample_weight, n_features, dtype):
        """The chunks that hold rows with a weight, and those with rows of weight zero.

        X is read as an array (rows, n_features) of ``dtype``.
        """
        scheduler, name = Scheduler(self.client), type(self).__name__
        targets = scheduler.persist(_targets(X, y, sample_weight, name))
        look = functools.partial(_look, most_bytes=FEW_BYTES / len(targets))
        looks = scheduler.compute([task(look, target) for target in targets])
        *numbers, here = zip(*looks, strict=True)
        n_rows, lightest, where, heaviest = np.array(numbers)
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


def _in_rows(data, name):
    """A dask array whose chunks are whole rows."""
    if hasattr(type(data), "to_dask_array"):
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


def _targets(X, y, sample_weight, name):
    """Tasks that give y and the weights of each chunk of X."""
    of_y = _in_chunks_of(X, y, "y")
    if sample_weight is None or isinstance(sample_weight, Number):
        of_weight = [1.0 if sample_weight is None else sample_weight] * len(of_y)
    else:
        weight = _in_rows(sample_weight, "sample_weight")
        of_weight = _in_chunks_of(X, weight, "sample_weight")
    return [task(_target, *of, name) for of in zip(of_y, of_weight, strict=True)]


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


def _target(y, weight, name):
    """A chunk of y as float64 (rows, outputs), and its weights."""
    finite = functools.partial(
        check_array,
        dtype=np.float64,
        ensure_2d=False,
        ensure_min_samples=0,
        estimator=name,
    )
    y = finite(y, input_name="y")
    weight = finite(
        np.full(len(y), weight) if np.ndim(weight) == 0 else weight,
        input_name="sample_weight",
    )
    if weight.shape != y.shape[:1]:
        raise ValueError(
            f"a chunk of sample_weight has the shape {weight.shape}, that of y has "
            f"{len(y)} rows"
        )
    return y.reshape(len(y), math.prod(y.shape[1:])), weight


def _look(target, most_bytes):
    """Rows of a chunk, its smallest weight and where that stands, its largest one.

    Last y and the weights themselves, if they take no more than ``most_bytes``.
    """
    y, weight = target
    if not len(weight):
        return 0, np.inf, 0, 0, target
    here = target if y.nbytes + weight.nbytes <= most_bytes else None
    return len(weight), weight.min(), weight.argmin(), weight.max(), here


def _predicted(function, like, X):
    """``function`` of a chunk, which may be empty."""
    return function(X) if len(X) else like


def _std(estimator, X):
    return estimator.predict(X, return_std=True)[1]
