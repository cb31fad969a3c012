"""DeepTDRidge: ridge regression on the responses of filters learned from moments."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from numbers import Real
from typing import Literal, Self, overload

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator, MultiOutputMixin, RegressorMixin, clone
from sklearn.metrics.pairwise import euclidean_distances
from sklearn.utils.validation import check_is_fitted

from skdeeptd._compat import Interval, StrOptions, fit_context
from skdeeptd._data.rows import RowBlocks, concatenate_blocks
from skdeeptd._data.standardize import standardize
from skdeeptd._data.threads import single_threaded_blas
from skdeeptd._features import DeepTDFeatures, filters_of
from skdeeptd._init.filters import filter_responses
from skdeeptd._solvers.ridge import cv_kernel_ridge, cv_ridge, posterior_variance
from skdeeptd._typing import RandomState
from skdeeptd._validation import (
    DocLinkMixin,
    check_finite,
    check_new_rows,
    check_rows,
    flatten,
    like_y,
    reset_on_fit,
    translate_overflow_error,
    warn,
)


class DeepTDRidge(DocLinkMixin, MultiOutputMixin, RegressorMixin, BaseEstimator):
    """Ridge or kernel ridge regression on :class:`DeepTDFeatures`.

    The penalty of each output is chosen by 20-fold cross-validation over contiguous
    blocks of samples, without refits: from 21 values between 10 and 1e-9 times the
    largest eigenvalue. Blocks are contiguous because in a time series single held-out
    samples can be predicted from their neighbours. Nothing else is searched, so that a
    fit to a few hundred samples takes a fraction of a second.

    The filters are learned from all samples, held-out ones included, so that the
    cross-validated error is too small. Compare models on other folds or samples.

    Parameters
    ----------
    features : DeepTDFeatures, default=None
        The transformer; ``fit`` fits a clone. None stands for ``DeepTDFeatures()``.
    kernel : {"linear", "rbf"}, default="linear"
        "rbf" is exp(-gamma d^2), with d the distance between the features of two
        samples. Memory grows with the square of the number of samples, time with its
        third power.
    gamma : float, default=None
        None takes the best of 0.1, 0.5 and 2 over the mean of d^2, by the same
        cross-validation on at most 300 of the samples.
    input_shape : sequence of int, default=None
        Shape of a sample, if X has a flat row for each, in place of that of
        ``features``. None takes that of ``features``, or the shape of X itself.
    random_state : int, RandomState instance or None, default=None
        Seed of the filters if ``features`` has none.

    Attributes
    ----------
    features_ : DeepTDFeatures
        The fitted transformer.
    kernel_ : str
        Kernel of the fit.
    gamma_ : float
        Only with kernel="rbf".
    coef_ : ndarray of shape (n_outputs, n_features_out)
        Weights of the features, only with kernel="linear".
    dual_coef_ : ndarray of shape (n_samples, n_outputs)
        Weights of the kernel with each training sample, only with kernel="rbf".
    X_fit_ : ndarray of shape (n_samples, n_features_out)
        Features of the training samples, only with kernel="rbf". Samples of weight zero
        are left out; equal samples with equal y are one.
    intercept_, alpha_ : ndarray of shape (n_outputs,)
        Intercept and penalty of each output.
    noise_variance_ : ndarray of shape (n_outputs,)
        Weighted mean of the squared cross-validated residuals: an upper estimate of the
        variance of the noise, because it includes the error of the prediction. NaN for
        one sample.
    variance_scale_ : ndarray of shape (n_outputs,)
        Unit of the posterior variance and posterior variance of the noise, chosen so
        that the squares of the standardised cross-validated residuals are one on
        average. It is near zero if the regression interpolates.
    center_, eigenvectors_, eigenvalues_ : ndarray
        Mean and principal directions of the features, or of the kernel with the
        training samples, for ``return_std``.
    total_weight_ : float
        Sum of the weights.
    share_ : ndarray of shape (n_samples,)
        Weights of the training samples over their sum, only with kernel="rbf".
    n_features_in_, feature_names_in_
        As in scikit-learn.

    References
    ----------
    .. [1] G. Golub, M. Heath, G. Wahba. Generalized cross-validation as a method for
       choosing a good ridge parameter. Technometrics 21(2), 1979.

    Examples
    --------
    >>> from skdeeptd import DeepTDFeatures, DeepTDRidge
    >>> from sklearn.datasets import load_digits
    >>> X, y = load_digits(return_X_y=True)
    >>> X, y = X.reshape(-1, 8, 8), y % 2
    >>> features = DeepTDFeatures(pooling="both", random_state=0)
    >>> model = DeepTDRidge(features, kernel="rbf").fit(X[:200], y[:200])
    >>> bool(model.score(X[200:], y[200:]) > 0.7)
    True
    """

    _parameter_constraints: dict = {
        "features": [DeepTDFeatures, None],
        "kernel": [StrOptions({"linear", "rbf"})],
        "gamma": [Interval(Real, 0, None, closed="neither"), None],
        "input_shape": ["array-like", None],
        "random_state": ["random_state"],
    }

    def __init__(
        self,
        features: DeepTDFeatures | None = None,
        *,
        kernel: str = "linear",
        gamma: float | None = None,
        input_shape: Sequence[int] | None = None,
        random_state: RandomState = None,
    ) -> None:
        self.features = features
        self.kernel = kernel
        self.gamma = gamma
        self.input_shape = input_shape
        self.random_state = random_state

    @reset_on_fit
    @fit_context(prefer_skip_nested_validation=False)
    def fit(
        self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None
    ) -> Self:
        """Learn the filters, and fit the regression on their responses.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features) or (n_samples,) + input_shape
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
        sample_weight : array-like of shape (n_samples,), default=None
            A sample of weight two counts as two samples. Equal samples with equal y are
            held out together.

        Returns
        -------
        DeepTDRidge
            The fitted estimator itself.

        Raises
        ------
        ValueError, TypeError
            If X, y or a parameter is invalid.
        """
        return self._learn(X, y, sample_weight)

    def _fit_reusing(self, X, y, sample_weight, previous):
        """Fit like ``fit``, with the filters of another fit to the same rows.

        The filters are learned anew if their parameters differ in more than the
        activation, the responses and the target type.
        """
        own, other = (
            (e.features or DeepTDFeatures()).get_params() for e in (self, previous)
        )
        of_responses = {"activation", "pooling", "target_type", "n_jobs"}
        same = all(repr(own[k]) == repr(other[k]) for k in set(own) - of_responses)
        same = same and own["random_state"] is not None
        like = previous.features_ if same else None
        return self._learn(X, y, sample_weight, like)

    def _learn(self, X, y, sample_weight=None, like=None):
        """Fit, with the kernels of ``like``, fitted to the same rows, if given."""
        features = DeepTDFeatures() if self.features is None else clone(self.features)
        shape = features.input_shape if self.input_shape is None else self.input_shape
        flat, input_shape = flatten(X, shape)
        (flat, columns, weight), self._y_ndim = check_rows(self, flat, y, sample_weight)
        features.set_params(input_shape=input_shape, target_type="continuous")
        if features.random_state is None:
            features.set_params(random_state=self.random_state)
        rows = _merged(RowBlocks(flat, columns, weight).drop_zero_weight())
        check_finite(self, rows.largest()[0])
        self.features_ = features._learn(rows.X, rows.y, rows.weight, like)
        table = features.transform(rows.X.astype(float, copy=False))
        with translate_overflow_error(self, rows):
            problem = standardize(rows, fit_intercept=True)
        with single_threaded_blas():
            ridge = self._regression(table, problem.rows.y, rows.weight)
        self._store(ridge, problem)
        self.total_weight_ = float(np.sum(rows.weight))
        if self.kernel == "rbf":
            self.X_fit_, self.share_ = table, rows.weight / self.total_weight_
        if len(table) == 1:
            warn("standard deviations are NaN: they need at least two samples, got one")
        return self

    def _store(self, ridge, problem):
        """Store the regression in the units of y."""
        self.kernel_, coef = self.kernel, ridge.coef * problem.unit
        if self.kernel == "linear":
            self.coef_ = coef.T
        else:
            self.dual_coef_ = coef
        self.intercept_ = ridge.intercept * problem.unit + problem.shift
        self.alpha_ = ridge.alpha
        self.noise_variance_ = ridge.cv_error * problem.unit**2
        self.variance_scale_ = ridge.scale * problem.unit**2
        self.center_, self.eigenvectors_ = ridge.center, ridge.vectors
        self.eigenvalues_ = ridge.values

    def _regression(self, table, y, weight):
        if self.kernel == "linear":
            return cv_ridge(table, y, weight)
        squares = euclidean_distances(table, squared=True)
        self.gamma_ = self.gamma or _best_gamma(squares, y, weight)
        return cv_kernel_ridge(np.exp(-self.gamma_ * squares), y, weight)

    @overload
    def predict(
        self, X: ArrayLike, return_std: Literal[False] = False
    ) -> np.ndarray: ...

    @overload
    def predict(
        self, X: ArrayLike, return_std: Literal[True]
    ) -> tuple[np.ndarray, np.ndarray]: ...

    def predict(
        self, X: ArrayLike, return_std: bool = False
    ) -> np.ndarray | tuple[np.ndarray, np.ndarray]:
        """Predict y.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features) or (n_samples,) + input_shape
        return_std : bool, default=False
            Whether to return the posterior standard deviation of the mean of y too. The
            posterior variance of a new y is larger by ``variance_scale_``. The
            posterior takes the filters and ``alpha_`` as given.

        Returns
        -------
        y : ndarray of shape (n_samples,) or (n_samples, n_outputs)
        y_std : ndarray of the same shape
            Only with ``return_std``; NaN if ``variance_scale_`` is.

        Raises
        ------
        sklearn.exceptions.NotFittedError
            Before ``fit``.
        ValueError
            If X has another number of features than in ``fit``, or NaN or inf.
        """
        check_is_fitted(self)
        shape = self.features_.input_shape_
        X = check_new_rows(self, X, shape, ensure_all_finite=True)
        return self._predict(X, return_std)

    def _predict(self, X, return_std):
        """Predict for X that is validated."""
        features = filters_of(self.features_)
        table = filter_responses(features, X.astype(float, copy=False))
        outputs = functools.partial(self._outputs, return_std=return_std)
        with single_threaded_blas():
            found = concatenate_blocks(outputs, table, width=len(self.center_))
        found = np.split(found.astype(X.dtype, copy=False), 1 + return_std, axis=1)
        found = [like_y(columns, self._y_ndim) for columns in found]
        return tuple(found) if return_std else found[0]

    def _outputs(self, table, return_std):
        """Return the mean of y, and behind it the standard deviation, in columns."""
        is_rbf = self.kernel_ == "rbf"
        if is_rbf:
            table = np.exp(-self.gamma_ * _squared_distances(table, self.X_fit_))
        y = self.intercept_ + table @ (self.dual_coef_ if is_rbf else self.coef_.T)
        if not return_std:
            return y
        centered = table - self.center_
        if is_rbf:
            square = 1 - self.center_ @ self.share_ - 2 * centered @ self.share_
        else:
            square = np.sum(centered**2, axis=1)
        directions = self.eigenvectors_, self.eigenvalues_
        variance = posterior_variance(
            centered, square, *directions, self.alpha_, self.total_weight_
        )
        return np.column_stack([y, np.sqrt(variance * self.variance_scale_)])


def _squared_distances(a, b):
    """Return squared distances of rows, like euclidean_distances without checks."""
    squares_a, squares_b = (np.einsum("ij,ij->i", x, x) for x in (a, b))
    return np.maximum(squares_a[:, np.newaxis] - 2 * a @ b.T + squares_b, 0)


def _merged(rows):
    """Return rows without repetitions, with the sum of the weights of equal ones."""
    first, place = {}, np.empty(len(rows.X), dtype=int)
    for i, (x, y) in enumerate(zip(rows.X, rows.y, strict=True)):
        place[i] = first.setdefault((x.tobytes(), y.tobytes()), i)
    if len(first) == len(place):
        return rows
    kept, group = np.unique(place, return_inverse=True)
    return RowBlocks(rows.X[kept], rows.y[kept], np.bincount(group, rows.weight))


def _best_gamma(squares, y, weight, factors=(0.1, 0.5, 2.0), most_rows=300):
    """Return the best gamma by cross-validation on at most ``most_rows`` rows.

    ``squares`` are the squared distances of the rows; gamma is one of ``factors`` over
    their mean.
    """
    share = weight / np.sum(weight)
    unit = share @ squares @ share or 1.0
    some = np.unique(np.linspace(0, len(y) - 1, most_rows).astype(int))
    squares, y, weight = squares[np.ix_(some, some)], y[some], weight[some]
    gammas = np.array(factors) / unit
    errors = [
        np.sum(cv_kernel_ridge(np.exp(-gamma * squares), y, weight).cv_error)
        for gamma in gammas
    ]
    return gammas[np.argmin(errors)]
