"""Prediction intervals of all regressors."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike
from sklearn.utils.validation import check_is_fitted

from skdeeptd._solvers.conformal import fewest_rows, score_quantile
from skdeeptd._validation import warn


class IntervalMixin:
    """Predict intervals that contain a new y with a given probability.

    A subclass stores ``conformity_scores_`` and ``conformity_weight_``, and returns the
    prediction and its spread in ``_mean_and_spread``, (rows, outputs) each.
    """

    conformity_scores_: np.ndarray
    conformity_weight_: np.ndarray
    _y_ndim: int
    _mean_and_spread: Callable[[ArrayLike], tuple[np.ndarray, np.ndarray]]

    def predict_interval(self, X: ArrayLike, coverage: float = 0.9) -> np.ndarray:
        """Predict an interval for a new y of each sample.

        The intervals are conformal: they contain new values of y with about the
        probability ``coverage``, if new samples are drawn like those of the fit.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features) or (n_samples,) + input_shape
        coverage : float, default=0.9
            Probability between 0 and 1. A finite interval needs at least
            ``coverage / (1 - coverage)`` training samples; with fewer samples the
            bounds are infinite, with a warning.

        Returns
        -------
        ndarray of shape (n_samples, 2) or (n_samples, n_outputs, 2)
            Lower and upper bound. NaN if the fit has no standard deviations.

        Raises
        ------
        sklearn.exceptions.NotFittedError
            Before ``fit``.
        ValueError
            If ``coverage`` is not between 0 and 1, or if X is invalid.

        Notes
        -----
        The half width is a quantile of the absolute residuals of held-out samples, or
        of their ratio to the predicted standard deviation [1]_.

        References
        ----------
        .. [1] J. Lei, M. G'Sell, A. Rinaldo, R. Tibshirani, L. Wasserman.
           Distribution-free predictive inference for regression. JASA 113, 2018.
        """
        check_is_fitted(self)
        is_number = isinstance(coverage, int | float | np.number)
        if not is_number or not 0 < coverage < 1:
            raise ValueError(
                f"coverage must be a number between 0 and 1, such as 0.9, got "
                f"{coverage!r}"
            )
        y, spread = self._mean_and_spread(X)
        scores, weight = self.conformity_scores_, self.conformity_weight_
        factor = score_quantile(scores, weight, coverage)
        if np.any(np.isnan(spread)):
            warn(
                "the intervals are NaN: the fit has no standard deviations, because it "
                "has one sample only, or as many weights as samples"
            )
        elif np.any(np.isinf(factor)):
            warn(
                f"the intervals are infinite: coverage={coverage:g} needs "
                f"{fewest_rows(coverage)} samples, but the fit has {len(scores)}; use "
                f"a smaller coverage or more samples"
            )
        with np.errstate(invalid="ignore"):  # NaN, and no spread times infinity
            half = np.where(spread == 0, 0, factor.astype(y.dtype) * spread)
        bounds = np.stack([y - half, y + half], axis=-1)
        if getattr(self, "link_", "identity") == "log":
            bounds = np.maximum(bounds, 0)
        return bounds[:, 0] if self._y_ndim == 1 else bounds
