"""DeepTDRegressorCV: the shape, the filters and alpha by cross-validation."""

from numbers import Integral, Real

import numpy as np
from sklearn import get_config
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.metrics import check_scoring
from sklearn.model_selection import ParameterGrid, check_cv
from sklearn.utils.metadata_routing import (
    MetadataRouter,
    MethodMapping,
    process_routing,
)
from sklearn.utils.parallel import Parallel, delayed

from skdeeptd._base import (
    BasePatchNetwork,
    explaining,
    forgetting,
    n_outputs_of,
    telling,
)
from skdeeptd._compat import Interval, StrOptions, fit_context, told
from skdeeptd._data.rows import RowBlocks
from skdeeptd._data.scratch import reusing
from skdeeptd._data.threads import single_threaded_blas
from skdeeptd._model.fitted import predictions
from skdeeptd._model.layout import default_grid, make_layout
from skdeeptd._solver.choice import (
    STAGES,
    Candidate,
    best_of,
    compare,
    make_fold,
    results_of,
)
from skdeeptd._solver.search import silent

MOST_LAYERS = 3  # of the default grid


class _Predictor(RegressorMixin, BaseEstimator):
    """What a scorer needs of an estimator: networks that predict."""

    def __init__(self, networks=(), y_is_1d=True):
        self.networks = networks
        self.y_is_1d = y_is_1d

    def fit(self, X, y):
        """Nothing is left to fit."""
        return self

    def __sklearn_is_fitted__(self):
        return True

    def predict(self, X):
        predicted = predictions(self.networks, X)
        return predicted[:, 0] if self.y_is_1d else predicted


class _Score:
    """The scorer's score of networks on rows held out."""

    def __init__(self, scorer, weighted, y_is_1d):
        self.scorer, self.weighted, self.y_is_1d = scorer, weighted, y_is_1d

    def __call__(self, networks, rows):
        y = rows.y[:, 0] if self.y_is_1d else rows.y
        weight = {"sample_weight": rows.weight} if self.weighted else {}
        return self.scorer(_Predictor(networks, self.y_is_1d), rows.X, y, **weight)


class DeepTDRegressorCV(BasePatchNetwork):
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
        and the default of DeepTDRegressor. Where these are more
        than 1000, or than 2**27 over the number of features, it takes so many at most:
        the single layer and, of two and of three layers as many, those that split the
        axes most evenly, with the larger parts first.
    input_shape : sequence of int, default=None
        As in DeepTDRegressor.
    strides : default=None
        As in DeepTDRegressor, for all candidates; with ``kernel_sizes=None`` there is
        then one shape, that of DeepTDRegressor.
    padding : {"valid", "same"}, default="valid"
    n_filters : int or sequence of int, default=1
        The candidates.
    activation, output_activation, fit_intercept, hidden_bias, share_filters
        As in DeepTDRegressor. A sequence of activations holds for candidates of as many
        layers only.
    alphas : float, "loo" or sequence of them, default=0.0
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
        ``mean_fit_time``, ``std_fit_time``, ``mean_score_time``, ``std_score_time``.
        ``stage`` is the last stage, from 1 to 3, that a candidate reached; its scores
        are those of that stage, and it ranks behind all that got further.
    scorer_ : callable
    n_splits_ : int
    kernels_, gains_, scales_, biases_, intercept_, moment_, kernel_sizes_, \
strides_, input_shape_, activations_, alpha_, verdict_, held_out_r2_, n_iter_, \
covariance_, noise_variance_, y_ndim_, n_features_in_, feature_names_in_
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
        **BasePatchNetwork._parameter_constraints,
        "n_filters": ["array-like", Interval(Integral, 1, None, closed="left")],
        "alphas": [
            StrOptions({"loo"}),
            "array-like",
            Interval(Real, 0, np.inf, closed="left"),
        ],
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
        strides=None,
        padding="valid",
        n_filters=1,
        activation="relu",
        output_activation="identity",
        fit_intercept=True,
        hidden_bias=False,
        share_filters=False,
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
        self.strides = strides
        self.padding = padding
        self.n_filters = n_filters
        self.activation = activation
        self.output_activation = output_activation
        self.fit_intercept = fit_intercept
        self.hidden_bias = hidden_bias
        self.share_filters = share_filters
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
        context = self._init_callback_context(max_subtasks=len(STAGES) + 1)
        metadata = {"sample_weight": sample_weight}
        with told(context, self, X=X, y=y, metadata=metadata):
            rows, input_shape = self._rows(X, y, sample_weight)
            candidates = self._candidates(n_outputs_of(rows), input_shape)
            scorer = check_scoring(_Predictor(), scoring=self.scoring)
            score = _Score(scorer, sample_weight is not None, self.y_ndim_ == 1)
            scores = self._compare(candidates, rows, score, split_params, context)
            self._keep(candidates, scores)
            self.scorer_ = scorer
            layout, spec = self._design(
                self.n_features_in_,
                n_outputs_of(rows),
                input_shape,
                **self.best_params_,
            )
            last = context.subcontext(task_name="fit of all rows", max_subtasks=3)
            with told(last, self):
                self._learn(rows, layout, spec, last)
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

    def _candidates(self, n_outputs, input_shape):
        """All combinations, checked before any work is done.

        Of linear ones those with the fewest filters only: the others are the same.
        """
        n_features, shapes = self.n_features_in_, self.kernel_sizes
        if shapes is None:
            default = make_layout(
                n_features, None, input_shape, self.padding, self.strides
            )
            shapes = [default.kernel_sizes]
            if self.strides is None:
                shapes = default_grid(default.input_shape, MOST_LAYERS)
            if default.kernel_sizes not in shapes:
                shapes = [default.kernel_sizes, *shapes]
        grid = {
            "kernel_sizes": _as_list("kernel_sizes", shapes),
            "n_filters": _as_list("n_filters", self.n_filters),
            "alpha": _as_list("alphas", self.alphas),
        }
        single = [shape for shape in grid["kernel_sizes"] if np.ndim(shape) == 0]
        if single:
            raise ValueError(
                f"kernel_sizes must hold a list of candidates, each with a size per "
                f"layer, got {single[0]} for one; for a single candidate write "
                f"[{self.kernel_sizes}]"
            )
        _check_numbers(grid["n_filters"], "n_filters", Integral, 1)
        penalties = [alpha for alpha in grid["alpha"] if not _is_loo(alpha)]
        _check_numbers(penalties, "alphas", Real, 0)
        candidates, fewest = [], min(grid["n_filters"])
        for params in ParameterGrid(grid):
            _, spec = self._design(n_features, n_outputs, input_shape, **params)
            candidate = Candidate(params, spec._replace(report=silent))
            if not candidate.is_linear or params["n_filters"] == fewest:
                candidates.append(candidate)
        return candidates

    def _compare(self, candidates, rows, score, split_params, context):
        """The ``Scores`` of the candidates."""
        splitter = check_cv(self.cv)
        splits = list(splitter.split(rows.X, rows.y, **split_params))
        self.n_splits_ = len(splits)

        def run_all(function, calls):
            return Parallel(n_jobs=self.n_jobs)(delayed(function)(*c) for c in calls)

        with single_threaded_blas(), reusing(), explaining(self, rows):
            folds = [
                make_fold(*_parts(rows, fold, split), self.fit_intercept)
                for fold, split in enumerate(splits)
            ]
            return compare(
                candidates,
                folds,
                score,
                run_all,
                report=self._report,
                stage=telling(self, context),
            )

    def _keep(self, candidates, scores):
        """Store the table, and which candidate it speaks for."""
        linear = np.array([candidate.is_linear for candidate in candidates])
        self.cv_results_ = results_of(candidates, scores)
        self.best_index_ = best_of(self.cv_results_["rank_test_score"], scores, linear)
        self.best_params_ = candidates[self.best_index_].params
        mean = self.cv_results_["mean_test_score"]
        self.best_score_ = float(mean[self.best_index_])


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


def _as_list(name, values):
    """The values of a parameter; a single number stands for itself."""
    values = [values] if isinstance(values, Real | str) else list(values)
    if not values:
        raise ValueError(f"{name} is empty; give at least one candidate")
    return values


def _is_loo(alpha):
    return isinstance(alpha, str) and alpha == "loo"


def _check_numbers(values, name, kind, least):
    for value in values:
        fits = isinstance(value, kind) and not isinstance(value, bool)
        if not fits or not least <= value < np.inf:
            raise ValueError(
                f"{name} must hold numbers of at least {least}, got {value!r}"
            )
