"""DeepTDRegressorCV: the best of several models, or their best mean."""

import functools
from numbers import Integral, Real
from time import perf_counter as clock

import numpy as np
from joblib import effective_n_jobs
from sklearn import get_config
from sklearn.base import BaseEstimator, MultiOutputMixin, RegressorMixin, clone
from sklearn.exceptions import FitFailedWarning
from sklearn.metrics import check_scoring
from sklearn.model_selection import ParameterGrid, check_cv
from sklearn.utils import check_random_state
from sklearn.utils.metadata_routing import (
    MetadataRouter,
    MethodMapping,
    process_routing,
)
from sklearn.utils.parallel import Parallel, delayed
from sklearn.utils.validation import check_is_fitted, validate_data

from skdeeptd._base import (
    Documented,
    check_rows,
    design_regression,
    explaining,
    flatten,
    forgetting,
    like_y,
    reporter,
    telling,
    warn,
)
from skdeeptd._compat import (
    CallbackSupportMixin,
    Interval,
    fit_context,
    told,
    validate_parameter_constraints,
)
from skdeeptd._data.rows import RowBlocks
from skdeeptd._data.scratch import reusing
from skdeeptd._data.threads import single_threaded_blas
from skdeeptd._features import DeepTDFeatures
from skdeeptd._model.fitted import predictions
from skdeeptd._model.layout import default_grid, degrees_of_freedom
from skdeeptd._regressor import DeepTDRegressor
from skdeeptd._ridge import DeepTDRidge
from skdeeptd._solver.choice import (
    LAST_STAGE,
    Candidate,
    best_of,
    compare,
    make_fold,
    stacked,
)
from skdeeptd._solver.deeptd import fit_rows

MOST_LAYERS, MOST_SHAPES = 3, 60  # of the default grid
ROWS_PER_WEIGHT = 8  # that a network of the default grid has at least
MOST_ROWS_OF_KERNEL = 2500  # a kernel ridge takes their square in memory
FEW_ROWS = 500  # for which the default is five folds, not three
SHORT = {1: {"polish": False}, 2: {"n_init": 4, "max_iter": 15}, 3: {}}  # of the spec
OF_CHOICE = 0.6  # of max_time, beside the fits of all rows
MODELS = {"linear": "ridge on filters", "rbf": "kernel ridge on filters"}
CLOSED = [  # features, kernel
    ({}, "linear"),
    ({"activation": "tanh"}, "linear"),
    ({"standardize": False}, "linear"),
    ({"responses": "pooled"}, "linear"),
    ({"responses": "all"}, "rbf"),
    ({"responses": "all", "standardize": False}, "rbf"),
]


class _Known(RegressorMixin, BaseEstimator):
    """What a scorer needs of an estimator: predictions."""

    def __init__(self, predicted=None):
        self.predicted = predicted

    def fit(self, X, y):
        """Nothing is left to fit."""
        return self

    def __sklearn_is_fitted__(self):
        return True

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


def _run_network(spec, fold, stage):
    with single_threaded_blas(), reusing():
        spec = spec._replace(**SHORT[stage or LAST_STAGE])
        networks = fit_rows(fold.train, spec, moment=fold.moment).networks
        return predictions(networks, fold.test.X)


def _run_estimator(estimator, fold, _):
    with single_threaded_blas():
        fitted = clone(estimator).fit(fold.train.X, fold.train.y, fold.train.weight)
        return fitted.predict(fold.test.X)


class DeepTDRegressorCV(
    Documented, CallbackSupportMixin, MultiOutputMixin, RegressorMixin, BaseEstimator
):
    """The best of several models of a patch structure, or their best weighted mean.

    Without arguments it compares, on folds:

    - ridge regression;
    - ridge regression on :class:`DeepTDFeatures` of four kinds (relu, tanh, features
      of one unit, pooled), and kernel ridge regression on two: :class:`DeepTDRidge`;
    - networks of :class:`DeepTDRegressor` of all shapes of at most three layers that
      tile the input and have no more than a weight for eight samples.

    The first two are fitted in closed form, and are what serves with few samples.
    Networks go through three stages, and few reach the last: without the polish; with
    few starts and a short polish, after which those clearly behind the best candidate
    are left, by two standard errors of the paired difference over the folds; in full.

    The predictions of the rows held out then give the weights of a mean of several
    candidates. It is the model, where it is better on these rows than the best
    candidate by itself, which otherwise is. Ridge regression is the model where nothing
    is clearly ahead of it.

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
        As in :class:`~sklearn.model_selection.GridSearchCV`. None for five folds, or
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
    y_ndim_, n_features_in_, feature_names_in_
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
        param_grid=None,
        *,
        input_shape=None,
        ensemble_size=8,
        max_time=None,
        cv=None,
        scoring=None,
        n_jobs=None,
        random_state=None,
        verbose=0,
    ):
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
    def fit(self, X, y, sample_weight=None, **params):
        """Compare the candidates, and fit those that have a weight to all samples.

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
        begin = clock()
        split_params = self._route(params, sample_weight)
        context = self._init_callback_context(max_subtasks=LAST_STAGE + 2)
        metadata = {"sample_weight": sample_weight}
        with told(context, self, X=X, y=y, metadata=metadata):
            X, input_shape = flatten(X, self.input_shape)
            data, self.y_ndim_ = check_rows(self, X, y, sample_weight)
            rows = RowBlocks(*data)
            self.input_shape_ = tuple(input_shape or (rows.n_features,))
            folds = self._folds(rows, split_params)
            estimators, candidates = self._candidates(folds)
            self.scorer_ = check_scoring(_Known(), scoring=self.scoring)
            table = compare(
                candidates,
                folds,
                _Score(self.scorer_, sample_weight is not None, self.y_ndim_),
                functools.partial(_run_all, self.n_jobs, self.max_time is not None),
                end=begin + (self.max_time or np.inf) * OF_CHOICE,
                n_at_a_time=effective_n_jobs(self.n_jobs),
                report=reporter(self),
                stage=telling(self, context),
            )
            self._warn_of_failures(table)
            weights = self._weigh(candidates, folds, table)
            self._keep(estimators, candidates, table, weights)
            last = context.subcontext(task_name="fit of all rows")
            with told(last, self):
                growth = len(rows.X) / min(len(fold.train.X) for fold in folds)
                self._fit_members(rows, estimators, table, weights, growth, begin)
        return self

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

    def _folds(self, rows, split_params):
        cv = self.cv
        if cv is None:
            cv = 5 if len(rows.X) <= FEW_ROWS else 3
        splits = list(check_cv(cv).split(rows.X, rows.y, **split_params))
        self.n_splits_ = len(splits)
        with single_threaded_blas(), reusing(), explaining(self, rows):
            return [
                make_fold(*_parts(rows, fold, split))
                for fold, split in enumerate(splits)
            ]

    def _candidates(self, folds):
        """Unfitted estimators, and what is compared of each.

        Of linear ones in a grid those with the fewest filters: the others are the same.
        """
        n_rows = max(np.count_nonzero(fold.train.weight) for fold in folds)
        seed = self.random_state
        if not isinstance(seed, Integral):
            seed = check_random_state(seed).randint(np.iinfo(np.int32).max)
        common = {"input_shape": self.input_shape_, "random_state": seed}
        found = [_closed(_ridge(common), {"model": "ridge"}, "linear")]
        if self.param_grid is None:
            grid = [{"kernel_sizes": s} for s in _shapes(self.input_shape_, n_rows)]
            for params, kernel in CLOSED:
                features = DeepTDFeatures(**params, **common)
                if kernel != "rbf" or n_rows <= MOST_ROWS_OF_KERNEL:
                    estimator = DeepTDRidge(features, kernel=kernel)
                    found.append(
                        _closed(estimator, {"model": MODELS[kernel], **params})
                    )
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
        """Store the best candidate; the weights (candidates, outputs)."""
        scores = table.column("score")
        mean = scores.mean(axis=1)
        mean[(table.stages < LAST_STAGE) | ~np.isfinite(mean)] = -np.inf
        linear = np.array([candidate.kind == "linear" for candidate in candidates])
        self.best_index_ = best_of(mean, scores, linear)
        y = np.concatenate([fold.test.y for fold in folds])
        weights = np.zeros((len(candidates), y.shape[1]))
        if self.ensemble_size == 1:
            weights[self.best_index_] = 1
            return weights
        in_race = np.flatnonzero(np.isfinite(mean))
        weight = np.concatenate([fold.test.weight for fold in folds])
        predicted = np.stack(
            [np.concatenate([r.predicted for r in table.results[i]]) for i in in_race]
        )
        fold = np.repeat(np.arange(len(folds)), [len(fold.test.y) for fold in folds])
        best = int(np.flatnonzero(in_race == self.best_index_)[0])
        first_linear = next(iter(np.flatnonzero(linear[in_race])), best)
        for output in range(y.shape[1]):
            weights[in_race, output] = stacked(
                predicted[:, :, output],
                y[:, output],
                weight,
                fold,
                best,
                first_linear,
                self.ensemble_size,
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

        def fit(estimator):
            y = like_y(rows.y, self.y_ndim_)
            return clone(estimator).fit(rows.X, y, rows.weight)

        for i in dict.fromkeys([*members, self.best_index_]):
            if clock() + seconds[i] <= end:
                fitted[i] = fit(estimators[i])
        if not fitted:
            fitted[0] = fit(estimators[0])
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

    def predict(self, X, return_std=False):
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
        told_of = [e.predict(X, return_std=return_std) for e in self.estimators_]
        means = [m[0] if return_std else m for m in told_of]
        weights = like_y(self.weights_, self.y_ndim_)[:, np.newaxis].astype(X.dtype)
        y = np.sum(weights * means, axis=0)
        if not return_std:
            return y
        variances = [std**2 + (mean - y) ** 2 for mean, std in told_of]
        return y, np.sqrt(np.sum(weights * variances, axis=0))

    def __sklearn_is_fitted__(self):
        return hasattr(self, "estimators_")


def _run_all(n_jobs, in_haste, function, calls):
    """In processes, or where it matters that these take long to start, in threads."""
    prefer = "threads" if in_haste else None
    parallel = Parallel(n_jobs=n_jobs, prefer=prefer)
    return parallel(delayed(function)(*call) for call in calls)


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


def _ridge(common):
    """Ridge regression: the features of patches of one feature are the features."""
    sizes = [(1,) * len(common["input_shape"])]
    features = DeepTDFeatures(
        sizes, n_filters=1, strides=1, activation="identity", **common
    )
    return DeepTDRidge(features)


def _closed(estimator, params, kind="closed"):
    return estimator, Candidate(
        params, kind, functools.partial(_run_estimator, estimator)
    )


def _network(estimator, params, rows):
    validate_parameter_constraints(
        DeepTDRegressor._parameter_constraints,
        estimator.get_params(deep=False),
        caller_name="DeepTDRegressor",
    )
    _, spec = design_regression(estimator, rows, estimator.input_shape)
    kind = "linear" if spec.blank.is_linear else "network"
    return estimator, Candidate(params, kind, functools.partial(_run_network, spec))


def _shapes(input_shape, n_rows):
    """Of the default grid those that have few weights for the rows."""
    return [
        shapes
        for shapes in default_grid(input_shape, MOST_LAYERS, MOST_SHAPES)
        if len(shapes) > 1
        and ROWS_PER_WEIGHT * degrees_of_freedom([int(np.prod(s)) for s in shapes])
        <= n_rows
    ]


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
