"""Meta-estimators that fit networks on dask collections."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
from sklearn.base import (
    BaseEstimator,
    ClassifierMixin,
    MultiOutputMixin,
    RegressorMixin,
)
from sklearn.utils.multiclass import unique_labels

from skdeeptd._classifier import (
    DeepTDClassifier,
    check_labels,
    classes_of,
    one_hot,
    with_class_weight,
)
from skdeeptd._compat import HasMethods
from skdeeptd._dask import DaskMixin, lazily, read_labels, read_numbers
from skdeeptd._data.rows import add, mean_of_targets
from skdeeptd._regressor import DeepTDRegressor

CLIENT_CONSTRAINTS = {"client": [HasMethods(["as_current", "persist"]), None]}


class DaskDeepTDRegressor(DaskMixin, MultiOutputMixin, RegressorMixin, BaseEstimator):
    """Fit a DeepTDRegressor on dask arrays or data frames, on the workers.

    >>> import dask.array as da
    >>> from skdeeptd import DeepTDRegressor
    >>> from skdeeptd.dask import DaskDeepTDRegressor
    >>> from skdeeptd.datasets import make_patch_cnn_regression
    >>> X, y = make_patch_cnn_regression(
    ...     n_samples=1000, kernel_sizes=(4, 4, 4), random_state=0
    ... )
    >>> X, y = da.from_array(X, chunks=(250, 64)), da.from_array(y, chunks=250)
    >>> network = DeepTDRegressor(kernel_sizes=(4, 4, 4), random_state=0)
    >>> model = DaskDeepTDRegressor(network).fit(X, y)
    >>> model.score(X, y) > 1 - 1e-6
    True
    >>> model.predict(X)
    dask.array<...shape=(1000,), dtype=float64, chunksize=(250,)...>
    >>> model.estimator_
    DeepTDRegressor(kernel_sizes=(4, 4, 4), random_state=0)

    Each pass over the data runs one task per chunk of rows, which returns sums, and
    adds the sums in a tree; X stays on the workers. The same chunks give the same bits
    on any number of workers, even if a worker was lost during the fit. The result
    equals that of DeepTDRegressor up to rounding.

    A fit takes several passes over X. Each pass loads or computes the chunks again
    unless they are in memory (``X = X.persist()``).

    Parameters
    ----------
    estimator : DeepTDRegressor, default=None
        The unfitted estimator; ``fit`` fits a clone of it. None stands for
        ``DeepTDRegressor()``. Its ``n_jobs`` counts the threads of one task, for chunks
        of X of 64 MiB or more.
    client : distributed.Client, default=None
        The cluster to work on. None takes the current client if there is one, else the
        scheduler that dask is configured to use. ``clone`` keeps the client; ``pickle``
        drops it.

    Attributes
    ----------
    estimator_ : DeepTDRegressor
        The fitted estimator, with its arrays in memory; it works without dask.
    n_features_in_ : int
        Number of features of X.
    feature_names_in_ : ndarray of shape (`n_features_in_`,)
        Names of the features, if X has string column names.

    Notes
    -----
    X may be a dask array of shape (n_samples, n_features) or (n_samples,) +
    input_shape, or a dask data frame of numbers; chunks of 50 to 250 MB are good. y and
    ``sample_weight`` may be dask collections or in memory. They are split like X, and
    stay in the memory of the workers during a fit. Dask collections of unknown lengths
    must have chunks of the same lengths as X.

    If X is in memory, y and the weights are loaded, the estimator is fitted in this
    process, and predictions are ndarrays. ``loss="huber"`` needs all of y in memory and
    is refused for dask collections.

    A fit waits as long as its cluster has no worker, like all work of dask. Workers
    that dask starts return freed memory to the system at once, and request it again for
    every block of rows. If that is slow, start the cluster after
    ``dask.config.set({"distributed.nanny.pre-spawn-environ.MALLOC_TRIM_THRESHOLD_":
    2**27, "distributed.nanny.pre-spawn-environ.MALLOC_MMAP_THRESHOLD_": 2**25})``;
    each worker then keeps some freed memory (with glibc).
    """

    estimator_: DeepTDRegressor
    _default = DeepTDRegressor
    _parameter_constraints: dict = {"estimator": [_default, None], **CLIENT_CONSTRAINTS}
    _read_y = staticmethod(read_numbers)

    predict = lazily(DeepTDRegressor.predict)
    predict_interval = lazily(DeepTDRegressor.predict_interval)

    def _score_rows(self, rows: Any) -> float:
        mean, _ = mean_of_targets(rows)
        if len(mean) != rows.n_features:
            raise ValueError(
                f"y has {len(mean)} outputs, the model has {rows.n_features}"
            )
        (spread,) = add(rows.targets(lambda y, w: (w @ (y - mean) ** 2,)))
        (error,) = rows.reduce(lambda f, y, w: (w @ (y - f) ** 2,))
        constant = spread == 0
        scores = 1 - error / np.where(constant, 1, spread)
        return np.mean(np.where(constant, error == 0, scores))

    def _check_row(self, estimator: Any, X: Any, y: Any) -> np.ndarray:
        if estimator.loss == "huber":
            raise ValueError(
                "loss='huber' needs all of y in memory, but X is a dask collection; "
                "use another loss, or load X and y with compute()"
            )
        return estimator._check(X, y, None)[0]


class DaskDeepTDClassifier(DaskMixin, ClassifierMixin, BaseEstimator):
    """Fit a DeepTDClassifier on dask arrays or data frames, on the workers.

    >>> import dask.array as da
    >>> from skdeeptd import DeepTDClassifier
    >>> from skdeeptd.dask import DaskDeepTDClassifier
    >>> from skdeeptd.datasets import make_patch_cnn_classification
    >>> X, y = make_patch_cnn_classification(
    ...     n_samples=1000, kernel_sizes=(4, 4), random_state=0
    ... )
    >>> X, y = da.from_array(X, chunks=(250, 16)), da.from_array(y, chunks=250)
    >>> network = DeepTDClassifier(kernel_sizes=(4, 4), random_state=0)
    >>> model = DaskDeepTDClassifier(network).fit(X, y)
    >>> model.score(X, y) > 0.7
    True
    >>> model.predict_proba(X)
    dask.array<...shape=(1000, 2), dtype=float64, chunksize=(250, 2)...>
    >>> model.estimator_
    DeepTDClassifier(kernel_sizes=(4, 4), random_state=0)

    All that :class:`DaskDeepTDRegressor` says of chunks, clusters and rounding holds
    here too. y holds labels: whole numbers or strings. Maximizing the likelihood takes
    tens to hundreds of passes over X, so X should be in the memory of the workers:
    ``X = X.persist()``.

    Parameters
    ----------
    estimator : DeepTDClassifier, default=None
        The unfitted estimator; ``fit`` fits a clone of it. None stands for
        ``DeepTDClassifier()``.
    client : distributed.Client, default=None
        As in :class:`DaskDeepTDRegressor`.

    Attributes
    ----------
    estimator_ : DeepTDClassifier
        The fitted estimator, which works without dask.
    classes_ : ndarray of shape (n_classes,)
        The classes of samples with a positive weight.
    n_features_in_, feature_names_in_
        As in :class:`DaskDeepTDRegressor`.
    """

    estimator_: DeepTDClassifier
    classes_: np.ndarray
    _default = DeepTDClassifier
    _parameter_constraints: dict = {"estimator": [_default, None], **CLIENT_CONSTRAINTS}
    _read_y = staticmethod(read_labels)

    decision_function = lazily(DeepTDClassifier.decision_function)
    predict = lazily(DeepTDClassifier.predict)
    predict_proba = lazily(DeepTDClassifier.predict_proba)
    predict_log_proba = lazily(DeepTDClassifier.predict_log_proba)

    def _score_rows(self, rows: Any) -> float:
        right, total = rows.reduce(_count_right)
        return right / total

    def _check_row(self, estimator: Any, X: Any, y: Any) -> np.ndarray:
        y = None if y is None else np.zeros(y.shape)
        return check_labels(estimator, X, y, None)[0]

    def _make_rows(self, estimator: Any, X: Any, y: Any, sample_weight: Any) -> tuple:
        rows, input_shape = super()._make_rows(estimator, X, y, sample_weight)
        parts = rows.targets(_label_sums)
        if len({labels.dtype.kind in "OUST" for labels, _ in parts}) > 1:
            raise ValueError("some chunks of y hold numbers, others strings, as labels")
        found, sums = _label_sums(*map(np.concatenate, zip(*parts, strict=True)))
        weights = with_class_weight(estimator.class_weight, found, sums)
        estimator.classes_ = classes_of(found, weights)
        factors = weights / np.where(sums > 0, sums, 1.0)
        change = functools.partial(_encode_labels, found, factors)
        return rows.with_targets(change), input_shape


# On a worker


def _label_sums(y: np.ndarray, weight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the labels, and the sums of their weights."""
    found, group = np.unique(y, return_inverse=True)
    return found, np.bincount(group, weight)


def _encode_labels(found: Any, factors: Any, y: Any, weight: Any) -> tuple:
    """Return one-hot targets and weights; a label with the factor zero is no class.

    ``found`` may lack labels of rows whose weight is zero.
    """
    group = np.minimum(np.searchsorted(found, y), len(found) - 1)
    return one_hot(group, np.flatnonzero(factors > 0)), weight * factors[group]


def _count_right(predicted: Any, y: Any, weight: Any) -> tuple:
    unique_labels(y[:1], predicted[:1, 0])  # raises for numbers beside strings
    return weight @ (predicted[:, 0] == y), np.sum(weight)
