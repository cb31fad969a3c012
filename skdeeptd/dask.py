"""The estimators for data in dask collections."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from sklearn.utils.multiclass import unique_labels

from skdeeptd._classifier import (
    DeepTDClassifier,
    check_labels,
    classes_of,
    one_hot,
    weight_of_classes,
)
from skdeeptd._compat import HasMethods
from skdeeptd._dask import DaskMixin, in_rows, is_dask_collection, labels, numbers
from skdeeptd._data.rows import add
from skdeeptd._regressor import DeepTDRegressor
from skdeeptd._typing import KernelSizes, RandomState, Strides

OF_CLIENT = {"client": [HasMethods(["as_current", "persist"]), None]}


class DaskDeepTDRegressor(DaskMixin, DeepTDRegressor):
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
    kernel_sizes, input_shape, strides, n_filters, activation, \
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
covariance_, noise_variance_, n_features_in_, feature_names_in_
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
    >>> X, y = make_patch_cnn_regression(
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
        **OF_CLIENT,
    }
    _plain = DeepTDRegressor
    _read_y = staticmethod(numbers)

    def __init__(
        self,
        kernel_sizes: KernelSizes | None = None,
        *,
        input_shape: Sequence[int] | None = None,
        strides: Strides | None = None,
        n_filters: int = 1,
        activation: str | Sequence[str] = "relu",
        output_activation: str = "identity",
        fit_intercept: bool = True,
        hidden_bias: bool = False,
        share_filters: bool = False,
        alpha: float | str = 0.0,
        polish: bool = True,
        max_iter: int = 500,
        tol: float = 1e-6,
        n_init: int | str = "auto",
        n_jobs: int | None = None,
        random_state: RandomState = None,
        verbose: int = 0,
        client: Any = None,
    ) -> None:
        super().__init__(
            kernel_sizes,
            input_shape=input_shape,
            strides=strides,
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

    def predict(self, X: ArrayLike, return_std: bool = False) -> Any:
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
            return super().predict(X, return_std)  # type: ignore[call-overload]
        predicted = self._of_rows(DeepTDRegressor.predict, X)
        return (predicted, self._of_rows(_std, X)) if return_std else predicted

    def score(
        self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None
    ) -> float:
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
        predicted, y = self.predict(X), in_rows(y, "y")
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

    def _check_row(self, X: np.ndarray, y: np.ndarray | None) -> np.ndarray:
        return self._check(X, y, None)[0]


class DaskDeepTDClassifier(DaskMixin, DeepTDClassifier):
    """DeepTDClassifier for dask arrays and data frames, fitted where their chunks are.

    As :class:`DaskDeepTDRegressor`: for the same chunks the result is the same to the
    last bit, on any number of workers; but for rounding it is that of DeepTDClassifier.
    The classes are found in one pass over y.

    Parameters
    ----------
    kernel_sizes, input_shape, strides, n_filters, activation, \
output_activation, fit_intercept, hidden_bias, alpha, class_weight, polish, max_iter, \
tol, n_init, random_state
        As in :class:`~skdeeptd.DeepTDClassifier`.
    n_jobs, verbose, client
        As in :class:`DaskDeepTDRegressor`.

    Attributes
    ----------
    classes_, kernels_, gains_, scales_, biases_, intercept_, moment_, kernel_sizes_, \
strides_, input_shape_, activations_, n_iter_, n_features_in_, feature_names_in_
        As in DeepTDClassifier: arrays in memory.

    See Also
    --------
    skdeeptd.DeepTDClassifier : For data in memory or memory-mapped, and for streams.

    Notes
    -----
    What :class:`DaskDeepTDRegressor` says of X, the weights, their chunks and the
    cluster holds here. y holds labels: whole numbers or strings. The likelihood takes
    tens to hundreds of passes over X, so let the workers hold it: ``X.persist()``.

    Examples
    --------
    >>> import dask.array as da
    >>> from skdeeptd.dask import DaskDeepTDClassifier
    >>> from skdeeptd.datasets import make_patch_cnn_classification
    >>> X, y = make_patch_cnn_classification(
    ...     n_samples=1000, kernel_sizes=(4, 4), random_state=0
    ... )
    >>> X, y = da.from_array(X, chunks=(250, 16)), da.from_array(y, chunks=250)
    >>> model = DaskDeepTDClassifier(kernel_sizes=(4, 4), random_state=0).fit(X, y)
    >>> model.score(X, y) > 0.7
    True
    >>> model.predict_proba(X)
    dask.array<...shape=(1000, 2), dtype=float64, chunksize=(250, 2)...>
    >>> type(model.to_local()).__name__
    'DeepTDClassifier'
    """

    _parameter_constraints: dict = {
        **DeepTDClassifier._parameter_constraints,
        **OF_CLIENT,
    }
    _plain = DeepTDClassifier
    _read_y = staticmethod(labels)

    def __init__(
        self,
        kernel_sizes: KernelSizes | None = None,
        *,
        input_shape: Sequence[int] | None = None,
        strides: Strides | None = None,
        n_filters: int | None = None,
        activation: str | Sequence[str] = "relu",
        output_activation: str = "identity",
        fit_intercept: bool = True,
        hidden_bias: bool = False,
        alpha: float = 1.0,
        class_weight: dict | str | None = None,
        polish: bool = True,
        max_iter: int = 500,
        tol: float = 1e-6,
        n_init: int | str = "auto",
        n_jobs: int | None = None,
        random_state: RandomState = None,
        verbose: int = 0,
        client: Any = None,
    ) -> None:
        super().__init__(
            kernel_sizes,
            input_shape=input_shape,
            strides=strides,
            n_filters=n_filters,
            activation=activation,
            output_activation=output_activation,
            fit_intercept=fit_intercept,
            hidden_bias=hidden_bias,
            alpha=alpha,
            class_weight=class_weight,
            polish=polish,
            max_iter=max_iter,
            tol=tol,
            n_init=n_init,
            n_jobs=n_jobs,
            random_state=random_state,
            verbose=verbose,
        )
        self.client = client

    def decision_function(self, X: ArrayLike) -> Any:
        """Logits of the classes, lazily for a dask collection.

        Parameters
        ----------
        X : dask array or data frame, or array-like
            Of shape (n_samples, n_features) or (n_samples,) + input_shape.

        Returns
        -------
        dask array or ndarray of shape (n_samples,) or (n_samples, n_classes)
            In the dtype (float32 or float64) and the chunks of X. Of two classes the
            logit of ``classes_[1]``.

        Raises
        ------
        sklearn.exceptions.NotFittedError
            Before ``fit``.
        ValueError
            As in DeepTDClassifier; for NaN or inf when the result is computed.
        """
        return self._of_rows(DeepTDClassifier.decision_function, X)

    def predict(self, X: ArrayLike) -> Any:
        """The most probable class, lazily for a dask collection.

        Parameters
        ----------
        X : dask array or data frame, or array-like
            Of shape (n_samples, n_features) or (n_samples,) + input_shape.

        Returns
        -------
        dask array or ndarray of shape (n_samples,)
            In the dtype of ``classes_`` and the chunks of X.
        """
        return self._of_rows(DeepTDClassifier.predict, X)

    def predict_proba(self, X: ArrayLike) -> Any:
        """Probabilities of the classes, lazily for a dask collection.

        Parameters
        ----------
        X : dask array or data frame, or array-like
            Of shape (n_samples, n_features) or (n_samples,) + input_shape.

        Returns
        -------
        dask array or ndarray of shape (n_samples, n_classes)
        """
        return self._of_rows(DeepTDClassifier.predict_proba, X)

    def predict_log_proba(self, X: ArrayLike) -> Any:
        """Logarithms of the probabilities of the classes, lazily for a dask collection.

        Parameters
        ----------
        X : dask array or data frame, or array-like
            Of shape (n_samples, n_features) or (n_samples,) + input_shape.

        Returns
        -------
        dask array or ndarray of shape (n_samples, n_classes)
        """
        return self._of_rows(DeepTDClassifier.predict_log_proba, X)

    def score(
        self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None
    ) -> float:
        """Accuracy: the share of the samples, by weight, whose class is predicted.

        Parameters
        ----------
        X : dask array or data frame, or array-like
            Of shape (n_samples, n_features) or (n_samples,) + input_shape.
        y : dask array or series, or array-like
            Labels, of shape (n_samples,).
        sample_weight : dask array or series, or array-like, default=None
            Of shape (n_samples,).

        Returns
        -------
        float
            For dask collections from sums over the chunks.
        """
        if not is_dask_collection(X):
            return super().score(X, y, sample_weight)
        predicted = self.predict(X)
        y = in_rows(y, "y")
        rows, _ = self._chunked(predicted, y, sample_weight, 1, predicted.dtype)
        right, total = rows.reduce(_right)
        return float(right / total)

    def _check_row(self, X: np.ndarray, y: np.ndarray | None) -> np.ndarray:
        y = None if y is None else np.zeros(y.shape)
        return check_labels(self, X, y, None)[0]

    def _rows(self, X: Any, y: Any, sample_weight: Any) -> tuple:
        rows, input_shape = super()._rows(X, y, sample_weight)
        if not is_dask_collection(X):
            return rows, input_shape
        found, sums = _all_label_sums(rows.targets(_label_sums))
        self.classes_ = classes_of(found, sums)
        factors = weight_of_classes(self.class_weight, found, sums)
        change = functools.partial(_targets_of_classes, self.classes_, factors)
        return rows.with_targets(change), input_shape


# Of labels in chunks


def _all_label_sums(parts: Iterable) -> tuple[np.ndarray, np.ndarray]:
    """Labels and the sums of their weights, of those of the chunks."""
    are_text = {found.dtype.kind in "OUST" for found, _ in parts}
    if len(are_text) > 1:
        raise ValueError("some chunks of y hold numbers, others strings, as labels")
    return _label_sums(*map(np.concatenate, zip(*parts, strict=True)))


def _label_sums(y: np.ndarray, weight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    found, group = np.unique(y, return_inverse=True)
    return found, np.bincount(group, weight)


def _targets_of_classes(
    classes: np.ndarray, factors: np.ndarray, y: np.ndarray, weight: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Ones and zeros, and the weights; where those are zero, y may be no class."""
    group = np.minimum(np.searchsorted(classes, y), len(classes) - 1)
    return one_hot(group, np.arange(len(classes))), weight * factors[group]


def _right(
    predicted: np.ndarray, y: np.ndarray, weight: np.ndarray
) -> tuple[float, float]:
    unique_labels(y[:1], predicted[:1, 0])  # raises for numbers beside strings
    return weight @ (predicted[:, 0] == y), np.sum(weight)


# Of a chunk of X


def _std(estimator: DeepTDRegressor, X: np.ndarray) -> np.ndarray:
    return DeepTDRegressor.predict(estimator, X, return_std=True)[1]
