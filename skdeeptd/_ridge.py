"""DeepTDRidge: ridge regression on what filters from the moments see."""

from __future__ import annotations

import functools
from numbers import Real
from typing import Literal, Self, overload

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator, MultiOutputMixin, RegressorMixin, clone
from sklearn.metrics.pairwise import euclidean_distances, rbf_kernel
from sklearn.utils import gen_batches
from sklearn.utils.validation import check_is_fitted, validate_data

from skdeeptd._base import (
    Documented,
    check_rows,
    explaining,
    flatten,
    forgetting,
    like_y,
)
from skdeeptd._compat import Interval, StrOptions, fit_context
from skdeeptd._data.problem import make_problem
from skdeeptd._data.rows import RowBlocks
from skdeeptd._data.threads import single_threaded_blas
from skdeeptd._features import DeepTDFeatures
from skdeeptd._solver.ridge import (
    cv_kernel_ridge,
    cv_ridge,
    kernel_ridge_variance,
    ridge_variance,
)
from skdeeptd._typing import RandomState

GAMMAS = (0.1, 0.5, 2.0)  # over the mean squared distance of two rows
FEW_ROWS = 300  # that choose among them
BATCH = 1000  # rows that are predicted at a time


class DeepTDRidge(Documented, MultiOutputMixin, RegressorMixin, BaseEstimator):
    """Ridge or kernel ridge regression on :class:`DeepTDFeatures`.

    The penalty is chosen by cross-validation in closed form, for each output its own:
    from 21 between 10 and 1e-9 times the largest eigenvalue. Left out together are
    twentieths of the rows, in the order given, since in a series single ones would be
    told by their neighbours. There are no other choices, so that a fit of a few hundred
    rows takes a moment.

    The filters have seen all rows, those left out too. So the error on these is too
    small; what tells how good the model is are folds, or other rows.

    Parameters
    ----------
    features : DeepTDFeatures, default=None
        None for one with default parameters.
    kernel : {"linear", "rbf"}, default="linear"
        "rbf" is exp(-gamma d^2), with d the distance of what the filters see of two
        samples. It takes the square of the number of samples in memory, and its third
        power in time.
    gamma : float, default=None
        None takes the best of 0.1, 0.5 and 2 over the mean of d^2, by the same
        cross-validation on 300 of the samples.
    random_state : int, RandomState instance or None, default=None
        Of the filters, where ``features`` has none.

    Attributes
    ----------
    features_ : DeepTDFeatures
        As fitted.
    coef_ : ndarray of shape (n_features_out, n_outputs), or (n_samples, n_outputs)
        With kernel="rbf" those of the kernel's values with each row of the fit.
    intercept_, alpha_, noise_variance_ : ndarray of shape (n_outputs,)
    gamma_ : float
        Only with kernel="rbf".
    features_of_rows_ : ndarray of shape (n_samples, n_features_out)
        Of the samples of the fit whose weight is not zero, equal ones once.
    weight_of_rows_ : ndarray of shape (n_samples,)
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
    >>> features = DeepTDFeatures(responses="all", random_state=0)
    >>> model = DeepTDRidge(features, kernel="rbf").fit(X[:200], y[:200])
    >>> bool(model.score(X[200:], y[200:]) > 0.7)
    True
    """

    _parameter_constraints: dict = {
        "features": [DeepTDFeatures, None],
        "kernel": [StrOptions({"linear", "rbf"})],
        "gamma": [Interval(Real, 0, None, closed="neither"), None],
        "random_state": ["random_state"],
    }

    def __init__(
        self,
        features: DeepTDFeatures | None = None,
        *,
        kernel: str = "linear",
        gamma: float | None = None,
        random_state: RandomState = None,
    ) -> None:
        self.features = features
        self.kernel = kernel
        self.gamma = gamma
        self.random_state = random_state

    @forgetting
    @fit_context(prefer_skip_nested_validation=False)
    def fit(
        self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None
    ) -> Self:
        """Learn the filters, and the regression on what they see.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features) or (n_samples,) + input_shape
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
        sample_weight : array-like of shape (n_samples,), default=None
            A row of weight two is two rows. Rows that are equal, y included, are left
            out together.

        Returns
        -------
        DeepTDRidge
            The fitted estimator itself.

        Raises
        ------
        ValueError, TypeError
            Where the data or a parameter are not as they should be.
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
        of_responses = {"activation", "responses", "target_type", "n_jobs"}
        same = all(repr(own[k]) == repr(other[k]) for k in set(own) - of_responses)
        same = same and own["random_state"] is not None
        like = previous.features_ if same else None
        return self._learn(X, y, sample_weight, like)

    def _learn(self, X, y, sample_weight=None, like=None):
        """``like`` are features with the same kernels, fitted to the same rows."""
        features = DeepTDFeatures() if self.features is None else clone(self.features)
        flat, input_shape = flatten(X, features.input_shape)
        (flat, columns, weight), self._y_ndim = check_rows(self, flat, y, sample_weight)
        features.set_params(input_shape=input_shape, target_type="continuous")
        if features.random_state is None:
            features.set_params(random_state=self.random_state)
        rows = _merged(RowBlocks(flat, columns, weight).of_weight())
        if like is None:
            features.fit(rows.X, rows.y, rows.weight)
        else:
            features._learn(rows.X, rows.y, rows.weight, like)
        self.features_ = features
        table = self.features_.transform(rows.X).astype(float, copy=False)
        with explaining(self, rows):
            problem = make_problem(rows, fit_intercept=True)
        with single_threaded_blas():
            ridge = self._regression(table, problem.rows.y, rows.weight)
        self.coef_ = ridge.coef * problem.unit
        self.intercept_ = ridge.intercept * problem.unit + problem.shift
        self.alpha_ = ridge.alpha
        self.noise_variance_ = ridge.noise_variance * problem.unit**2
        self.features_of_rows_, self.weight_of_rows_ = table, rows.weight
        return self

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
        """Output of the regression.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features) or (n_samples,) + input_shape
        return_std : bool, default=False
            Whether to return the standard deviation of the mean of y too, not that of a
            single y, whose variance is larger by ``noise_variance_``. It takes
            ``alpha_`` for prior knowledge, and the filters for given.

        Returns
        -------
        y : ndarray of shape (n_samples,) or (n_samples, n_outputs)
        y_std : ndarray of the same shape
            Only with ``return_std``.

        Raises
        ------
        sklearn.exceptions.NotFittedError
            Before ``fit``.
        ValueError
            Where X has another number of features than in ``fit``, or NaN or inf.
        """
        check_is_fitted(self)
        X, _ = flatten(X, self.features_.input_shape_)
        X = validate_data(self, X, dtype=[np.float64, np.float32], reset=False)
        table = self.features_.transform(X).astype(float, copy=False)
        with single_threaded_blas():
            parts = [self._output(table[batch]) for batch in gen_batches(len(X), BATCH)]
            y = np.concatenate(parts).astype(X.dtype, copy=False)
            y = like_y(y, self._y_ndim)
            if not return_std:
                return y
            std = np.sqrt(self._variance(table)).astype(X.dtype, copy=False)
        return y, like_y(std, self._y_ndim)

    def _output(self, table):
        if self.kernel == "rbf":
            table = rbf_kernel(table, self.features_of_rows_, gamma=self.gamma_)
        return self.intercept_ + table @ self.coef_

    def _variance(self, table):
        known, weight = self.features_of_rows_, self.weight_of_rows_
        if self.kernel == "rbf":
            gram = rbf_kernel(known, gamma=self.gamma_)
            cross = rbf_kernel(table, known, gamma=self.gamma_)
            of_alpha = functools.partial(
                kernel_ridge_variance, gram, cross, np.ones(len(table)), weight
            )
        else:
            of_alpha = functools.partial(ridge_variance, known, table, weight)
        variance = np.column_stack([of_alpha(alpha) for alpha in self.alpha_])
        return variance * self.noise_variance_


def _merged(rows):
    """Each of the rows that are equal, y included, once, with the sum of weights."""
    first, place = {}, np.empty(len(rows.X), dtype=int)
    for i, (x, y) in enumerate(zip(rows.X, rows.y, strict=True)):
        place[i] = first.setdefault((x.tobytes(), y.tobytes()), i)
    if len(first) == len(place):
        return rows
    kept, group = np.unique(place, return_inverse=True)
    return RowBlocks(rows.X[kept], rows.y[kept], np.bincount(group, rows.weight))


def _best_gamma(squares, y, weight):
    """By cross-validation on some of the rows, whose distances have these squares."""
    share = weight / np.sum(weight)
    unit = share @ squares @ share or 1.0
    some = np.unique(np.linspace(0, len(y) - 1, FEW_ROWS).astype(int))
    few, y, weight = squares[np.ix_(some, some)], y[some], weight[some]
    errors = [
        np.sum(cv_kernel_ridge(np.exp(-gamma / unit * few), y, weight).cv_error)
        for gamma in GAMMAS
    ]
    return GAMMAS[np.argmin(errors)] / unit
