"""What a choice among models of a patch structure has in common for any target."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from numbers import Integral, Real
from typing import Any, Self

import numpy as np
from joblib import effective_n_jobs
from numpy.typing import ArrayLike
from sklearn import get_config
from sklearn.base import BaseEstimator, is_classifier
from sklearn.exceptions import FitFailedWarning
from sklearn.model_selection import check_cv
from sklearn.utils import check_random_state
from sklearn.utils.metadata_routing import (
    MetadataRouter,
    MethodMapping,
    process_routing,
)
from sklearn.utils.parallel import Parallel, delayed

from skdeeptd._base import (
    Documented,
    explaining,
    flatten,
    forgetting,
    reporter,
    telling,
    warn,
)
from skdeeptd._compat import CallbackSupportMixin, Interval, callback_task, fit_context
from skdeeptd._data.rows import RowBlocks
from skdeeptd._data.scratch import reusing
from skdeeptd._data.threads import single_threaded_blas
from skdeeptd._features import DeepTDFeatures
from skdeeptd._network.kernel_sizes import default_grid
from skdeeptd._network.layout import degrees_of_freedom
from skdeeptd._solver.choice import (
    LAST_STAGE,
    best_of,
    clock,
    compare,
    make_fold,
    stacked,
)
from skdeeptd._fit import WarmStart as Known
from skdeeptd._typing import RandomState

MOST_LAYERS, MOST_SHAPES = 3, 60  # of the default grid
ROWS_PER_WEIGHT = 8  # that a network of the default grid has at least
MOST_ROWS_OF_KERNEL = 2500  # a kernel takes their square in memory
FEW_ROWS = 500  # for which there are more folds by default
PASSES = {1: 5, 2: 12}  # over the rows, of a network in the stages before the last
PASSES_ON = 6  # of one that begins with another
OF_CHOICE = 0.6  # of max_time, beside the fits of all rows


class BasePatchCV(Documented, CallbackSupportMixin, BaseEstimator):
    """Compares candidates on folds, and fits those that have a weight to all samples.

    A subclass says in ``_check`` what y is, in ``_strata`` what is split, in
    ``_candidates`` what is compared, in ``_scorer`` by what, in ``_mixtures`` what the
    means of several are judged by, and in ``_fitted`` how one is fitted.
    """

    _n_folds = (5, 3)  # by default, of few rows and of many

    _parameter_constraints: dict = {
        "param_grid": [dict, list, tuple, None],
        "input_shape": ["array-like", None],
        "ensemble_size": [Interval(Integral, 1, None, closed="left")],
        "max_time": [Interval(Real, 0, None, closed="neither"), None],
        "cv": ["cv_object"],
        "scoring": [str, callable, None],
        "n_jobs": [Integral, None],
        "random_state": ["random_state"],
        "verbose": ["verbose"],
    }

    def __init__(
        self,
        param_grid: Mapping[str, Sequence]
        | Sequence[Mapping[str, Sequence]]
        | None = None,
        *,
        input_shape: Sequence[int] | None = None,
        ensemble_size: int = 8,
        max_time: float | None = None,
        cv: Any = None,
        scoring: str | Callable | None = None,
        n_jobs: int | None = None,
        random_state: RandomState = None,
        verbose: int = 0,
    ) -> None:
        self.param_grid = param_grid
        self.input_shape = input_shape
        self.ensemble_size = ensemble_size
        self.max_time = max_time
        self.cv = cv
        self.scoring = scoring
        self.n_jobs = n_jobs
        self.random_state = random_state
        self.verbose = verbose

    @forgetting
    @fit_context(prefer_skip_nested_validation=True)
    def fit(
        self,
        X: ArrayLike,
        y: ArrayLike,
        sample_weight: ArrayLike | None = None,
        **params: Any,
    ) -> Self:
        """Compare the candidates, and fit those that have a weight to all samples.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features) or (n_samples,) + input_shape
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
            Numbers for a regressor; labels of shape (n_samples,) for a classifier.
        sample_weight : array-like of shape (n_samples,), default=None
            For the fits and the scores.
        **params : dict
            Routed to the splitter (``groups``, say), where metadata routing is enabled.

        Returns
        -------
        estimator
            The fitted estimator itself.

        Raises
        ------
        ValueError, TypeError
            Where the data or a parameter are not as they should be.
        """
        begin = clock()
        split_params = self._route(params, sample_weight)
        context = self._init_callback_context(max_subtasks=LAST_STAGE + 2)
        metadata = {"sample_weight": sample_weight}
        with callback_task(context, self, X=X, y=y, metadata=metadata):
            X, input_shape = flatten(X, self.input_shape)
            rows = RowBlocks(*self._check(X, y, sample_weight))
            self.input_shape_ = tuple(input_shape or (rows.n_features,))
            folds = self._folds(rows, split_params)
            estimators, candidates = self._candidates(folds)
            table = compare(
                candidates,
                folds,
                self._scorer(sample_weight is not None),
                functools.partial(self._run_all, self.max_time is not None),
                end=begin + (self.max_time or np.inf) * OF_CHOICE,
                n_at_a_time=effective_n_jobs(self.n_jobs),
                report=reporter(self),
                stage=telling(self, context),
            )
            self._warn_of_failures(table)
            weights = self._weigh(candidates, folds, table)
            self._keep(estimators, candidates, table, weights)
            last = context.subcontext(task_name="fit of all rows")
            with callback_task(last, self):
                growth = len(rows.X) / min(len(fold.train.X) for fold in folds)
                self._fit_members(rows, estimators, table, weights, growth, begin)
        return self

    def get_metadata_routing(self) -> MetadataRouter:
        """Route ``sample_weight`` to ``fit`` and everything else to the splitter.

        Returns
        -------
        sklearn.utils.metadata_routing.MetadataRouter
        """
        mapping = MethodMapping().add(caller="fit", callee="split")
        router = MetadataRouter(owner=self).add_self_request(self)
        return router.add(splitter=check_cv(self.cv), method_mapping=mapping)

    def _route(self, params, sample_weight):
        if get_config()["enable_metadata_routing"]:
            routed = process_routing(self, "fit", sample_weight=sample_weight, **params)
            return routed.splitter.split
        if params:
            raise ValueError(
                f"{sorted(params)} can only be passed to fit with metadata routing: "
                f"sklearn.set_config(enable_metadata_routing=True)"
            )
        return {}

    def _folds(self, rows, split_params):
        default = self._n_folds[len(rows.X) > FEW_ROWS]
        cv, strata = default if self.cv is None else self.cv, self._strata(rows)
        splitter = check_cv(cv, strata, classifier=is_classifier(self))
        splits = list(splitter.split(rows.X, strata, **split_params))
        self.n_splits_ = len(splits)
        with single_threaded_blas(), reusing(), explaining(self, rows):
            return [
                make_fold(*_parts(rows, fold, split))
                for fold, split in enumerate(splits)
            ]

    def _run_all(self, in_haste, function, calls):
        """In processes, or in threads, which start at once."""
        parallel = Parallel(n_jobs=self.n_jobs, prefer="threads" if in_haste else None)
        with single_threaded_blas():
            return parallel(delayed(function)(*call) for call in calls)

    def _in_race(self, candidates, mean):
        """Those that a mean may be made of."""
        return np.flatnonzero(np.isfinite(mean))

    def _common(self):
        """The parameters that all candidates have."""
        seed = self.random_state
        if not isinstance(seed, Integral):
            seed = check_random_state(seed).randint(np.iinfo(np.int32).max)
        return {"input_shape": self.input_shape_, "random_state": seed}

    def _warn_of_failures(self, table):
        errors = [r.error for row in table.results for r in row if r.error]
        if errors:
            message = f"{len(errors)} fits of a fold failed and were scored NaN: "
            if not np.any(np.isfinite(table.column("score").mean(axis=1))):
                raise ValueError(f"{message}no candidate is left. {errors[0]}")
            warn(message + errors[0], FitFailedWarning)
        n_left = int(np.sum(table.stages == 0))
        if n_left:
            warn(
                f"max_time={self.max_time:g} was spent before {n_left} of "
                f"{len(table.stages)} candidates were compared"
            )

    def _weigh(self, candidates, folds, table):
        """Store the best candidate; the weights (candidates, mixtures)."""
        scores = table.column("score")
        mean = scores.mean(axis=1)
        mean[(table.stages < LAST_STAGE) | ~np.isfinite(mean)] = -np.inf
        linear = np.array([candidate.kind == "linear" for candidate in candidates])
        self.best_index_ = best_of(mean, scores, linear)
        in_race = self._in_race(candidates, mean)
        predicted = np.stack(
            [np.concatenate([r.predicted for r in table.results[i]]) for i in in_race]
        )
        mixtures = self._mixtures(predicted, folds)
        weights = np.zeros((len(candidates), len(mixtures)))
        if self.ensemble_size == 1:
            weights[self.best_index_] = 1
            return weights
        fold = np.repeat(np.arange(len(folds)), [len(fold.test.y) for fold in folds])
        best = int(np.flatnonzero(in_race == self.best_index_)[0])
        first_linear = next(iter(np.flatnonzero(linear[in_race])), best)
        for number, mixture in enumerate(mixtures):
            weights[in_race, number] = stacked(
                mixture, fold, best, first_linear, self.ensemble_size
            )
        return weights

    def _keep(self, estimators, candidates, table, weights):
        """Store the table, and which candidate it speaks for."""
        self.cv_results_ = _results_of(estimators, candidates, table, weights)
        self.best_params_ = candidates[self.best_index_].params
        mean = self.cv_results_["mean_test_score"]
        self.best_score_ = float(mean[self.best_index_])

    def _fit_members(self, rows, estimators, table, weights, growth, begin):
        """Fit what has a weight, the heaviest first, and the best one.

        What would take too long is left out; if all would, ridge regression is fitted.
        ``growth`` is how many times more rows these are than those of a fold.
        """
        heavy = weights.mean(axis=1)
        members = [i for i in np.argsort(-heavy, kind="stable") if heavy[i] > 0]
        seconds = table.column("fit_time").max(axis=1) * growth**2
        fitted, end = {}, begin + (self.max_time or np.inf)
        for i in dict.fromkeys([*members, self.best_index_]):
            if clock() + seconds[i] <= end:
                fitted[i] = self._fitted(estimators[i], rows)
        if not fitted:
            fitted[0] = self._fitted(estimators[0], rows)
        n_left = len(set(members) - set(fitted))
        if n_left:
            warn(
                f"max_time={self.max_time:g} left no time to fit {n_left} of "
                f"{len(members)} members of the mean to all rows"
            )
        kept = [i for i in members if i in fitted] or list(fitted)
        sums = weights[kept].sum(axis=0)
        even = np.full((len(kept), weights.shape[1]), 1 / len(kept))
        self.estimators_ = [fitted[i] for i in kept]
        self.weights_ = np.where(
            sums > 0, weights[kept] / np.where(sums > 0, sums, 1), even
        )
        self.best_estimator_ = fitted.get(self.best_index_, self.estimators_[0])

    def __sklearn_is_fitted__(self):
        return hasattr(self, "estimators_")


class Predicted(BaseEstimator):
    """What a scorer takes for an estimator; a subclass gives what was predicted."""

    def fit(self, X, y):
        """Nothing is left to fit."""
        return self

    def __sklearn_is_fitted__(self):
        return True


def _parts(rows, fold, split):
    """The training rows of a fold, and the rows held out."""
    for chosen, name in zip(split, ("training", "held-out"), strict=True):
        if not np.any(rows.weight[chosen]):
            raise ValueError(
                f"sample_weight is zero on all {name} rows of fold {fold}; each fold "
                f"needs some of another weight on both sides, as with "
                f"cv=KFold(shuffle=True), or without the rows of weight zero"
            )
    return [RowBlocks(rows.X[c], rows.y[c], rows.weight[c]) for c in split]


def plain_features(common):
    """Each feature by itself, with the floor and the bounds of the filters."""
    sizes = [(1,) * len(common["input_shape"])]
    return DeepTDFeatures(
        sizes, n_filters=1, strides=1, activation="identity", **common
    )


def few_weight_shapes(input_shape, n_rows, n_weights=degrees_of_freedom):
    """Of the default grid those that have few weights for the rows.

    ``n_weights`` takes the sizes of the kernels.
    """
    return [
        shapes
        for shapes in default_grid(input_shape, MOST_LAYERS, MOST_SHAPES)
        if len(shapes) > 1
        and ROWS_PER_WEIGHT * n_weights([int(np.prod(s)) for s in shapes]) <= n_rows
    ]


def in_stage(spec, stage, before):
    """What to learn in a stage, and the ``Known`` to begin with or None.

    Without the polish, then one start with a short one, then in full. ``before`` holds
    the networks of a candidate of another alpha, or is None.
    """
    if stage not in PASSES:
        return spec, None
    short = spec._replace(max_iter=min(spec.max_iter, PASSES[stage]), n_init=1)
    if stage == 1:
        return short._replace(polish=False), None
    serves = before is not None and spec.polish and spec.epsilon is None
    if not serves or not all(np.any(network.heads) for network in before):
        return short, None
    known = [Known(network, settled=True) for network in before]
    return short._replace(max_iter=min(spec.max_iter, PASSES_ON)), known


def _results_of(estimators, candidates, table, weights):
    """The table of GridSearchCV, and the stages, estimators and weights."""
    results = {}
    for name in ("fit", "score"):
        seconds = table.column(f"{name}_time")
        results[f"mean_{name}_time"] = seconds.mean(axis=1)
        results[f"std_{name}_time"] = seconds.std(axis=1)
    params = [candidate.params for candidate in candidates]
    for name in dict.fromkeys(name for of_candidate in params for name in of_candidate):
        column = np.ma.masked_all(len(params), dtype=object)
        for i, of_candidate in enumerate(params):
            if name in of_candidate:
                column[i] = of_candidate[name]
        results[f"param_{name}"] = column
    results["params"] = params
    scores = table.column("score")
    for fold, column in enumerate(scores.T):
        results[f"split{fold}_test_score"] = column
    mean = scores.mean(axis=1)
    results["mean_test_score"] = mean
    results["std_test_score"] = scores.std(axis=1)
    order = np.lexsort((np.nan_to_num(-mean, nan=np.inf), -table.stages))
    results["rank_test_score"] = np.argsort(order).astype(np.int32) + 1
    results["stage"] = table.stages
    column = np.empty(len(estimators), dtype=object)
    column[:] = estimators
    results["estimator"] = column
    results["weight"] = weights.mean(axis=1)
    return results
