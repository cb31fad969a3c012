"""DeepTDRidge: ridge and kernel ridge regression on filters, with a learned metric."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from numbers import Integral, Real
from typing import Any, Literal, Self, overload

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator, MultiOutputMixin, RegressorMixin, clone
from sklearn.model_selection import check_cv
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted

from skdeeptd._compat import Interval, StrOptions, fit_context
from skdeeptd._data.rows import RowBlocks, concatenate_blocks, distinct_rows
from skdeeptd._data.serial import rows_are_serial
from skdeeptd._data.signals import CLIP, column_units, in_units
from skdeeptd._data.standardize import has_room, standardize
from skdeeptd._data.threads import single_threaded_blas
from skdeeptd._features import BaseSignalTransformer, DeepTDFeatures, SignalScaler
from skdeeptd._intervals import IntervalMixin
from skdeeptd._solvers.learned_kernel import (
    Problem,
    covariate_factor,
    dual_coef,
    fit_learned_kernel,
    kernel_values,
    squared_distances,
)
from skdeeptd._solvers.ridge import (
    Validation,
    cv_ridge,
    posterior_variance,
    without_covariates,
)
from skdeeptd._typing import RandomState
from skdeeptd._validation import (
    EstimatorMixin,
    check_new_rows,
    check_rows,
    covariate_columns,
    flatten,
    like_y,
    refuse_not_finite,
    reset_on_fit,
    split_columns,
    translate_overflow_error,
    warn,
)

KERNELS = ("linear", "rbf", "laplace")
METRICS = ("euclidean", "learned")


class DeepTDRidge(
    IntervalMixin, EstimatorMixin, MultiOutputMixin, RegressorMixin, BaseEstimator
):
    """Ridge or kernel ridge regression on signals or filters, with a learned metric.

    >>> from skdeeptd import DeepTDFeatures, DeepTDRidge
    >>> from sklearn.datasets import load_digits
    >>> X, y = load_digits(return_X_y=True)
    >>> X, y = X.reshape(-1, 8, 8), y % 2
    >>> model = DeepTDRidge(kernel="rbf", metric="learned", random_state=0)
    >>> bool(model.fit(X[:150], y[:150]).score(X[150:], y[150:]) > 0.7)
    True

    Parameters
    ----------
    features : DeepTDFeatures or SignalScaler, default=None
        The transformer; ``fit`` fits a clone. None means ``DeepTDFeatures()``.
    kernel : {"linear", "rbf", "laplace"}, default="linear"
        "rbf" is exp(-gamma d^2) and "laplace" is exp(-gamma d), with d the distance
        between the features of two samples.
    metric : {"euclidean", "learned"}, default="euclidean"
        Distance of a kernel. "learned" weights the directions of the features by the
        squared gradient of a first fit; see Notes.
    gamma : float, default=None
        Bandwidth of the kernel. None chooses among three bandwidths, from half to two
        times the median distance, by cross-validation on at most 200 samples.
    n_landmarks : int, default=None
        Number of random samples that span the kernel (Nystroem). None means all of up
        to 1200 samples, 1000 of more samples, and fewer of more than 30 000.
    alpha_per_target : "auto" or bool, default="auto"
        Whether each output has its own penalty. "auto" means one penalty for all
        outputs if y is one-hot, with a column for each class.
    cv : int, cross-validation splitter or iterable, default=None
        Folds that choose the penalty; each sample must be in one test fold. None holds
        out single samples. If neighbouring samples are alike, as in a time series, None
        holds out 20 contiguous blocks.
    input_shape : sequence of int, default=None
        Shape of a sample, if X has a flat row for each, in place of that of
        ``features``. None takes that of ``features``, or the shape of X itself.
    covariates : sequence of int or str, default=None
        Indices or names of columns of X that are not part of the signal, such as a
        temperature or the one-hot columns of a category. X then has a flat row for each
        sample; the other columns, in their order, are the signal. See Notes.
    random_state : int, RandomState instance or None, default=None
        Seed of the random filters if ``features`` has none, and of the landmarks.

    Attributes
    ----------
    features_ : DeepTDFeatures or SignalScaler
        The fitted transformer.
    kernel_ : str
        Kernel of the fit.
    gamma_ : float
        Only with a kernel other than "linear".
    components_ : ndarray of shape (n_components, n_features_out + n_covariates)
        Directions of a learned metric; the distance of two samples is that of their
        ``features @ components_.T``. Only if ``metric="learned"`` lowered the
        cross-validated error; see Notes.
    metric_ : ndarray of shape (n_features_out + n_covariates,) * 2
        ``components_.T @ components_``, with the largest eigenvalue one, or the
        identity. Not with kernel="linear".
    coef_ : ndarray of shape (n_outputs, n_features_out)
        Weights of the features, only with kernel="linear".
    dual_coef_ : ndarray of shape (n_landmarks, n_outputs)
        Weights of the kernel with each landmark, not with kernel="linear".
    X_fit_ : ndarray of shape (n_landmarks, n_components)
        Landmarks in the coordinates of the metric, or their features and covariates,
        not with kernel="linear". All training samples are landmarks if they are few.
        Samples of weight zero are left out; equal samples with equal y are one.
    covariate_indices_ : ndarray of shape (n_covariates,)
        Columns of X that are covariates.
    covariate_coef_ : ndarray of shape (n_outputs, n_covariates)
        Change of y with each covariate, the features being equal. With a kernel it is
        the linear part of the change only.
    covariate_shift_, covariate_scale_ : ndarray of shape (n_covariates,)
        Mean and standard deviation, infinite for a constant covariate.
    covariate_weight_ : float
        Factor of standardised covariates in the distance of a kernel.
    covariate_directions_, covariate_center_, covariate_share_ : ndarray
        Orthonormal combinations of the covariates, and the features, or the kernel, and
        the weights of the samples along them, for ``return_std``.
    intercept_, alpha_ : ndarray of shape (n_outputs,)
        Intercept, which is at the mean of the covariates, and penalty of each output.
    noise_variance_ : ndarray of shape (n_outputs,)
        Weighted mean of the squared cross-validated residuals: an upper estimate of the
        variance of the noise, because it includes the error of the prediction. NaN for
        one sample.
    variance_scale_ : ndarray of shape (n_outputs,)
        Unit of the posterior variance and posterior variance of the noise, chosen so
        that the squares of the standardised cross-validated residuals are one on
        average.
    center_, eigenvectors_, eigenvalues_ : ndarray
        Mean and principal directions of the features, or of the kernel with the
        landmarks, for ``return_std``.
    total_weight_ : float
        Sum of the weights.
    conformity_scores_ : ndarray of shape (n_samples, n_outputs)
        Absolute cross-validated residuals over the standard deviations of y, for
        ``predict_interval``.
    conformity_weight_ : ndarray of shape (n_samples,)
        Weights of the samples of ``conformity_scores_``.
    share_ : ndarray of shape (n_samples,)
        Weights of the training samples over their sum, with a kernel and without
        landmarks.
    whitening_ : ndarray of shape (n_landmarks, n_directions)
        Inverse root of the kernel of the landmarks, only if they are fewer than the
        samples.
    n_features_in_, feature_names_in_
        As in scikit-learn.

    Notes
    -----
    The penalty is one of 21 values between 10 and 1e-9 times the largest eigenvalue.
    Held-out predictions for all penalties come from one eigendecomposition, without
    refits [1]_.

    A learned metric is the average outer product of the gradients of a fit [2]_: M is
    the mean of grad f grad f' over samples and outputs. The squared distance of two
    samples is then (x - z)'M(x - z). A network's moment estimates E grad f; M estimates
    the second moment of grad f. ``noise_variance_`` comes from five more fits: they
    learn the metric from four fifths of the samples and predict the other fifth. The
    metric is discarded if it does not lower the error of these held-out samples below
    that of the Euclidean distance.

    The filters are learned from all samples, held-out ones included, so that the
    cross-validated error is slightly too small. Compare models on other folds.

    With landmarks the time is linear in the number of samples.

    Covariates enter linearly, without a penalty: they are projected out of y and of the
    features [3]_, and held-out samples stay held out for their coefficients too. So a
    few covariates count as much as thousands of features. With a kernel they are also
    behind the features in the distances, so that they may interact with the signal. The
    filters are learned from the part of y that covariates do not explain linearly.

    References
    ----------
    .. [1] D. Allen. The relationship between variable selection and data augmentation
       and a method for prediction. Technometrics 16(1), 1974.
    .. [2] A. Radhakrishnan, D. Beaglehole, P. Pandit, M. Belkin. Mechanism for feature
       learning in neural networks and backpropagation-free machine learning models.
       Science 383, 2024.
    .. [3] M. Lovell. Seasonal adjustment of economic time series and multiple
       regression analysis. JASA 58, 1963.
    """

    features_: DeepTDFeatures | SignalScaler
    kernel_: str
    gamma_: float
    total_weight_: float
    components_: np.ndarray
    coef_: np.ndarray
    dual_coef_: np.ndarray
    X_fit_: np.ndarray
    intercept_: np.ndarray
    alpha_: np.ndarray
    noise_variance_: np.ndarray
    variance_scale_: np.ndarray
    center_: np.ndarray
    eigenvectors_: np.ndarray
    eigenvalues_: np.ndarray
    share_: np.ndarray
    whitening_: np.ndarray
    covariate_indices_: np.ndarray
    covariate_coef_: np.ndarray
    covariate_shift_: np.ndarray
    covariate_scale_: np.ndarray
    covariate_directions_: np.ndarray
    covariate_center_: np.ndarray
    covariate_share_: np.ndarray
    covariate_weight_: float
    _parameter_constraints: dict = {
        "features": [BaseSignalTransformer, None],
        "kernel": [StrOptions(set(KERNELS))],
        "metric": [StrOptions(set(METRICS))],
        "gamma": [Interval(Real, 0, None, closed="neither"), None],
        "n_landmarks": [Interval(Integral, 1, None, closed="left"), None],
        "alpha_per_target": [StrOptions({"auto"}), "boolean"],
        "cv": ["cv_object"],
        "input_shape": ["array-like", None],
        "covariates": ["array-like", None],
        "random_state": ["random_state"],
    }

    def __init__(
        self,
        features: BaseSignalTransformer | None = None,
        *,
        kernel: str = "linear",
        metric: str = "euclidean",
        gamma: float | None = None,
        n_landmarks: int | None = None,
        alpha_per_target: str | bool = "auto",
        cv: Any = None,
        input_shape: Sequence[int] | None = None,
        covariates: Sequence[int | str] | None = None,
        random_state: RandomState = None,
    ) -> None:
        self.features = features
        self.kernel = kernel
        self.metric = metric
        self.gamma = gamma
        self.n_landmarks = n_landmarks
        self.alpha_per_target = alpha_per_target
        self.cv = cv
        self.input_shape = input_shape
        self.covariates = covariates
        self.random_state = random_state

    @reset_on_fit
    @fit_context(prefer_skip_nested_validation=False)
    def fit(
        self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None
    ) -> Self:
        """Learn the filters and the metric, and fit the regression.

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
        self._fit_reusing(X, y, sample_weight, None)
        del self._table, self._held_out
        return self

    def _fit_reusing(self, X, y, sample_weight, previous):
        """Fit like ``fit``, but reuse the features of another fit to the same rows.

        Features are learned anew if their parameters differ, or ``previous`` is None.
        """
        self._validate_params()
        if self.metric == "learned" and self.kernel == "linear":
            raise ValueError(
                "metric='learned' needs kernel='rbf' or kernel='laplace'; the gradient "
                "of a linear model is the same everywhere"
            )
        features = DeepTDFeatures() if self.features is None else clone(self.features)
        shape = features.input_shape if self.input_shape is None else self.input_shape
        flat, input_shape = flatten(X, shape, self.covariates)
        (flat, columns, weight), self._y_ndim = check_rows(self, flat, y, sample_weight)
        self.covariate_indices_, input_shape = covariate_columns(self, input_shape)
        all_rows = RowBlocks(flat, columns, weight)
        rows = all_rows.drop_zero_weight()
        distinct, place = distinct_rows(rows.X, rows.y)
        group = np.full(len(flat), -1)
        group[weight > 0] = place  # the merged row of each row
        if len(distinct) < len(place):
            weight = np.bincount(place, rows.weight)
            rows = RowBlocks(rows.X[distinct], rows.y[distinct], weight)
        refuse_not_finite(self, rows.largest()[0], input_shape)
        signal, covariates = split_columns(rows.X, self.covariate_indices_)
        with translate_overflow_error(self, rows):
            units = column_units(covariates, rows.weight / np.sum(rows.weight))
        self.covariate_shift_, self.covariate_scale_ = units
        covariates = in_units(covariates, *units)
        if previous is None or _features_of(self) != _features_of(previous):
            y_left = without_covariates(rows.y, rows.weight, covariates)
            signal_rows = RowBlocks(signal, y_left, rows.weight)
            table = features._learn_rows(signal_rows, input_shape, self.random_state)
            self.features_ = features
        else:
            self.features_, table = previous.features_, previous._table
        self._table = table
        with translate_overflow_error(self, rows):
            problem = standardize(rows, fit_intercept=True)
        validation = self._validation(all_rows, rows, group, signal)
        with single_threaded_blas():
            self._regression(table, covariates, problem, rows.weight, validation)
        self.total_weight_ = float(np.sum(rows.weight))
        if len(table) == 1:
            warn("standard deviations are NaN: they need at least two samples, got one")
        return self

    def _validation(self, all_rows, rows, group, signal):
        """Return how to choose the penalty; ``group`` is the merged row of each row."""
        per_output, blocks = self.alpha_per_target, None
        if per_output == "auto":
            per_output = not _is_one_hot(rows.y)
        n_rows = len(rows.y)
        if self.cv is not None:
            blocks = _given_blocks(self.cv, all_rows, group, n_rows)
        elif rows_are_serial(signal, rows.y):
            blocks = np.array_split(np.arange(n_rows), min(20, n_rows))
        return Validation(blocks, per_output)

    def _regression(self, table, covariates, problem, weight, validation):
        """Fit on the features, and store the regression in the units of y."""
        y, self.kernel_ = problem.rows.y, self.kernel
        if self.kernel == "linear":
            ridge = cv_ridge(table, y, weight, validation, covariates)
            self.coef_ = (ridge.coef * problem.unit).T
        else:
            of_kernel = Problem(y, weight, covariates, self.kernel)
            bounded = np.clip(covariates, -CLIP, CLIP)
            self.covariate_weight_ = covariate_factor(
                table, bounded, of_kernel, self.gamma, validation
            )
            table = _beside(table, self.covariate_weight_ * bounded)
            how = self.gamma, self.metric == "learned", validation
            landmarks = self._landmarks(len(table))
            fit = fit_learned_kernel(table, of_kernel, *how, landmarks)
            ridge, self.gamma_ = fit.ridge, float(fit.gamma)
            self.dual_coef_ = dual_coef(fit) * problem.unit
            if fit.components is not None:
                self.components_ = fit.components
            if fit.landmarks is None:
                self.X_fit_, self.share_ = fit.table, weight / np.sum(weight)
                self.covariate_share_ = ridge.basis[:, 1:].T * np.sqrt(weight)
            else:
                self.X_fit_ = fit.table[fit.landmarks]
                self.whitening_ = fit.whitening
        self.intercept_ = ridge.intercept * problem.unit + problem.shift
        slopes = ridge.slopes / self.covariate_scale_[:, np.newaxis]
        self.covariate_coef_ = (slopes * problem.unit).T
        self.covariate_directions_ = ridge.directions
        self.covariate_center_ = ridge.basis_center
        self.alpha_ = ridge.alpha
        self.noise_variance_ = ridge.cv_error * problem.unit**2
        self.variance_scale_ = ridge.scale * problem.unit**2
        self.center_, self.eigenvectors_ = ridge.center, ridge.vectors
        self.eigenvalues_ = ridge.values
        spread = np.sqrt(ridge.scale * ridge.variance)
        spread = np.where(spread > 0, spread, np.inf)
        self.conformity_scores_ = np.abs(y - ridge.held_out) / spread
        self.conformity_weight_ = weight
        predicted = ridge.held_out * problem.unit + problem.shift
        self._held_out = predicted, y * problem.unit + problem.shift, weight

    def _landmarks(self, n_rows, most_rows=1200, most=1000, most_numbers=2**25):
        """Return random rows as an index, or None for all rows.

        By default there are ``most``, or fewer if their kernel with all rows would have
        more than ``most_numbers`` entries. Centers of k-means are no better, measured
        on five data sets.
        """
        n = self.n_landmarks
        if n is not None and n > n_rows:
            raise ValueError(
                f"n_landmarks={n} is more than the {n_rows} different samples of "
                f"positive weight; use at most {n_rows}, or None"
            )
        if n is None:
            many = max(100, min(most, most_numbers // n_rows))
            n = many if n_rows > most_rows else n_rows
        if n == n_rows:
            return None
        rng = check_random_state(self.random_state)
        return np.sort(rng.permutation(n_rows)[:n])

    @property
    def metric_(self) -> np.ndarray:
        """Return the metric of the features and covariates."""
        check_is_fitted(self)
        if self.kernel_ == "linear":
            raise AttributeError("metric_ needs a kernel other than 'linear'")
        if hasattr(self, "components_"):
            return self.components_.T @ self.components_
        return np.eye(self.X_fit_.shape[1])

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
        """Predict the mean of y.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features) or (n_samples,) + input_shape
        return_std : bool, default=False
            Whether to return the posterior standard deviation of the mean of y, too.
            The posterior variance of a new y is larger by ``variance_scale_``. The
            posterior ignores the uncertainty of the filters and of ``alpha_``.

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

    def _mean_and_spread(self, X):
        y, std = (a.reshape(len(a), -1) for a in self.predict(X, return_std=True))
        return y, np.sqrt(std**2 + self.variance_scale_.astype(std.dtype))

    def _predict(self, X, return_std):
        """Predict for X that is validated."""
        signal, covariates = split_columns(X, self.covariate_indices_)
        table = self.features_._responses(signal.astype(float, copy=False))
        table = _beside(table, covariates - self.covariate_shift_)
        outputs = functools.partial(self._outputs, return_std=return_std)
        with single_threaded_blas():
            found = concatenate_blocks(outputs, table, width=len(self.center_))
        size = np.maximum(np.abs(self.intercept_), np.sqrt(self.variance_scale_))
        dtype = X.dtype if has_room(X.dtype, size.min(), size.max()) else np.float64
        found = np.split(found.astype(dtype, copy=False), 1 + return_std, axis=1)
        found = [like_y(columns, self._y_ndim) for columns in found]
        return tuple(found) if return_std else found[0]

    def _outputs(self, table, return_std):
        """Return the mean of y, and behind it the standard deviation, in columns.

        ``table`` has the features, and behind them the covariates less their mean.
        """
        has_kernel = self.kernel_ != "linear"
        n_features = table.shape[1] - len(self.covariate_shift_)
        table, covariates = np.split(table, [n_features], axis=1)
        y = self.intercept_ + covariates @ self.covariate_coef_.T
        covariates = in_units(covariates, 0, self.covariate_scale_)
        if has_kernel:
            bounded = np.clip(covariates, -CLIP, CLIP)
            table = _beside(table, self.covariate_weight_ * bounded)
            if hasattr(self, "components_"):
                table = table @ self.components_.T
            squares = squared_distances(table, self.X_fit_)
            table = kernel_values(squares, self.kernel_, self.gamma_)
        y = y + table @ (self.dual_coef_ if has_kernel else self.coef_.T)
        if not return_std:
            return y
        beyond = 0.0
        if hasattr(self, "whitening_"):
            table = table @ self.whitening_
            beyond = np.maximum(1 - np.sum(table**2, axis=1), 0)  # of the landmarks
        along = covariates @ self.covariate_directions_
        center = self.center_ + along @ self.covariate_center_
        centered = table - center
        if hasattr(self, "share_"):
            share = self.share_ + along @ self.covariate_share_
            square = 1 + np.sum((center - 2 * table) * share, axis=1)
        else:
            square = np.sum(centered**2, axis=1) + beyond
        directions = self.eigenvectors_, self.eigenvalues_
        variance = posterior_variance(
            centered, square, *directions, self.alpha_, self.total_weight_
        )
        variance = variance + np.sum(along**2, axis=1, keepdims=True)
        return np.column_stack([y, np.sqrt(variance * self.variance_scale_)])


def _beside(table, covariates):
    """Return the covariates behind a table, or the table itself if there are none."""
    return np.column_stack([table, covariates]) if covariates.shape[1] else table


def _features_of(model):
    """Return the parameters on which the features of a model depend, as a string."""
    features = model.features or DeepTDFeatures()
    return repr((features, model.input_shape, model.covariates, model.random_state))


def _given_blocks(cv, all_rows, group, n_rows):
    """Return the merged rows that folds of ``cv`` hold out, or None for single rows."""
    n_times, fold_of = np.zeros(len(group), int), np.full(n_rows, -1)
    for fold, (_, test) in enumerate(
        check_cv(cv, all_rows.y).split(all_rows.X, all_rows.y)
    ):
        np.add.at(n_times, test, 1)
        own = group[test]
        own = own[own >= 0]
        fold_of[own[fold_of[own] < 0]] = fold  # copies follow the first one
    if np.any(n_times != 1):
        raise ValueError(
            f"cv must hold out each sample once, but it holds out sample "
            f"{np.argmax(n_times != 1)} {n_times[n_times != 1][0]} times; use "
            f"KFold, or None for single samples"
        )
    blocks = [np.flatnonzero(fold_of == fold) for fold in np.unique(fold_of)]
    if len(blocks) == 1 < n_rows:
        raise ValueError(
            f"cv={cv!r} holds out all samples of positive weight at once; use at "
            f"least two folds, or None for single samples"
        )
    return tuple(blocks) if len(blocks) < n_rows else None


def _is_one_hot(y):
    """Return whether y is one-hot: each row has one column at its largest value."""
    if y.shape[1] < 2:
        return False
    top, bottom = y.max(axis=0), y.min(axis=0)
    is_top = y == top
    return bool(np.all(is_top | (y == bottom)) and np.all(is_top.sum(axis=1) == 1))
