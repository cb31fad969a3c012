"""DeepTDRidgeClassifier: kernel ridge regression for classes, with probabilities."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.validation import check_is_fitted

from skdeeptd._classifier import (
    CLASS_WEIGHT,
    check_labels,
    classes_of,
    with_class_weight,
)
from skdeeptd._compat import fit_context
from skdeeptd._features import BaseSignalTransformer
from skdeeptd._ridge import DeepTDRidge
from skdeeptd._solvers.calibration import calibrated, fit_temperature
from skdeeptd._typing import RandomState
from skdeeptd._validation import (
    EstimatorMixin,
    check_new_rows,
    covariate_columns,
    flatten,
    refuse_not_finite,
    reset_on_fit,
)


class DeepTDRidgeClassifier(EstimatorMixin, ClassifierMixin, BaseEstimator):
    """Ridge or kernel ridge classifier with calibrated probabilities.

    >>> from sklearn.datasets import load_digits
    >>> from skdeeptd import DeepTDRidgeClassifier
    >>> X, digit = load_digits(return_X_y=True)
    >>> X = X.reshape(-1, 8, 8)
    >>> model = DeepTDRidgeClassifier(kernel="rbf", metric="learned", random_state=0)
    >>> bool(model.fit(X[:300], digit[:300]).score(X[300:], digit[300:]) > 0.88)
    True

    A :class:`DeepTDRidge` is fitted to a column of zeros and ones for each class. Its
    predictions become probabilities by a softmax with a calibrated factor; see Notes.

    Parameters
    ----------
    features, kernel, metric, gamma, n_landmarks
        As in :class:`DeepTDRidge`.
    class_weight : dict, "balanced" or None, default=None
        As in :class:`DeepTDClassifier`.
    cv, input_shape, covariates, random_state
        As in :class:`DeepTDRidge`. A splitter for ``cv`` is called without y.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        Classes of the samples whose weight is not zero.
    regressor_ : DeepTDRidge
        The regression on the columns of zeros and ones.
    factor_ : float
        Factor of the predictions in the softmax.
    prior_ : ndarray of shape (n_classes,)
        Shares of the classes in the training samples.
    prior_weight_ : float
        Weight of the shares in the probabilities: one over the number of samples and
        two, so that no probability is zero.
    covariate_indices_ : ndarray of shape (n_covariates,)
        Columns of X that are covariates.
    n_features_in_, feature_names_in_
        As in scikit-learn.

    Notes
    -----
    The softmax of a class is proportional to
    ``prior_ * exp(factor_ * (prediction - prior_))``. ``factor_`` maximizes the
    likelihood of the cross-validated predictions.
    """

    classes_: np.ndarray
    covariate_indices_: np.ndarray
    regressor_: DeepTDRidge
    factor_: float
    prior_: np.ndarray
    prior_weight_: float
    _parameter_constraints: dict = {
        "class_weight": CLASS_WEIGHT,
        **{
            name: constraint
            for name, constraint in DeepTDRidge._parameter_constraints.items()
            if name != "alpha_per_target"
        },
    }

    def __init__(
        self,
        features: BaseSignalTransformer | None = None,
        *,
        kernel: str = "linear",
        metric: str = "euclidean",
        gamma: float | None = None,
        n_landmarks: int | None = None,
        class_weight: dict | str | None = None,
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
        self.class_weight = class_weight
        self.cv = cv
        self.input_shape = input_shape
        self.covariates = covariates
        self.random_state = random_state

    @reset_on_fit
    @fit_context(prefer_skip_nested_validation=False)
    def fit(
        self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None
    ) -> Self:
        """Fit the regression on the classes, and calibrate the probabilities.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features) or (n_samples,) + input_shape
        y : array-like of shape (n_samples,)
            Classes, two at least.
        sample_weight : array-like of shape (n_samples,), default=None

        Returns
        -------
        DeepTDRidgeClassifier
            The fitted estimator itself.

        Raises
        ------
        ValueError, TypeError
            If X, y or a parameter is invalid.
        """
        self._fit_reusing(X, y, sample_weight, None)
        del self.regressor_._table
        return self

    def _fit_reusing(self, X, y, sample_weight, previous):
        """Fit like ``fit``, but reuse the features of another fit to the same rows."""
        self._validate_params()
        X, shape = flatten(X, self.input_shape, self.covariates)
        X, y, weight = check_labels(self, X, y, sample_weight)
        refuse_not_finite(self, X, shape)
        weight = with_class_weight(self.class_weight, y, weight)
        self.classes_ = classes_of(y, weight)
        columns = (y[:, np.newaxis] == self.classes_).astype(float)
        params = self.get_params(deep=False)
        del params["class_weight"]
        if shape is not None:
            params["input_shape"] = shape
        self.covariate_indices_, _ = covariate_columns(self, shape)
        params["covariates"] = self.covariate_indices_.tolist() or None
        regressor = DeepTDRidge(**params, alpha_per_target=False)
        is_alike = previous is not None and previous.class_weight == self.class_weight
        like = previous.regressor_ if is_alike else None
        self.regressor_ = regressor._fit_reusing(X, columns, weight, like)
        held_out, target, weight = regressor._held_out
        self.prior_ = np.average(target, axis=0, weights=weight)
        self.prior_weight_ = 1 / (len(target) + 2)
        self.factor_ = fit_temperature(held_out, target, weight)
        del regressor._held_out
        return self

    def predict_proba(self, X: ArrayLike) -> np.ndarray:
        """Predict the probabilities of the classes.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features) or (n_samples,) + input_shape

        Returns
        -------
        ndarray of shape (n_samples, n_classes)

        Raises
        ------
        sklearn.exceptions.NotFittedError
            Before ``fit``.
        ValueError
            If X has another number of features than in ``fit``, or NaN or inf.
        """
        check_is_fitted(self)
        shape = self.regressor_.features_.input_shape_
        X = check_new_rows(self, X, shape, ensure_all_finite=True)
        scores = np.reshape(self.regressor_._predict(X, False), (len(X), -1))
        return calibrated(scores, self.factor_, self.prior_, self.prior_weight_)

    def predict_log_proba(self, X: ArrayLike) -> np.ndarray:
        """Predict the logarithms of the probabilities of the classes.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features) or (n_samples,) + input_shape

        Returns
        -------
        ndarray of shape (n_samples, n_classes)
        """
        return np.log(self.predict_proba(X))

    def predict(self, X: ArrayLike) -> np.ndarray:
        """Predict the most probable class.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features) or (n_samples,) + input_shape

        Returns
        -------
        ndarray of shape (n_samples,)
        """
        most_probable = self.predict_proba(X).argmax(axis=1)
        return self.classes_[most_probable]
