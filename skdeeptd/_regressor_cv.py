"""DeepTDRegressorCV: the best of several models, or their best mean."""

from __future__ import annotations

import functools
from typing import Literal, overload

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import MultiOutputMixin, RegressorMixin, clone
from sklearn.metrics import check_scoring
from sklearn.model_selection import ParameterGrid
from sklearn.utils.validation import check_is_fitted, validate_data

from skdeeptd._base import check_rows, design_regression, flatten, like_y
from skdeeptd._base_cv import (
    FEW_ROWS,
    MOST_ROWS_OF_KERNEL,
    BasePatchCV,
    Predicted,
    few_weight_shapes,
    in_stage,
    plain_features,
)
from skdeeptd._compat import validate_parameter_constraints
from skdeeptd._data.scratch import reusing
from skdeeptd._data.threads import single_threaded_blas
from skdeeptd._features import DeepTDFeatures
from skdeeptd._network.fitted import predictions
from skdeeptd._regressor import DeepTDRegressor
from skdeeptd._ridge import DeepTDRidge
from skdeeptd._solver.choice import Candidate, SquaredErrors, path_of_alpha
from skdeeptd._fit import fit_rows

MODELS = {"linear": "ridge on filters", "rbf": "kernel ridge on filters"}
ON_FILTERS = [  # features, kernel
    ({}, "linear"),
    ({"activation": "tanh"}, "linear"),
    ({"pooling": "global"}, "linear"),
    ({"pooling": "both"}, "rbf"),
]
OF_ONE_UNIT = [  # where rows are few; of many these predict what the others do
    ({"standardize": False}, "linear"),
    ({"pooling": "both", "standardize": False}, "rbf"),
]


class _Known(RegressorMixin, Predicted):
    """What a scorer needs of an estimator: predictions."""

    def __init__(self, predicted=None):
        self.predicted = predicted

    def predict(self, X):
        return self.predicted


class _Score:
    """The scorer's score of predictions of rows held out."""

    def __init__(self, scorer, weighted, y_ndim):
        self.scorer, self.weighted, self.y_ndim = scorer, weighted, y_ndim

    def __call__(self, predicted, rows):
        y, predicted = (like_y(a, self.y_ndim) for a in (rows.y, predicted))
        weight = {"sample_weight": rows.weight} if self.weighted else {}
        return self.scorer(_Known(predicted), rows.X, y, **weight)


def _run_network(spec, fold, stage, before):
    spec, known = in_stage(spec, stage, before)
    with single_threaded_blas(), reusing():
        fit = fit_rows(fold.train, spec, moment=fold.moment, warm_start=known)
        return predictions(fit.networks, fold.test.X), fit.networks


def _run_estimator(estimator, fold, _, before):
    fitted, rows = clone(estimator), fold.train
    with single_threaded_blas():
        fitted._learn(rows.X, rows.y, rows.weight, like=before)
        return fitted.predict(fold.test.X), fitted.features_


class DeepTDRegressorCV(MultiOutputMixin, RegressorMixin, BasePatchCV):
    """The best of several models of a patch structure, or their best weighted mean.

    Without arguments it compares, on folds:

    - ridge regression and kernel ridge regression;
    - both on filters, as :class:`DeepTDRidge` has it: ridge regression of three kinds
      (relu, tanh, global pooling), kernel ridge regression of one, and with up to 500
      samples of each one more, for features of one unit;
    - networks of :class:`DeepTDRegressor` of all shapes of at most three layers that
      tile the input and have no more than a weight for eight samples.

    The first two are fitted in closed form, and are what serves with few samples.
    Networks go through three stages, and few reach the last: without the polish; with
    one start and a short polish, after which those clearly behind the best candidate
    are left, by two standard errors of the paired difference over the folds; in full.
    In the second stage those that differ in ``alpha`` only are a path, each beginning
    with the network of the larger one before.

    The predictions of the rows held out then give the weights of a mean of several
    candidates; of networks only where one is the best candidate, or where a grid is
    given. It is the model, where it is better on these rows than the best candidate by
    itself, which otherwise is. Ridge regression keeps a part of the weight where the
    lead over it is smaller than two standard errors over the folds, and all where there
    is none.

    Parameters
    ----------
    param_grid : dict of lists, or list of them, default=None
        Values of parameters of :class:`DeepTDRegressor`, as in
        :class:`~sklearn.model_selection.ParameterGrid`: the networks to compare, in
        place of all of the above but ridge regression.
    input_shape : sequence of int, default=None
        Shape of a sample, where X has a flat row for each; None for one axis, or the
        shape of X itself.
    ensemble_size : int, default=8
        Candidates that may have a weight, for each output; 1 for the best one only.
    max_time : float, default=None
        Seconds for the fit, of which six tenths are for the comparison; None for no
        limit. What is expected to take longer is left out, with a warning, and the best
        of the rest is the model, which is ridge regression if need be. What a fit takes
        is judged by its first fold, and that by the stage before or by a quarter of the
        rows.
    cv : int, cross-validation splitter or iterable, default=None
        As in :class:`~sklearn.model_selection.GridSearchCV`. None for ten folds, or
        three where there are more than 500 samples; they are not shuffled.
    scoring : str or callable, default=None
        What ranks the candidates; None for R2. The weights are those of least squares.
    n_jobs : int, default=None
        Candidates that are fitted at a time.
    random_state : int, RandomState instance or None, default=None
    verbose : int, default=0
        Whether to print a line for each stage.

    Attributes
    ----------
    estimators_ : list
        The candidates that have a weight, fitted to all samples: each a
        :class:`DeepTDRegressor` or a :class:`DeepTDRidge`.
    weights_ : ndarray of shape (n_estimators, n_outputs)
        Not negative, of sum one for each output.
    best_estimator_ : DeepTDRegressor or DeepTDRidge
        The best candidate by itself, fitted to all samples.
    best_params_ : dict
    best_index_ : int
        Of the best candidate in ``cv_results_``.
    best_score_ : float
        Its mean score on the rows held out.
    cv_results_ : dict of arrays
        As in GridSearchCV, with an entry per candidate. "estimator" holds them
        unfitted; "stage" the last stage of each, from 1 to 3, or 0 where there was no
        time for it: it ranks behind all that got further; "weight" its mean weight.
    scorer_ : callable
    n_splits_ : int
    input_shape_ : tuple of int
    n_features_in_, feature_names_in_
        As in DeepTDRegressor.

    References
    ----------
    .. [1] L. Breiman. Stacked regressions. Machine Learning 24, 1996.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from skdeeptd import DeepTDRegressorCV
    >>> X, digit = load_digits(return_X_y=True)
    >>> X, y = X.reshape(-1, 8, 8), digit % 2
    >>> model = DeepTDRegressorCV(random_state=0).fit(X[:150], y[:150])
    >>> bool(model.score(X[150:], y[150:]) > 0.7)
    True
    """

    _n_folds = (10, 3)

    def _check(self, X, y, sample_weight):
        data, self._y_ndim = check_rows(self, X, y, sample_weight)
        return data

    def _strata(self, rows):
        return rows.y

    def _candidates(self, folds):
        """Unfitted estimators, and what is compared of each.

        Of linear ones in a grid those with the fewest filters: the others are the same.
        """
        n_rows = max(np.count_nonzero(fold.train.weight) for fold in folds)
        common = self._common()
        ridge = DeepTDRidge(plain_features(common))
        found = [_closed(ridge, {"model": "ridge"}, "linear")]
        if self.param_grid is None:
            shapes = few_weight_shapes(self.input_shape_, n_rows)
            grid = [{"kernel_sizes": of_network} for of_network in shapes]
            found += [
                (estimator, candidate)
                for estimator, candidate in _regressions(common, n_rows <= FEW_ROWS)
                if estimator.kernel == "linear" or n_rows <= MOST_ROWS_OF_KERNEL
            ]
        else:
            grid = list(ParameterGrid(self.param_grid))
        networks = [
            _network(DeepTDRegressor(**{**common, **params}), params, folds[0].train)
            for params in grid
        ]
        fewest = min((e.n_filters for e, _ in networks), default=1)
        found += [
            (estimator, candidate)
            for estimator, candidate in networks
            if candidate.kind == "network" or estimator.n_filters == fewest
        ]
        return zip(*found, strict=True)

    def _in_race(self, candidates, mean):
        """Networks only where one is the best, or where all others are linear."""
        in_race = super()._in_race(candidates, mean)
        kinds = np.array([candidate.kind for candidate in candidates])
        if kinds[self.best_index_] == "network" or "closed" not in kinds:
            return in_race
        return in_race[kinds[in_race] != "network"]

    def _scorer(self, weighted):
        self.scorer_ = check_scoring(_Known(), scoring=self.scoring)
        return _Score(self.scorer_, weighted, self._y_ndim)

    def _mixtures(self, predicted, folds):
        """One of each output."""
        y = np.concatenate([fold.test.y for fold in folds])
        weight = np.concatenate([fold.test.weight for fold in folds])
        return [
            SquaredErrors(predicted[:, :, output], y[:, output], weight)
            for output in range(y.shape[1])
        ]

    def _fitted(self, estimator, rows):
        y = like_y(rows.y, self._y_ndim)
        return clone(estimator).fit(rows.X, y, rows.weight)

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
        """Weighted mean of the predictions of the members.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features) or (n_samples,) + input_shape
        return_std : bool, default=False
            Whether to return a standard deviation of the mean of y too: the root of
            the weighted mean of the members' variances and of the squares of their
            distances from the prediction.

        Returns
        -------
        y : ndarray of shape (n_samples,) or (n_samples, n_outputs)
        y_std : ndarray of the same shape
            Only with ``return_std``; NaN where a member's is.

        Raises
        ------
        sklearn.exceptions.NotFittedError
            Before ``fit``.
        ValueError
            Where X has another number of features than in ``fit``, or NaN or inf.
        """
        check_is_fitted(self)
        X, _ = flatten(X, self.input_shape_)
        X = validate_data(self, X, dtype=[np.float64, np.float32], reset=False)
        with single_threaded_blas():
            predicted = [
                getattr(e, "_predict", e.predict)(X, return_std=return_std)
                for e in self.estimators_
            ]
        means = [m[0] if return_std else m for m in predicted]
        weights = like_y(self.weights_, self._y_ndim)[:, np.newaxis].astype(X.dtype)
        y = np.sum(weights * means, axis=0)
        if not return_std:
            return y
        variances = [std**2 + (mean - y) ** 2 for mean, std in predicted]
        return y, np.sqrt(np.sum(weights * variances, axis=0))


def _regressions(common, few_rows):
    """What is compared with ridge regression; those with the same filters on a path."""
    plain = DeepTDRidge(plain_features(common), kernel="rbf")
    yield _closed(plain, {"model": "kernel ridge"})
    on_filters = ON_FILTERS + OF_ONE_UNIT if few_rows else ON_FILTERS
    for place, (params, kernel) in enumerate(on_filters):
        features = DeepTDFeatures(**params, **common)
        named = {"model": MODELS[kernel], **params}
        path = ("filters", features.standardize), place
        yield _closed(DeepTDRidge(features, kernel=kernel), named, path=path)


def _closed(estimator, params, kind="closed", path=None):
    run = functools.partial(_run_estimator, estimator)
    return estimator, Candidate(params, kind, run, path)


def _network(estimator, params, rows):
    validate_parameter_constraints(
        DeepTDRegressor._parameter_constraints,
        estimator.get_params(deep=False),
        caller_name="DeepTDRegressor",
    )
    _, spec = design_regression(estimator, rows, estimator.input_shape)
    kind = "linear" if not spec.blank.kernels else "network"
    run = functools.partial(_run_network, spec)
    return estimator, Candidate(params, kind, run, path_of_alpha(params))
