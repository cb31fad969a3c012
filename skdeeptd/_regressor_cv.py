"""DeepTDRegressorCV: the shape, the filters and alpha by cross-validation."""

import math
import time
from functools import partial
from itertools import compress
from numbers import Integral, Real
from typing import NamedTuple

import numpy as np
from sklearn import get_config
from sklearn.metrics import check_scoring
from sklearn.model_selection import ParameterGrid, check_cv
from sklearn.utils.metadata_routing import (
    MetadataRouter,
    MethodMapping,
    process_routing,
)
from sklearn.utils.parallel import Parallel, delayed

from skdeeptd._compat import Interval, fit_context, told
from skdeeptd._geometry import kernel_size_grid, make_layout
from skdeeptd._problem import make_problem
from skdeeptd._regressor import DeepTDRegressor, forgetting
from skdeeptd._rows import RowBlocks, single_threaded_blas
from skdeeptd._search import is_linear

MOST_LAYERS = 3  # of the default grid
KEPT, LEAST_KEPT = 1 / 8, 3  # share and number of shapes that survive the first stage
STANDARD_ERRORS = 2.0  # of a difference over the folds that is a clear one
STAGES = ({"polish": False}, {"n_init": 1, "max_iter": 10}, {})  # of parameters


class Fold(NamedTuple):
    """A split of the rows, with the moment of its training part."""

    train: np.ndarray
    test: np.ndarray
    moment: np.ndarray


class Scores(NamedTuple):
    """Score and seconds of each candidate (rows) on each fold; its last stage."""

    test: np.ndarray
    fit_time: np.ndarray
    score_time: np.ndarray
    stage: np.ndarray


class DeepTDRegressorCV(DeepTDRegressor):
    """DeepTDRegressor whose shape, filters and alpha are chosen by cross-validation.

    All candidates share one moment per fold, since only its reshape differs between
    them. They are compared in three stages, and few reach the last:

    1. without the polish: of the shapes with the same filters and alpha the best eighth
       goes on, and three at least;
    2. with one start and a short polish: who is not clearly behind the best, by two
       standard errors of the paired difference over the folds, goes on;
    3. fitted in full. The best mean score wins, and is fitted again on all data.

    A single linear layer is ridge regression. It is fitted in full in every stage and
    always goes on to the second, with one number of filters only, as more of them are
    the same model with a smaller alpha. Where it reaches the third stage and the best
    network is neither clearly ahead of it nor ahead on every fold, it wins.

    Parameters
    ----------
    kernel_sizes : sequence of kernel sizes, default=None
        The candidates, each as in :class:`DeepTDRegressor`. None takes all shapes of at
        most three layers that tile the input, as :func:`kernel_size_grid` lists them,
        and the default of DeepTDRegressor.
    input_shape : sequence of int, default=None
        As in DeepTDRegressor.
    padding : {"valid", "same"}, default="valid"
    n_filters : int or sequence of int, default=1
        The candidates.
    activation, output_activation, fit_intercept, hidden_bias
        As in DeepTDRegressor. A sequence of activations holds for candidates of as many
        layers only.
    alphas : float or sequence of float, default=0.0
        The candidates for ``alpha``.
    max_iter, tol, n_init
        As in DeepTDRegressor, for the last stage and the final fit.
    cv : int, cross-validation splitter or iterable, default=None
        As in :class:`~sklearn.model_selection.GridSearchCV`; None for five folds.
    scoring : str or callable, default=None
        None for R2.
    n_jobs : int, default=None
        Candidates that are fitted at a time.
    random_state : int, RandomState instance or None, default=None
        Pass an int for candidates that are compared under the same draws.
    verbose : int, default=0

    Attributes
    ----------
    best_params_ : dict
        ``kernel_sizes``, ``n_filters`` and ``alpha``.
    best_score_ : float
        Mean score of the best candidate on the held-out folds.
    best_index_ : int
        Of the candidate in use: that of rank 1, or the linear one, as said above.
    cv_results_ : dict of arrays
        As in GridSearchCV: ``params``, ``param_*``, ``split*_test_score``,
        ``mean_test_score``, ``std_test_score``, ``rank_test_score``,
        ``mean_fit_time``, ``mean_score_time``. ``stage`` is the last stage, from 1 to
        3, that a candidate reached; its scores are those of that stage, and it ranks
        behind all that got further.
    scorer_ : callable
    n_splits_ : int
    kernels_, gains_, scales_, biases_, intercept_, moment_, kernel_sizes_, \
input_shape_, activations_, explained_moment_, explained_by_noise_, n_iter_, \
covariance_, noise_variance_, n_features_in_, feature_names_in_
        Of the final fit, as in DeepTDRegressor.

    Examples
    --------
    >>> from skdeeptd import DeepTDRegressorCV
    >>> from skdeeptd.datasets import make_patch_cnn_regression
    >>> X, y, _ = make_patch_cnn_regression(
    ...     n_samples=200, kernel_sizes=(4, 6), noise=0.1, random_state=0
    ... )
    >>> search = DeepTDRegressorCV(random_state=0).fit(X, y)
    >>> search.best_params_
    {'alpha': 0.0, 'kernel_sizes': (4, 6), 'n_filters': 1}
    """

    _parameter_constraints: dict = {
        **DeepTDRegressor._parameter_constraints,
        "n_filters": ["array-like", Interval(Integral, 1, None, closed="left")],
        "alphas": ["array-like", Interval(Real, 0, np.inf, closed="left")],
        "cv": ["cv_object"],
        "scoring": [str, callable, None],
    }
    _parameter_constraints.pop("alpha")
    _parameter_constraints.pop("polish")

    def __init__(
        self,
        kernel_sizes=None,
        *,
        input_shape=None,
        padding="valid",
        n_filters=1,
        activation="relu",
        output_activation="identity",
        fit_intercept=True,
        hidden_bias=False,
        alphas=0.0,
        max_iter=500,
        tol=1e-6,
        n_init="auto",
        cv=None,
        scoring=None,
        n_jobs=None,
        random_state=None,
        verbose=0,
    ):
        self.kernel_sizes = kernel_sizes
        self.input_shape = input_shape
        self.padding = padding
        self.n_filters = n_filters
        self.activation = activation
        self.output_activation = output_activation
        self.fit_intercept = fit_intercept
        self.hidden_bias = hidden_bias
        self.alphas = alphas
        self.max_iter = max_iter
        self.tol = tol
        self.n_init = n_init
        self.cv = cv
        self.scoring = scoring
        self.n_jobs = n_jobs
        self.random_state = random_state
        self.verbose = verbose

    @forgetting
    @fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y, sample_weight=None, **params):
        """Choose among the candidates, and fit the best one on all data.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features) or (n_samples,) + input_shape
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
        sample_weight : array-like of shape (n_samples,), default=None
            For the fits and the scores.
        **params : dict
            Routed to the splitter (``groups``, say), where metadata routing is enabled.

        Returns
        -------
        DeepTDRegressorCV
            The fitted estimator itself.

        Raises
        ------
        ValueError, TypeError
            Where the data or a parameter are not as they should be.
        """
        split_params = self._route(params, sample_weight)
        fit = self._init_callback_context(max_subtasks=len(STAGES) + 1)
        with told(fit, self, X=X, y=y, metadata={"sample_weight": sample_weight}):
            return self._choose_and_fit(X, y, sample_weight, split_params, fit)

    def _choose_and_fit(self, X, y, sample_weight, split_params, fit):
        flat, input_shape = self._flatten(X, self.input_shape)
        data = self._validate(flat, y, sample_weight)  # X, y and the weights
        candidates, linear = self._candidates(data[0].shape[1], input_shape)
        scorer = check_scoring(DeepTDRegressor(), scoring=self.scoring)
        splitter = check_cv(self.cv)
        splits = list(splitter.split(data[0], data[1], **split_params))
        with single_threaded_blas(), self._explaining(RowBlocks(*data)):
            folds = [
                Fold(train, test, self._problem(data, train).moment())
                for train, test in splits
            ]
            score = partial(_fit_and_score, scorer, sample_weight is not None)
            scores = self._compare(
                candidates, linear, input_shape, folds, data, score, fit
            )

        results = _results(candidates, scores)
        best = _choice(results["rank_test_score"], scores, linear)
        estimator = self._estimator(candidates[best], input_shape)
        estimator.set_params(n_jobs=self.n_jobs, verbose=self.verbose)
        with told(fit.subcontext(task_name="fit of all rows"), self):
            estimator.fit(X, y, sample_weight)
        fitted = {n: v for n, v in vars(estimator).items() if n.endswith("_")}
        vars(self).update(fitted, _padding=self.padding)
        self.cv_results_ = results
        self.best_index_, self.best_params_ = best, candidates[best]
        self.best_score_ = float(results["mean_test_score"][best])
        self.scorer_, self.n_splits_ = scorer, len(folds)
        return self

    @property
    def partial_fit(self):
        """There is none: candidates are compared on all data at once."""
        raise AttributeError(
            "DeepTDRegressorCV has no partial_fit; choose the kernel sizes on a part "
            "of the data, and give them to DeepTDRegressor"
        )

    def get_metadata_routing(self):
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

    def _candidates(self, n_features, input_shape):
        """All combinations, checked before any work is done; which ones are linear."""
        shapes = self.kernel_sizes
        if shapes is None:
            default = make_layout(n_features, None, input_shape, self.padding)
            shapes = kernel_size_grid(default.input_shape, max_layers=MOST_LAYERS)
            if default.kernel_sizes not in shapes:
                shapes = [default.kernel_sizes, *shapes]
        grid = {
            "kernel_sizes": _as_list("kernel_sizes", shapes),
            "n_filters": _as_list("n_filters", self.n_filters),
            "alpha": _as_list("alphas", self.alphas),
        }
        candidates = list(ParameterGrid(grid))
        linear = []
        for candidate in candidates:
            estimator = self._estimator(candidate, input_shape)
            estimator._validate_params()
            _, blank = estimator._lay_out(n_features, input_shape)
            linear.append(is_linear(blank))
        fewest = min(grid["n_filters"])
        kept = [
            not (is_one and candidate["n_filters"] > fewest)
            for candidate, is_one in zip(candidates, linear, strict=True)
        ]
        return list(compress(candidates, kept)), np.array(linear)[kept]

    def _estimator(self, candidate, input_shape):
        common = set(self.get_params()) & set(DeepTDRegressor().get_params())
        parameters = {name: getattr(self, name) for name in common}
        changed = {
            **candidate,
            "input_shape": input_shape,
            "n_jobs": None,
            "verbose": 0,
        }
        return DeepTDRegressor(**{**parameters, **changed})

    def _problem(self, data, rows):
        X, y, weight = (array[rows] for array in data)
        if not np.any(weight):
            raise ValueError("sample_weight is zero on all training rows of a fold")
        return make_problem(RowBlocks(X, y, weight), self.fit_intercept)

    def _compare(self, candidates, linear, input_shape, folds, data, score, fit):
        """Score the candidates stage by stage on all folds."""
        shape = (len(candidates), len(folds))
        scores = Scores(*np.zeros((3, *shape)), np.zeros(len(candidates), dtype=int))
        alive = np.arange(len(candidates))
        for stage, budget in enumerate(STAGES):
            scores.stage[alive] = stage + 1
            estimators = [
                self._estimator(candidates[i], input_shape).set_params(
                    **({} if linear[i] else budget)
                )
                for i in alive
            ]
            task = fit.subcontext(
                task_name=f"stage {stage + 1}", max_subtasks=len(folds)
            )
            with told(task, self):
                for f, fold in enumerate(folds):
                    with told(task.subcontext(task_name=f"fold {f}"), self):
                        columns = self._on_fold(estimators, fold, data, score)
                    for table, column in zip(scores, columns):
                        table[alive, f] = column
            self._report(f"stage {stage + 1}: {len(alive)} candidates")
            remaining = [candidates[i] for i in alive]
            survive = _survivors(scores.test[alive], remaining, linear[alive], stage)
            alive = alive[survive]
        return scores

    def _on_fold(self, estimators, fold, data, score):
        """The score, and the seconds of the fit and of the score, of each estimator."""
        problem = self._problem(data, fold.train)
        X, y, weight = (array[fold.test] for array in data)
        y = y[:, 0] if self._y_is_1d else y
        results = Parallel(n_jobs=self.n_jobs)(
            delayed(score)(estimator, problem, fold.moment, X, y, weight)
            for estimator in estimators
        )
        return zip(*results, strict=True)


def _as_list(name, values):
    """The values of a parameter; a single number stands for itself."""
    values = [values] if isinstance(values, Real) else list(values)
    if not values:
        raise ValueError(f"{name} is empty; give at least one candidate")
    return values


def _fit_and_score(scorer, weighted, estimator, problem, moment, X, y, weight):
    """Score on held-out rows, and the seconds of the fit and of the score."""
    begin = time.perf_counter()
    estimator.n_features_in_, estimator._y_is_1d = X.shape[1], y.ndim == 1
    layout, blank = estimator._lay_out(X.shape[1], estimator.input_shape)
    task = estimator._task(problem, layout, blank)
    results = list(estimator._learn(problem, moment, task))
    estimator._store(problem, moment, results, layout, X.dtype)
    fitted = time.perf_counter()
    score = scorer(estimator, X, y, **({"sample_weight": weight} if weighted else {}))
    return score, fitted - begin, time.perf_counter() - fitted


def _best_shapes(mean, candidates):
    """The candidates whose shape does best with their own filters and alpha."""
    groups = {}
    for i in np.argsort(-mean, kind="stable"):
        key = candidates[i]["n_filters"], candidates[i]["alpha"]
        groups.setdefault(key, []).append(i)
    kept = [
        group[: max(LEAST_KEPT, math.ceil(KEPT * len(group)))]
        for group in groups.values()
    ]
    return np.sort(np.concatenate(kept))


def _not_behind(mean, scores):
    """The candidates that are not clearly behind the best one."""
    behind = _clearly_ahead(scores[np.argmax(mean)], scores)
    return np.flatnonzero(np.isfinite(mean) & ~behind)


def _clearly_ahead(scores, others):
    """Whether the scores on the folds, paired with each row of the others, are."""
    ahead = scores - others
    error = ahead.std(axis=-1) / np.sqrt(max(1, ahead.shape[-1] - 1))
    return ahead.mean(axis=-1) > STANDARD_ERRORS * error


def _survivors(scores, candidates, linear, stage):
    """Which of the candidates of a stage go on, as an index."""
    mean = np.nan_to_num(scores.mean(axis=1), nan=-np.inf)
    if not np.isfinite(mean.max()):
        return np.arange(len(mean))
    if stage == 0:
        return np.union1d(_best_shapes(mean, candidates), np.flatnonzero(linear))
    return _not_behind(mean, scores)


def _choice(rank, scores, linear):
    """The candidate that ranks first, or a linear one that it is not really ahead of.

    Only linear candidates that reached the last stage count. To be ahead on every fold
    is enough: where the linear one fails on some, the standard error says nothing.
    """
    best = int(np.argmin(rank))
    candidates = np.flatnonzero(linear & (scores.stage == len(STAGES)))
    if linear[best] or not len(candidates):
        return best
    best_linear = candidates[np.argmin(rank[candidates])]
    ahead, behind = scores.test[best], scores.test[best_linear]
    clear = _clearly_ahead(ahead, behind) or np.all(ahead > behind)
    return best if clear else int(best_linear)


def _results(candidates, scores):
    """The table of GridSearchCV."""
    results = {
        "mean_fit_time": scores.fit_time.mean(axis=1),
        "std_fit_time": scores.fit_time.std(axis=1),
        "mean_score_time": scores.score_time.mean(axis=1),
        "std_score_time": scores.score_time.std(axis=1),
    }
    for name in candidates[0]:
        column = np.ma.masked_all(len(candidates), dtype=object)
        for i, candidate in enumerate(candidates):
            column[i] = candidate[name]
        results[f"param_{name}"] = column
    results["params"] = candidates
    for fold, column in enumerate(scores.test.T):
        results[f"split{fold}_test_score"] = column
    mean = scores.test.mean(axis=1)
    results["mean_test_score"] = mean
    results["std_test_score"] = scores.test.std(axis=1)
    order = np.lexsort((-mean, -scores.stage))
    results["rank_test_score"] = np.argsort(order).astype(np.int32) + 1
    results["stage"] = scores.stage
    return results
