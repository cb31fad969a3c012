"""DeepTDRegressorCV and DeepTDClassifierCV: search over a grid of networks."""

from __future__ import annotations

import functools
import importlib
import itertools
import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from numbers import Integral, Real
from typing import Any, Literal, Self, overload

import numpy as np
from joblib import effective_n_jobs
from numpy.typing import ArrayLike
from sklearn import get_config
from sklearn.base import (
    BaseEstimator,
    ClassifierMixin,
    MultiOutputMixin,
    RegressorMixin,
    clone,
    is_classifier,
)
from sklearn.exceptions import FitFailedWarning
from sklearn.metrics import check_scoring
from sklearn.model_selection import ParameterGrid, PredefinedSplit, check_cv
from sklearn.utils import check_random_state
from sklearn.utils.metadata_routing import (
    MetadataRouter,
    MethodMapping,
    process_routing,
)
from sklearn.utils.parallel import Parallel, delayed
from sklearn.utils.validation import check_is_fitted

from skdeeptd._classifier import (
    CLASS_WEIGHT,
    DeepTDClassifier,
    check_labels,
    classes_of,
    default_n_filters,
    with_class_weight,
)
from skdeeptd._compat import (
    CallbackSupportMixin,
    Interval,
    callback_task,
    fit_context,
    validate_parameter_constraints,
)
from skdeeptd._data.rows import distinct_rows
from skdeeptd._data.serial import rows_are_serial
from skdeeptd._data.threads import single_threaded_blas
from skdeeptd._intervals import IntervalMixin
from skdeeptd._network.kernel_sizes import default_grid
from skdeeptd._regressor import DeepTDRegressor
from skdeeptd._search import (
    STEPS,
    Candidate,
    Evaluation,
    Fold,
    candidate_names,
    clock,
    compare,
    fit_candidate,
    timed_stage,
)
from skdeeptd._typing import RandomState
from skdeeptd._validation import (
    EstimatorMixin,
    callback_stage,
    check_new_rows,
    check_rows,
    covariate_columns,
    flatten,
    like_y,
    refuse_not_finite,
    reporter,
    reset_on_fit,
    split_columns,
    warn,
)


class BaseSearch(EstimatorMixin, CallbackSupportMixin, BaseEstimator):
    """Compare candidates on folds, and fit the selected model to all samples.

    A subclass returns the candidates in ``_candidates`` and fits the model in
    ``_refit``; ``RegressionSearch`` and ``ClassificationSearch`` check y and score.
    """

    best_estimator_: Any
    best_params_: dict[str, Any]
    best_index_: int
    best_score_: float
    cv_results_: dict[str, Any]
    n_splits_: int
    input_shape_: tuple[int, ...]
    covariate_indices_: np.ndarray
    _time_fraction = 1.0  # of max_time, for the comparison
    _pools_folds = False  # whether R2 is that of the held-out rows of all folds
    _parameter_constraints: dict = {
        "input_shape": ["array-like", None],
        "covariates": ["array-like", None],
        "max_time": [Interval(Real, 0, None, closed="neither"), None],
        "cv": ["cv_object"],
        "scoring": [str, callable, None],
        "n_jobs": [Integral, None],
        "random_state": ["random_state"],
        "verbose": ["verbose"],
    }

    @reset_on_fit
    @fit_context(prefer_skip_nested_validation=False)
    def fit(
        self,
        X: ArrayLike,
        y: ArrayLike,
        sample_weight: ArrayLike | None = None,
        **params: Any,
    ) -> Self:
        """Compare the candidates on folds, and fit the selected model to all samples.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features) or (n_samples,) + input_shape
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
            Numbers for a regressor; labels of shape (n_samples,) for a classifier.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights for the fits and the scores.
        **params : dict
            ``groups`` for the splitter. With metadata routing, also other arguments of
            the splitter.

        Returns
        -------
        estimator
            The fitted estimator itself.

        Raises
        ------
        ValueError, TypeError
            If X, y or a parameter is invalid, or if no candidate could be fitted.
        """
        begin = clock()
        split_params = self._route(params, sample_weight)
        context = self._init_callback_context(max_subtasks=len(STEPS))
        metadata = {"sample_weight": sample_weight}
        with callback_task(context, self, X=X, y=y, metadata=metadata):
            X, input_shape = flatten(X, self.input_shape, self.covariates)
            X, y, weight = self._check(X, y, sample_weight)
            refuse_not_finite(self, X, input_shape)
            columns = covariate_columns(self, input_shape)
            self.covariate_indices_, self.input_shape_ = columns
            given = None if np.all(weight == 1) else weight
            folds = self._folds(X, y, weight, given, split_params)
            n_rows = max(len(distinct_rows(f.X, f.y)[0]) for f in folds)
            signal, _ = split_columns(X, self.covariate_indices_)
            candidates = self._candidates(n_rows, _mean_variance(signal, weight))
            scorer = self.scoring
            if scorer is not None:
                scorer = check_scoring(candidates[0].estimator, scoring=scorer)
            has_single_rows = min(len(fold.y_test) for fold in folds) < 2
            is_pooled = self._pools_folds or has_single_rows
            evaluate = Evaluation(getattr(self, "classes_", None), scorer, is_pooled)
            names = candidate_names([candidate.params for candidate in candidates])
            report = reporter(self)
            report(f"{len(names)} candidates on {len(folds)} folds of {len(y)} samples")
            stage = functools.partial(
                timed_stage, callback_stage(self, context), report, names
            )
            with single_threaded_blas(), warnings.catch_warnings():
                # Short fits do not converge; the fit of all rows warns.
                warnings.simplefilter("ignore", UserWarning)
                table = compare(
                    candidates,
                    folds,
                    evaluate,
                    self._run_all,
                    stage,
                    end=begin + self._time_fraction * (self.max_time or math.inf),
                    n_at_a_time=effective_n_jobs(self.n_jobs),
                )
            _warn_of_failures(names, table, self.max_time)
            self._store_results(candidates, table)
            rows = _select(X, y, given, weight > 0)
            self._refit(candidates, table, folds, rows, stage, begin)
        return self

    def leaderboard(self) -> Any:
        """Return the candidates with their scores, the best one first.

        Returns
        -------
        DataFrame or list of dict
            A row for each candidate; a list if pandas is not installed. "model"
            describes the candidate in words, "mean_score" and "standard_error" are
            over the folds, and "weight" is that in the average, if there is one.
            "seconds" is the mean time of a fit. "stage" is the last stage that the
            candidate reached, from 1 to 3, or 0 if there was no time. A candidate that
            stopped after the first fold has stage 1 and no standard error.

        Raises
        ------
        sklearn.exceptions.NotFittedError
            Before ``fit``.
        """
        check_is_fitted(self)
        results = self.cv_results_
        n_other_folds = max(1, self.n_splits_ - 1)
        table = {
            "model": np.array(candidate_names(results["params"]), dtype=object),
            "mean_score": results["mean_test_score"],
            "standard_error": results["std_test_score"] / math.sqrt(n_other_folds),
            "weight": results.get("weight"),
            "seconds": results["mean_fit_time"],
            "stage": results["stage"],
        }
        order = np.argsort(results["rank_test_score"])
        table = {k: column[order] for k, column in table.items() if column is not None}
        try:
            return importlib.import_module("pandas").DataFrame(table)
        except ImportError:
            rows = zip(*table.values(), strict=True)
            return [dict(zip(table, row, strict=True)) for row in rows]

    def get_metadata_routing(self) -> MetadataRouter:
        """Route ``sample_weight`` to ``fit`` and everything else to the splitter.

        Returns
        -------
        sklearn.utils.metadata_routing.MetadataRouter
        """
        mapping = MethodMapping().add(caller="fit", callee="split")
        router = MetadataRouter(owner=self).add_self_request(self)
        is_splitter = hasattr(self.cv, "split")  # a generator would be used up here
        splitter = check_cv(self.cv if is_splitter else None)
        return router.add(splitter=splitter, method_mapping=mapping)

    def _route(self, params, sample_weight):
        if params and get_config()["enable_metadata_routing"]:
            routed = process_routing(self, "fit", sample_weight=sample_weight, **params)
            return routed.splitter.split
        if set(params) - {"groups"}:
            raise ValueError(
                f"{sorted(params)} can only be passed to fit with metadata routing: "
                f"sklearn.set_config(enable_metadata_routing=True)"
            )
        return params

    def _folds(self, X, y, weight, given, split_params):
        """Return the folds, without rows of weight zero."""
        signal, _ = split_columns(X, self.covariate_indices_)
        cv = self._default_folds(signal, y, weight) if self.cv is None else self.cv
        splitter, folds = check_cv(cv, y, classifier=is_classifier(self)), []
        for number, split in enumerate(splitter.split(X, y, **split_params)):
            train, test = (
                _rows_of_weight(rows, weight, f"{side} rows of fold {number}")
                for side, rows in zip(("training", "held-out"), split, strict=True)
            )
            if not len(test):
                continue  # rows of weight zero have no score
            if not len(train):
                raise ValueError(
                    f"sample_weight is zero on all training rows of fold {number}; use "
                    f"cv=KFold(shuffle=True), or leave out rows of weight zero"
                )
            if is_classifier(self) and np.all(y[train] == y[train[0]]):
                raise ValueError(
                    f"the training samples of fold {number} have one class only, "
                    f"{y[train].tolist()[0]!r}; at least two classes need two samples "
                    f"each, and folds that leave a sample of each, as StratifiedKFold "
                    f"does"
                )
            sides = (_select(X, y, given, rows) for rows in (train, test))
            folds.append(Fold(*itertools.chain(*sides)))
        if not folds:
            raise ValueError(
                f"cv={self.cv!r} gives no folds; a generator can be used for one fit "
                f"only, a list of its folds for several"
            )
        self.n_splits_ = len(folds)
        return folds

    def _default_folds(self, signal, y, weight, few_rows=20, many_rows=500):
        """Return five folds, three for many rows, and single rows if they are few.

        Rows are shuffled and classes stratified. If neighbouring rows are alike, as in
        a time series, the folds are contiguous blocks. Rows of weight zero are in no
        fold. With ``scoring`` each fold has at least two rows.
        """
        kept = np.flatnonzero(weight > 0)
        if len(kept) < 2:
            raise ValueError(
                f"the comparison of models needs at least two samples, got {len(kept)}"
            )
        columns = [
            np.unique(column, return_inverse=True)[1]  # labels may be objects
            for column in y.reshape(len(y), -1)[kept].T
        ]
        labels = np.unique(columns, axis=1, return_inverse=True)[1].ravel()
        n_rows, fold = len(kept), np.full(len(y), -1)
        if n_rows < few_rows and self.scoring is None:
            fold[kept] = np.arange(n_rows)
            return PredefinedSplit(fold)
        n_splits = 5 if n_rows <= many_rows else 3
        n_splits = max(2, min(n_splits, n_rows // 2))
        if rows_are_serial(signal[kept], labels[:, np.newaxis]):
            fold[kept] = np.arange(n_rows) * n_splits // n_rows
            return PredefinedSplit(fold)
        order = np.random.RandomState(0).permutation(n_rows)
        if labels.max() < n_rows // 2:  # classes, or a column for each
            order = order[np.argsort(labels[order], kind="stable")]
        fold[kept[order]] = np.arange(n_rows) % n_splits
        return PredefinedSplit(fold)

    def _run_all(self, function, calls):
        """Yield the results of calls, each as soon as it and those before are there.

        They run in processes, or in threads, which start fast, if time is short.
        """
        prefer = None if self.max_time is None else "threads"
        make = functools.partial(Parallel, n_jobs=self.n_jobs, prefer=prefer)
        try:
            parallel = make(return_as="generator")
        except ValueError:  # the backend "multiprocessing" returns a list only
            parallel = make()
        return parallel(delayed(function)(*call) for call in calls)

    def _common_params(self):
        """Return the parameters that all candidates of this package have.

        The default shape of a sample is left out, so that candidates print briefly.
        """
        seed, shape = self.random_state, self.input_shape_
        if not isinstance(seed, Integral):
            seed = check_random_state(seed).randint(np.iinfo(np.int32).max)
        found = {} if shape == (self.n_features_in_,) else {"input_shape": shape}
        if len(self.covariate_indices_):
            found["covariates"] = self.covariate_indices_.tolist()
        return {**found, "random_state": seed}

    def _network_candidates(
        self,
        param_grid,
        n_rows,
        variance,
        rows_per_weight=8,
        max_layers=3,
        max_shapes=60,
    ):
        """Return the networks of a grid; None takes default ones with few weights.

        The penalty of default networks of classes is in units of the variance of X.
        """
        common, found = self._common_params(), []
        if is_classifier(self) and getattr(self, "param_grid", None) is None:
            common["alpha"] = variance
        if param_grid is None:
            n_logits = max(1, len(getattr(self, "classes_", ())) - 1)
            param_grid = [
                {"kernel_sizes": [sizes]}
                for sizes in default_grid(self.input_shape_, max_layers, max_shapes)
                if len(sizes) > 1
                and rows_per_weight * _n_free_weights(sizes, n_logits) <= n_rows
            ]
        for params in ParameterGrid(param_grid):
            for name in ("kernel_sizes", "input_shape"):
                if isinstance(params.get(name), Integral):
                    raise ValueError(
                        f"param_grid must have a list of values of {name}, such as "
                        f"[(4, 12)], got the single number {params[name]} as a value"
                    )
            estimator = self._network(**{**common, **params})
            validate_parameter_constraints(
                self._network._parameter_constraints,
                estimator.get_params(deep=False),
                caller_name=self._network.__name__,
            )
            found.append(network_candidate(estimator, params))
        return found

    def _store_results(self, candidates, table):
        """Store the table of GridSearchCV with stages, and the best candidate."""
        scores, params = table.column("score"), [c.params for c in candidates]
        mean, results = table.mean("score"), {"params": params}
        for name in ("fit_time", "score_time"):
            results[f"mean_{name}"] = table.mean(name)
            results[f"std_{name}"] = table.column(name).std(axis=1)
        for i, own in enumerate(params):
            for name, value in own.items():
                empty = np.ma.masked_all(len(params), dtype=object)
                results.setdefault(f"param_{name}", empty)[i] = value
        for fold, column in enumerate(scores.T):
            results[f"split{fold}_test_score"] = column
        results["mean_test_score"], results["std_test_score"] = mean, scores.std(axis=1)
        order = np.lexsort((-mean, -table.stages, np.isnan(mean)))
        results["rank_test_score"] = np.argsort(order).astype(np.int32) + 1
        results["stage"] = table.stages
        self.cv_results_ = results
        self.best_index_ = int(order[0])
        self.best_params_ = params[self.best_index_]
        self.best_score_ = float(mean[self.best_index_])

    def _transform_input(self, X):
        """Return X with a row for each sample, as the fitted models take it."""
        check_is_fitted(self)
        return check_new_rows(self, X, self.input_shape_, ensure_all_finite=True)

    def __sklearn_is_fitted__(self):
        return hasattr(self, "best_estimator_")


def _warn_of_failures(names, table, max_time):
    """Warn of errors, scores that are not finite, and candidates left out.

    Raises
    ------
    ValueError
        If no candidate has a finite score.
    """
    results = [
        (name, fold, result)
        for name, row in zip(names, table.results, strict=True)
        for fold, result in enumerate(row)
    ]
    failures = [(name, fold, r.error) for name, fold, r in results if r.error]
    first = "; {} on fold {}: {}".format(*failures[0]) if failures else ""
    if not np.any(np.isfinite(table.column("score").mean(axis=1))):
        why = first or "; R2 needs at least two held-out rows in each fold"
        raise ValueError(f"no candidate has a finite score on all folds{why}")
    if failures:
        failed = sorted({name for name, _, _ in failures})
        text = f"{len(failures)} fits on folds failed and were scored NaN, those of"
        warn(f"{text} {failed}{first}", FitFailedWarning)
    fitted = [(name, r.score) for name, _, r in results if r.predicted is not None]
    not_finite = [name for name, score in fitted if not np.isfinite(score)]
    if not_finite:
        not_finite = list(dict.fromkeys(not_finite))
        warn(f"one or more of the test scores are non-finite, those of {not_finite}")
    n_left = int(np.sum(table.stages == 0))
    if n_left:
        warn(
            f"max_time={max_time:g} was too short to compare {n_left} of "
            f"{len(table.stages)} candidates"
        )


@np.errstate(over="ignore", invalid="ignore")
def _mean_variance(X, weight):
    """Return the mean over the features of their variance, one if it overflows."""
    center = np.average(X, axis=0, weights=weight)
    squares = np.average((X - center) ** 2, axis=0, weights=weight)
    variance = float(np.mean(squares))
    return variance if np.isfinite(variance) else 1.0


def held_out_weights(folds):
    """Return the weights of the held-out rows of all folds, ones if none were given."""
    if folds[0].weight_test is None:
        return np.ones(sum(len(fold.y_test) for fold in folds))
    return np.concatenate([fold.weight_test for fold in folds])


def _rows_of_weight(rows, weight, name):
    """Return the rows of one side of a fold whose weight is not zero, as an index."""
    try:
        rows = np.arange(len(weight))[rows]
    except IndexError as error:
        raise ValueError(
            f"the {name} in cv are no rows of X, which has {len(weight)}: {error}"
        ) from error
    if not len(rows):
        raise ValueError(
            f"cv gives no {name}; use a splitter that gives each fold some, such as "
            f"KFold(2)"
        )
    return rows[weight[rows] > 0]


def _select(X, y, weight, rows):
    return X[rows], y[rows], None if weight is None else weight[rows]


def _n_free_weights(kernel_sizes, n_logits):
    """Count the free weights of a network with the default number of filters."""
    *hidden, last = (math.prod(np.ravel(size).tolist()) for size in kernel_sizes)
    n_filters = default_n_filters(n_logits, hidden[0])
    return n_filters * (sum(hidden) - len(hidden) + n_logits * last)


class RegressionSearch(IntervalMixin, MultiOutputMixin, RegressorMixin, BaseSearch):
    """Check y of numbers, and give the default folds, score, network and intervals."""

    noise_variance_: np.ndarray
    _network = DeepTDRegressor

    def _refit(self, candidates, table, folds, *args):
        """Fit the model, and store the residuals of its held-out samples."""
        weights = super()._refit(candidates, table, folds, *args)
        used = np.flatnonzero(weights.any(axis=1))
        residuals = [
            f.y_test.reshape(len(f.y_test), -1)
            - sum(weights[i] * table.results[i][number].predicted for i in used)
            for number, f in enumerate(folds)
        ]
        self.conformity_scores_ = np.abs(np.concatenate(residuals))
        self.conformity_weight_ = held_out_weights(folds)
        self.noise_variance_ = np.average(
            self.conformity_scores_**2, axis=0, weights=self.conformity_weight_
        )
        return weights

    def _mean_and_spread(self, X):
        y = self.predict(X)
        y = y.reshape(len(y), -1)
        return y, np.ones_like(y)

    def _check(self, X, y, sample_weight):
        (X, columns, weight), self._y_ndim = check_rows(self, X, y, sample_weight)
        return X, like_y(columns, self._y_ndim), weight


class ClassificationSearch(ClassifierMixin, BaseSearch):
    """Check y of classes, and give the default folds, score and network."""

    classes_: np.ndarray
    _network = DeepTDClassifier

    def _check(self, X, y, sample_weight):
        X, y, weight = check_labels(self, X, y, sample_weight)
        weight = with_class_weight(self.class_weight, y, weight)
        self.classes_ = classes_of(y, weight)
        return X, y, weight


def network_candidate(estimator, params, passes=(5, 12)):
    """Return the candidate of a network, identified by ``params``.

    The first stage has no polish, the second one start; both have few passes over the
    rows. Networks that differ in ``alpha`` only are a path in the second stage, from
    the largest ``alpha`` to the smallest. A linear network has no stages.
    """
    sizes, alpha = estimator.kernel_sizes, estimator.alpha
    is_linear = sizes is not None and len(sizes) == 1
    if is_linear and estimator.output_activation == "identity":
        return Candidate(estimator, params)
    first, second = (
        {"n_init": 1, "max_iter": min(estimator.max_iter, n)} for n in passes
    )
    path = (_key(params, "alpha"), -alpha) if isinstance(alpha, Real) else None
    early = {"polish": False, **first}, second
    return Candidate(estimator, params, early, _key(params, "kernel_sizes"), path)


def _key(params, without):
    return tuple(repr(item) for item in params.items() if item[0] != without)


class BaseSearchCV(BaseSearch):
    """Find the best network of a grid."""

    _parameter_constraints: dict = {
        **BaseSearch._parameter_constraints,
        "param_grid": [dict, list, tuple, None],
    }

    def __init__(
        self,
        param_grid: Mapping[str, Any] | Sequence[Mapping[str, Any]] | None = None,
        *,
        input_shape: Sequence[int] | None = None,
        covariates: Sequence[int | str] | None = None,
        max_time: float | None = None,
        cv: Any = None,
        scoring: str | Callable | None = None,
        n_jobs: int | None = None,
        random_state: RandomState = None,
        verbose: int = 0,
    ) -> None:
        self.param_grid = param_grid
        self.input_shape = input_shape
        self.covariates = covariates
        self.max_time = max_time
        self.cv = cv
        self.scoring = scoring
        self.n_jobs = n_jobs
        self.random_state = random_state
        self.verbose = verbose

    def _candidates(self, n_rows, variance):
        found = self._network_candidates(self.param_grid, n_rows, variance)
        default = {"kernel_sizes": [None]}
        return found or self._network_candidates(default, n_rows, variance)

    def _refit(self, candidates, table, folds, rows, stage, begin):
        best = self.best_index_
        with stage(STEPS[-1], {best: 1.0}) as done:
            estimator = clone(candidates[best].estimator)
            self.best_estimator_ = fit_candidate(estimator, *rows)
            done({best: "the best"})
        return np.eye(len(candidates))[:, [best]]


class DeepTDRegressorCV(RegressionSearch, BaseSearchCV):
    """Search over a grid of networks, in a fraction of the time of GridSearchCV.

    >>> from skdeeptd import DeepTDRegressorCV
    >>> from skdeeptd.datasets import make_patch_cnn_regression
    >>> X, y = make_patch_cnn_regression(150, (6, 4), noise=0.1, random_state=0)
    >>> grid = {"kernel_sizes": [(6, 4), (4, 6), (3, 8)], "n_filters": [1, 2]}
    >>> search = DeepTDRegressorCV(grid, cv=3, random_state=0).fit(X, y)
    >>> search.best_params_["kernel_sizes"]
    (6, 4)

    All networks are compared on the same folds by successive halving: in three stages,
    fewer networks get longer fits. See Notes.

    Parameters
    ----------
    param_grid : dict of lists, or list of them, default=None
        Values of parameters of :class:`DeepTDRegressor`, as in
        :class:`~sklearn.model_selection.ParameterGrid`. None means the networks of two
        or three layers that tile the input and have at most one weight for eight
        samples. If there are more than about 60, the most even shapes are compared.
    input_shape : sequence of int, default=None
        Shape of a sample, if X has flat rows. None means one axis, or the shape of X
        itself.
    covariates : sequence of int or str, default=None
        As in :class:`DeepTDRegressor`.
    max_time : float, default=None
        Time limit of the comparison in seconds; None for no limit. Networks that would
        exceed it are skipped, with a warning, but the first one is always compared. The
        fit of the best network to all samples takes further time.
    cv : int, cross-validation splitter or iterable, default=None
        As in :class:`~sklearn.model_selection.GridSearchCV`. None means five folds,
        three for more than 500 samples; fewer than 20 samples are held out one by one
        if ``scoring`` is None. See Notes for the order of the samples.
    scoring : str or callable, default=None
        Score that ranks the networks, as in GridSearchCV. None means R2; if a fold
        holds out a single sample, the variance is that of y in all samples.
    n_jobs : int, default=None
        Number of networks that are fitted at the same time, as in joblib.
    random_state : int, RandomState instance or None, default=None
        Seed of the networks.
    verbose : int, default=0
        Whether to print a line for each candidate in each step of the comparison, with
        the seconds that the step has taken and is expected to take.

    Attributes
    ----------
    best_estimator_ : DeepTDRegressor
        The best network, fitted to all samples.
    best_params_ : dict
        The parameters of the best network.
    best_score_ : float
        Mean score of the best network on the held-out samples.
    best_index_ : int
        Index of the best network in ``cv_results_``.
    noise_variance_ : ndarray of shape (n_outputs,)
        Mean of the squared residuals of the best network on the held-out samples.
    conformity_scores_, conformity_weight_ : ndarray
        Absolute residuals of the held-out samples, (n_samples, n_outputs), and their
        weights, (n_samples,), for ``predict_interval``.
    cv_results_ : dict of arrays
        As in GridSearchCV, with an entry for each network. "stage" is the last stage
        that a network reached, from 1 to 3, or 0 if it was skipped. A network ranks
        behind all networks that reached a later stage.
    n_splits_ : int
        Number of folds.
    input_shape_ : tuple of int
        Shape of a sample.
    n_features_in_, feature_names_in_
        As in DeepTDRegressor.

    See Also
    --------
    DeepTDAutoRegressor : Compares linear, kernel and network models, and averages them.

    Notes
    -----
    1. Networks are fitted with ``polish=False``. Among networks that differ in
       ``kernel_sizes`` only, the best eighth goes on, but at least three and at most
       ten.
    2. Networks get one start and few iterations. Networks that differ in ``alpha`` only
       are fitted from large to small ``alpha``, each warm-started from the one before.
    3. Networks are fitted in full, unless they are behind the best one by more than two
       standard errors of the paired difference over the folds.

    Default folds are shuffled, and stratified if y has at most half as many values as
    samples. If neighbouring samples are alike, as in a time series, the folds are
    contiguous blocks.
    """

    best_estimator_: DeepTDRegressor

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
        """Predict with the best network.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features) or (n_samples,) + input_shape
        return_std : bool, default=False
            Whether to return the standard deviation of the mean of y, too, as in
            :meth:`DeepTDRegressor.predict`.

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
            If X has another number of features than in ``fit``, or NaN or infinity.
        """
        X = self._transform_input(X)
        best = self.best_estimator_
        return best.predict(X, return_std=True) if return_std else best.predict(X)


class DeepTDClassifierCV(ClassificationSearch, BaseSearchCV):
    """Search over a grid of classifiers, in a fraction of the time of GridSearchCV.

    >>> from sklearn.datasets import load_digits
    >>> from skdeeptd import DeepTDClassifierCV
    >>> X, digit = load_digits(return_X_y=True)
    >>> X, odd = X.reshape(-1, 8, 8)[:300] / 16, digit[:300] % 2
    >>> grid = {"kernel_sizes": [((4, 4), -1), ((2, 2), -1)], "alpha": [0.1, 1.0]}
    >>> search = DeepTDClassifierCV(grid, random_state=0).fit(X, odd)
    >>> sorted(search.best_params_)
    ['alpha', 'kernel_sizes']

    The networks are compared like those of :class:`DeepTDRegressorCV`.

    Parameters
    ----------
    param_grid : dict of lists, or list of them, default=None
        Values of parameters of :class:`DeepTDClassifier`, as in
        :class:`~sklearn.model_selection.ParameterGrid`. None means the shapes of
        :class:`DeepTDRegressorCV`, with ``alpha`` equal to the mean variance of the
        features.
    input_shape : sequence of int, default=None
        Shape of a sample, if X has flat rows. None means one axis, or the shape of X
        itself.
    covariates : sequence of int or str, default=None
        As in :class:`DeepTDRegressor`.
    class_weight : dict, "balanced" or None, default=None
        Weights of the classes, as in :class:`DeepTDClassifier`, for all fits and
        scores. A ``class_weight`` in ``param_grid`` counts in the fits of that network
        only, in addition.
    max_time : float, default=None
        As in DeepTDRegressorCV.
    cv : int, cross-validation splitter or iterable, default=None
        As in DeepTDRegressorCV. Default folds are stratified.
    scoring : str or callable, default=None
        Score that ranks the networks, as in
        :class:`~sklearn.model_selection.GridSearchCV`. None means the mean
        log-likelihood.
    n_jobs, random_state, verbose
        As in DeepTDRegressorCV.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        Classes of the samples whose weight is not zero.
    best_estimator_ : DeepTDClassifier
        The best network, fitted to all samples.
    best_params_, best_score_, best_index_, cv_results_, n_splits_, \
input_shape_
        As in DeepTDRegressorCV.
    n_features_in_, feature_names_in_
        As in DeepTDClassifier.

    See Also
    --------
    DeepTDAutoClassifier : Compares linear, kernel and network models, and averages
        them.
    """

    best_estimator_: DeepTDClassifier
    _parameter_constraints: dict = {
        **BaseSearchCV._parameter_constraints,
        "class_weight": CLASS_WEIGHT,
    }

    def __init__(
        self,
        param_grid: Mapping[str, Any] | Sequence[Mapping[str, Any]] | None = None,
        *,
        input_shape: Sequence[int] | None = None,
        covariates: Sequence[int | str] | None = None,
        class_weight: dict | str | None = None,
        max_time: float | None = None,
        cv: Any = None,
        scoring: str | Callable | None = None,
        n_jobs: int | None = None,
        random_state: RandomState = None,
        verbose: int = 0,
    ) -> None:
        super().__init__(
            param_grid,
            input_shape=input_shape,
            covariates=covariates,
            max_time=max_time,
            cv=cv,
            scoring=scoring,
            n_jobs=n_jobs,
            random_state=random_state,
            verbose=verbose,
        )
        self.class_weight = class_weight

    def predict(self, X: ArrayLike) -> np.ndarray:
        """Predict the most probable class with the best network.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features) or (n_samples,) + input_shape

        Returns
        -------
        ndarray of shape (n_samples,)
        """
        X = self._transform_input(X)
        return self.best_estimator_.predict(X)

    def predict_proba(self, X: ArrayLike) -> np.ndarray:
        """Predict the probabilities of the classes with the best network.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features) or (n_samples,) + input_shape

        Returns
        -------
        ndarray of shape (n_samples, n_classes)
        """
        X = self._transform_input(X)
        return self.best_estimator_.predict_proba(X)

    def predict_log_proba(self, X: ArrayLike) -> np.ndarray:
        """Predict the logarithms of the probabilities with the best network.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features) or (n_samples,) + input_shape

        Returns
        -------
        ndarray of shape (n_samples, n_classes)
        """
        X = self._transform_input(X)
        return self.best_estimator_.predict_log_proba(X)

    def decision_function(self, X: ArrayLike) -> np.ndarray:
        """Return the logits of the classes of the best network.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features) or (n_samples,) + input_shape

        Returns
        -------
        ndarray of shape (n_samples,) or (n_samples, n_classes)
            For two classes the logit of ``classes_[1]``.
        """
        X = self._transform_input(X)
        return self.best_estimator_.decision_function(X)
