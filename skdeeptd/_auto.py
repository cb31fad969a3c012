"""DeepTDAutoRegressor and DeepTDAutoClassifier: weighted averages of models."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Sequence
from numbers import Integral
from typing import Any, Literal, overload

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator, clone

from skdeeptd._classifier import CLASS_WEIGHT
from skdeeptd._compat import Interval
from skdeeptd._data.signals import signal_layout
from skdeeptd._features import DeepTDFeatures, SignalScaler
from skdeeptd._regressor import DeepTDRegressor
from skdeeptd._ridge import DeepTDRidge
from skdeeptd._ridge_classifier import DeepTDRidgeClassifier
from skdeeptd._search import STEPS, Candidate, Evaluation, clock, fit_candidate
from skdeeptd._search_cv import (
    BaseSearch,
    ClassificationSearch,
    RegressionSearch,
    held_out_weights,
)
from skdeeptd._stacking import (
    LEAST_PROBABILITY,
    heaviest,
    log_loss_weights,
    squared_error_weights,
)
from skdeeptd._typing import RandomState
from skdeeptd._validation import like_y, warn, warn_of_nan_deviations


class BaseAuto(BaseSearch):
    """Average the best of linear models, kernel models and networks.

    A subclass returns a function for each average in ``_weight_functions``. The
    function takes some models, an index, and returns the weights of smallest loss.
    """

    estimators_: list[Any]
    weights_: np.ndarray
    _time_fraction = 0.6
    _pools_folds = True
    _parameter_constraints: dict = {
        **BaseSearch._parameter_constraints,
        "extra_estimators": [list, tuple, None],
        "ensemble_size": [Interval(Integral, 1, None, closed="left")],
    }

    def __init__(
        self,
        *,
        input_shape: Sequence[int] | None = None,
        covariates: Sequence[int | str] | None = None,
        extra_estimators: Sequence[tuple[str, BaseEstimator]] | None = None,
        ensemble_size: int = 8,
        max_time: float | None = None,
        cv: Any = None,
        scoring: str | Callable | None = None,
        n_jobs: int | None = None,
        random_state: RandomState = None,
        verbose: int = 0,
    ) -> None:
        self.input_shape = input_shape
        self.covariates = covariates
        self.extra_estimators = extra_estimators
        self.ensemble_size = ensemble_size
        self.max_time = max_time
        self.cv = cv
        self.scoring = scoring
        self.n_jobs = n_jobs
        self.random_state = random_state
        self.verbose = verbose

    def _candidates(self, n_rows, variance):
        """Return the candidates; the first one is a fast linear model."""
        return [
            *self._linear_and_kernel_candidates(n_rows),
            *self._network_candidates(None, n_rows, variance),
            *self._extra_candidates(),
        ]

    def _linear_and_kernel_candidates(self, n_rows, few_rows=20, many_rows=20_000):
        """Return candidates on several features, ridge regression the first one.

        Few rows cannot rank many candidates; the responses of filters to many rows
        would take gigabytes. A Laplace kernel on filters and an RBF kernel on the
        SNV-corrected signal are left out. Without them the mean R2 of 45 data sets is
        higher by 0.004, and the mean rank is the same.
        """
        make, name = self._kernel_model
        common = self._common_params()
        found = []
        for kind, transformer in signal_features(self.input_shape_).items():
            if not few_rows <= n_rows <= many_rows and kind != "the signal":
                continue
            of_kind = {}
            if kind in ("the signal", "filters in 4 parts"):
                of_kind[f"{name} on {kind}"] = {}
            has_filters = isinstance(transformer, DeepTDFeatures)  # slow to learn
            kernels = ["rbf", "laplace"]
            if has_filters:
                kernels.remove("laplace")
            elif transformer.view == "snv":
                kernels.remove("rbf")
            for kernel in kernels:
                words = f"kernel {name} ({kernel}, learned metric) on {kind}"
                of_kind[words] = {"kernel": kernel, "metric": "learned"}
            for place, (words, params) in enumerate(of_kind.items()):
                model = make(transformer, **params, **common)
                path = (kind, place) if has_filters else None
                found.append(Candidate(model, {"model": words}, path=path))
        return found

    def _extra_candidates(self):
        """Check ``extra_estimators``, and return a candidate for each."""
        method, remedy = "predict", "use a regressor, such as SVR()"
        if hasattr(self, "classes_"):
            method, remedy = "predict_proba", "wrap it in CalibratedClassifierCV"
        found = {}
        for entry in self.extra_estimators or ():
            is_pair = isinstance(entry, list | tuple) and len(entry) == 2
            if not is_pair or not isinstance(entry[0], str):
                raise TypeError(
                    f"extra_estimators must be pairs of a name and an estimator, such "
                    f"as [('svr', SVR())], got {entry!r}"
                )
            name, estimator = entry
            if name in found:
                raise ValueError(
                    f"extra_estimators has two estimators named {name!r}; give each a "
                    f"name of its own"
                )
            needed = "fit", "get_params", method
            missing = [n for n in needed if not hasattr(estimator, n)]
            if missing or isinstance(estimator, type):
                raise TypeError(
                    f"{name!r} in extra_estimators must be an unfitted estimator with "
                    f"{method}, got {estimator!r}, which has no "
                    f"{' and no '.join(missing) or 'parameters yet'}; {remedy}"
                )
            found[name] = Candidate(estimator, {"model": name})
        return list(found.values())

    def _refit(self, candidates, table, folds, rows, stage, begin):
        """Fit the best candidate, and in time all with a weight, to all rows.

        A fit takes as long as the slowest one of a fold, times the square of the ratio
        of the rows.
        """
        weights, best = self._stack(candidates, table, folds), self.best_index_
        column = np.empty(len(candidates), dtype=object)
        column[:] = [candidate.estimator for candidate in candidates]
        mean = weights.mean(axis=1)
        self.cv_results_.update(estimator=column, weight=mean)
        growth = len(rows[0]) / min(len(fold.X) for fold in folds)
        seconds = table.column("fit_time").max(axis=1) * growth**2
        end = begin + (self.max_time or math.inf)
        members = [i for i in np.argsort(-mean, kind="stable") if mean[i] > 0]
        times = {i: seconds[i] for i in [best, *members]}
        fitted = {}
        with stage(STEPS[-1], times, end) as done:
            for i in times:
                if i == best or clock() + seconds[i] <= end:
                    fitted[i] = fit_candidate(clone(column[i]), *rows)
                    done({i: f"weight {mean[i]:.2g}"})
        kept = [i for i in members if i in fitted]
        if len(kept) < len(members):
            warn(
                f"max_time={self.max_time:g} left no time to fit "
                f"{len(members) - len(kept)} of {len(members)} members of the average "
                f"to all rows"
            )
        if not kept or not np.all(weights[kept].any(axis=0)):  # nothing for an output
            kept, weights[best] = [best], 1.0
        self.estimators_ = [fitted[i] for i in kept]
        self.weights_ = weights[kept] / weights[kept].sum(axis=0)
        self.best_estimator_ = fitted[best]
        used = np.zeros_like(weights)
        used[kept] = self.weights_
        return used

    def _stack(self, candidates, table, folds):
        """Return the weights of the candidates: (candidates, outputs).

        Networks have a weight only if one of them is the best candidate.
        """
        scores, best = table.column("score").mean(axis=1), self.best_index_
        is_network = np.array([bool(candidate.early) for candidate in candidates])
        reached = np.isfinite(scores) & (table.stages == table.stages[best])
        members = np.flatnonzero(reached & (is_network[best] | ~is_network))
        predicted = np.stack(
            [np.concatenate([r.predicted for r in table.results[i]]) for i in members]
        )
        y = np.concatenate([fold.y_test for fold in folds])
        functions = self._weight_functions(predicted, y, held_out_weights(folds))
        weights = np.zeros((len(candidates), len(functions)))
        if self.ensemble_size == 1:
            weights[best] = 1
            return weights
        for output, weigh in enumerate(functions):
            weights[members, output] = heaviest(weigh, len(members), self.ensemble_size)
        return weights


def signal_features(input_shape):
    """Return the transformers to compare by name, the fastest ones first."""
    layout = signal_layout(input_shape)
    has_views = layout.n_channels == 1 and layout.is_one_axis_of(10)
    found = {"the signal": SignalScaler()}
    if has_views:
        found["the derivative"] = SignalScaler("derivative")
        found["the SNV-corrected signal"] = SignalScaler("snv")
    found["filters"] = DeepTDFeatures()
    found["filters in 4 parts"] = DeepTDFeatures(pooling=4)
    if has_views:
        found["filters of the derivative"] = DeepTDFeatures(view="derivative")
    return found


class DeepTDAutoRegressor(RegressionSearch, BaseAuto):
    """Weighted average of the best of many models, without parameters to tune.

    >>> from sklearn.datasets import load_digits
    >>> from skdeeptd import DeepTDAutoRegressor
    >>> X, digit = load_digits(return_X_y=True)
    >>> X, y = X.reshape(-1, 8, 8), digit % 2
    >>> model = DeepTDAutoRegressor(random_state=0).fit(X[:150], y[:150])
    >>> bool(model.score(X[150:], y[150:]) > 0.7)
    True
    >>> "on filters" in model.leaderboard()["model"][0]
    True

    The candidates are ridge and kernel ridge regressions on the signal, its derivative
    and convolutional filters (:class:`DeepTDRidge`), and networks
    (:class:`DeepTDRegressor`). Candidates are compared by cross-validation, and the
    best ones are averaged (stacking). See Notes.

    Parameters
    ----------
    input_shape : sequence of int, default=None
        Shape of a sample, if X has a flat row for each. None means one axis, or the
        shape of X itself.
    covariates : sequence of int or str, default=None
        Indices or names of columns of X that are not part of the signal, such as a
        temperature or the one-hot columns of a category. X then has a flat row for each
        sample; the other columns, in their order, are the signal.
    extra_estimators : list of (str, estimator) pairs, default=None
        Regressors of your own to compare, such as ``[("pls", PLSRegression(5))]``. They
        get X with a flat row for each sample, covariates included.
    ensemble_size : int, default=8
        Largest number of models in the average, for each output; 1 means the best model
        alone.
    max_time : float, default=None
        Seconds for the fit, 60 % of them for the comparison; None for no limit.
        Candidates that are expected to exceed the limit are skipped, with a warning.
        The comparison of ridge regression on the signal, and the fit of the best
        candidate to all samples, are never skipped and can exceed the limit.
    cv : int, cross-validation splitter or iterable, default=None
        As in :class:`DeepTDRegressorCV`. By default folds are contiguous blocks if
        neighbouring samples are alike, as in a time series.
    scoring : str or callable, default=None
        Score that ranks the candidates, as in
        :class:`~sklearn.model_selection.GridSearchCV`. None means R2, relative to the
        variance of y in all samples. The weights of the average always minimize the
        squared error.
    n_jobs : int, default=None
        Number of candidates that are fitted at the same time, as in joblib.
    random_state : int, RandomState instance or None, default=None
        Seed of the candidates of this package.
    verbose : int, default=0
        Whether to print a line for each candidate in each step of the comparison, with
        the seconds that the step has taken and is expected to take.

    Attributes
    ----------
    estimators_ : list
        The models of the average, fitted to all samples.
    weights_ : ndarray of shape (n_estimators, n_outputs)
        Weights of the models, not negative, with sum one for each output.
    best_estimator_ : estimator
        The best single candidate, fitted to all samples.
    best_params_ : dict
        Parameters that identify the best candidate: "model", or "kernel_sizes" for a
        network.
    best_index_ : int
        Index of the best candidate in ``cv_results_``.
    best_score_ : float
        Mean score of the best candidate on the held-out samples.
    noise_variance_ : ndarray of shape (n_outputs,)
        Mean of the squared residuals of the average on the held-out samples.
    conformity_scores_, conformity_weight_ : ndarray
        Absolute residuals of the held-out samples, (n_samples, n_outputs), and their
        weights, (n_samples,), for ``predict_interval``.
    cv_results_ : dict of arrays
        As in GridSearchCV, with an entry for each candidate. "estimator" holds the
        unfitted candidates, "weight" their weights, averaged over the outputs, and
        "stage" the last stage of each, from 1 to 3, or 0 if it was skipped. A candidate
        that stopped after the first fold has stage 1, NaN for the other folds, and the
        score of the first fold as its mean.
    n_splits_ : int
        Number of folds.
    input_shape_ : tuple of int
    covariate_indices_ : ndarray of shape (n_covariates,)
        Columns of X that are covariates.
    n_features_in_, feature_names_in_
        As in DeepTDRegressor.

    See Also
    --------
    DeepTDRegressorCV : Finds the best network of a grid.

    Notes
    -----
    The candidates are:

    - ridge regression on the signal, and on filters pooled over four parts of each
      axis;
    - kernel ridge regression with a learned metric: with an "rbf" and with a "laplace"
      kernel on the signal, and with an "rbf" kernel on filters pooled over the whole
      axis and over four parts. Signals of one channel with at least ten values on one
      axis also enter as their derivative ("rbf", "laplace"), as filters of the
      derivative ("rbf"), and as their standard normal variate ("laplace");
    - networks of two or three layers that tile the input and have at most one weight
      for eight samples (the most even shapes, about 60 at most), in the stages of
      :class:`DeepTDRegressorCV`;
    - the ``extra_estimators``.

    If all folds have fewer than 20 training samples, or one has more than 20 000, then
    ridge and kernel ridge regression are compared on the signal only.

    A candidate is dropped after the first fold if its mean squared error there is more
    than 2.5 times the smallest one, and if the difference is more than three standard
    errors. Ridge regression on the signal is never dropped. No candidate is dropped if
    ``scoring`` is given, or if the fold holds out fewer than 25 samples.

    The weights minimize the squared error on the held-out samples [1]_ plus a ridge
    penalty, because the best weights are uncertain with few samples. The penalty
    shrinks the weights towards weights proportional to the mean squared error to the
    power -4. Networks are part of an average only if one of them is the best candidate.

    References
    ----------
    .. [1] L. Breiman. Stacked regressions. Machine Learning 24, 1996.
    """

    _kernel_model = DeepTDRidge, "ridge"

    def _weight_functions(self, predicted, y, weight):
        y = y.reshape(len(y), -1)
        return [
            lambda models, k=k: squared_error_weights(
                predicted[models, :, k], y[:, k], weight
            )
            for k in range(y.shape[1])
        ]

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
        """Predict the weighted average of the models.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features) or (n_samples,) + input_shape
        return_std : bool, default=False
            Whether to return the standard deviation of the mean of y, too. Its square
            is the weighted average of the models' variances and of their squared
            distances from the prediction.

        Returns
        -------
        y : ndarray of shape (n_samples,) or (n_samples, n_outputs)
        y_std : ndarray of the same shape
            Only with ``return_std``; NaN, with a warning, if that of a model is.

        Raises
        ------
        sklearn.exceptions.NotFittedError
            Before ``fit``.
        ValueError
            If X has another number of features than in ``fit``, or NaN or infinity.
            With ``return_std`` also if a model of the average has no standard
            deviation.
        """
        X = self._transform_input(X)
        shape = (len(X), -1)
        if not return_std:
            means = [np.reshape(_predict(e, X), shape) for e in self.estimators_]
        else:
            for estimator in self.estimators_:
                if "return_std" not in inspect.signature(estimator.predict).parameters:
                    raise ValueError(
                        f"return_std=True needs a standard deviation from every model "
                        f"of the average, but {type(estimator).__name__} has none; "
                        f"leave it out of extra_estimators"
                    )
            both = [_predict(e, X, return_std=True) for e in self.estimators_]
            means, stds = ([np.reshape(p[i], shape) for p in both] for i in (0, 1))
        weights = self.weights_[:, np.newaxis].astype(X.dtype)
        y = np.sum(weights * means, axis=0)
        if not return_std:
            return like_y(y, self._y_ndim)
        squares = np.square(stds) + np.square(np.subtract(means, y))
        std = np.sqrt(np.sum(weights * squares, axis=0))
        if np.any(np.isnan(std)):
            warn_of_nan_deviations()
        return like_y(y, self._y_ndim), like_y(std, self._y_ndim)


def _predict(estimator, X, return_std=False):
    """Predict for validated X; members of this package do not validate again."""
    if isinstance(estimator, DeepTDRidge | DeepTDRegressor):
        return estimator._predict(X, return_std)
    return estimator.predict(X, return_std=True) if return_std else estimator.predict(X)


class DeepTDAutoClassifier(ClassificationSearch, BaseAuto):
    """Weighted average of the best of many classifiers, without parameters to tune.

    >>> from sklearn.datasets import load_digits
    >>> from skdeeptd import DeepTDAutoClassifier
    >>> X, digit = load_digits(return_X_y=True)
    >>> X = X.reshape(-1, 8, 8)
    >>> model = DeepTDAutoClassifier(random_state=0).fit(X[::9], digit[::9])
    >>> bool(model.score(X[1::9], digit[1::9]) > 0.9)
    True

    The candidates are ridge and kernel ridge regressions with calibrated probabilities,
    on the signal, its derivative and convolutional filters
    (:class:`DeepTDRidgeClassifier`), and networks (:class:`DeepTDClassifier`).
    Candidates are compared by cross-validation, and the probabilities of the best ones
    are averaged (stacking). See Notes.

    Parameters
    ----------
    input_shape : sequence of int, default=None
        Shape of a sample, if X has a flat row for each. None means one axis, or the
        shape of X itself.
    covariates : sequence of int or str, default=None
        As in DeepTDAutoRegressor.
    extra_estimators : list of (str, estimator) pairs, default=None
        Classifiers of your own with ``predict_proba`` to compare, such as
        ``[("forest", RandomForestClassifier())]``. They get X with a flat row for each
        sample, covariates included.
    class_weight : dict, "balanced" or None, default=None
        Weights of the classes, as in :class:`DeepTDClassifier`, for all fits, scores
        and the weights of the average.
    ensemble_size : int, default=8
        Largest number of models in the average; 1 means the best model alone.
    max_time : float, default=None
        As in DeepTDAutoRegressor.
    cv : int, cross-validation splitter or iterable, default=None
        As in :class:`DeepTDClassifierCV`. By default folds are contiguous blocks if
        neighbouring samples are alike, as in a time series.
    scoring : str or callable, default=None
        Score that ranks the candidates, as in
        :class:`~sklearn.model_selection.GridSearchCV`. None means the mean
        log-likelihood. The weights of the average always maximize the likelihood.
    n_jobs : int, default=None
        Number of candidates that are fitted at the same time, as in joblib.
    random_state : int, RandomState instance or None, default=None
        Seed of the candidates of this package.
    verbose : int, default=0
        Whether to print a line for each candidate in each step of the comparison, with
        the seconds that the step has taken and is expected to take.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        Classes of the samples whose weight is not zero.
    estimators_ : list
        The models of the average, fitted to all samples: of type DeepTDRidgeClassifier
        or DeepTDClassifier, or from ``extra_estimators``.
    weights_ : ndarray of shape (n_estimators,)
        Weights of the models, not negative, with sum one.
    best_estimator_, best_params_, best_index_, best_score_, cv_results_, n_splits_, \
input_shape_, covariate_indices_
        As in DeepTDAutoRegressor.
    n_features_in_, feature_names_in_
        As in DeepTDClassifier.

    See Also
    --------
    DeepTDClassifierCV : Finds the best network of a grid.

    Notes
    -----
    The candidates are like those of :class:`DeepTDAutoRegressor`: ridge and kernel
    ridge classifiers on the same signals and filters, networks, and the
    ``extra_estimators``. Candidates are dropped by the same rules, with the log loss in
    place of the squared error. The weights maximize the likelihood of the held-out
    samples, with a penalty of the same kind.
    """

    _kernel_model = DeepTDRidgeClassifier, "ridge classifier"
    _parameter_constraints: dict = {
        **BaseAuto._parameter_constraints,
        "class_weight": CLASS_WEIGHT,
    }

    def __init__(
        self,
        *,
        input_shape: Sequence[int] | None = None,
        covariates: Sequence[int | str] | None = None,
        extra_estimators: Sequence[tuple[str, BaseEstimator]] | None = None,
        class_weight: dict | str | None = None,
        ensemble_size: int = 8,
        max_time: float | None = None,
        cv: Any = None,
        scoring: str | Callable | None = None,
        n_jobs: int | None = None,
        random_state: RandomState = None,
        verbose: int = 0,
    ) -> None:
        super().__init__(
            input_shape=input_shape,
            covariates=covariates,
            extra_estimators=extra_estimators,
            ensemble_size=ensemble_size,
            max_time=max_time,
            cv=cv,
            scoring=scoring,
            n_jobs=n_jobs,
            random_state=random_state,
            verbose=verbose,
        )
        self.class_weight = class_weight

    def _weight_functions(self, predicted, y, weight):
        place = slice(None), np.arange(len(y)), np.searchsorted(self.classes_, y)
        return [lambda models: log_loss_weights(predicted[models][place], weight)]

    def _refit(self, *args):
        super()._refit(*args)
        self.weights_ = self.weights_[:, 0]

    def predict_proba(self, X: ArrayLike) -> np.ndarray:
        """Predict the weighted average of the probabilities of the models.

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
            If X has another number of features than in ``fit``, or NaN or infinity.
        """
        X = self._transform_input(X)
        predict = Evaluation(self.classes_, None).predict
        parts = [predict(estimator, X) for estimator in self.estimators_]
        return np.tensordot(self.weights_, parts, axes=1)

    def predict_log_proba(self, X: ArrayLike) -> np.ndarray:
        """Predict the logarithms of the probabilities, with a lower bound of 1e-15.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features) or (n_samples,) + input_shape

        Returns
        -------
        ndarray of shape (n_samples, n_classes)
        """
        return np.log(np.maximum(self.predict_proba(X), LEAST_PROBABILITY))

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
