"""Inspect a model: effects of features, comparison with a linear model, novelty.

==========  ==================  ===============================================
symbol      array               axes
==========  ==================  ===============================================
x_i         ``X``               (rows, features)
s_j         ``spread``          (features,): standard deviation over the rows
f           ``_raw_outputs``    (rows, outputs): predictions, or logits
w_ij        ``weights``         (rows, features): s_j times df / dx_j at x_i
T2, Q       ``distances``       (rows, 2): from the principal components of the rows
                                of a fit
==========  ==================  ===============================================

The derivative is a central difference of predictions, so that effective weights are
defined in the same way for all models, averages of models and pipelines.
"""

import math
from collections.abc import Iterable, Sequence
from numbers import Integral, Real

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import logsumexp
from scipy.stats import sem
from sklearn import config_context
from sklearn.base import BaseEstimator, is_classifier, is_regressor
from sklearn.dummy import DummyRegressor
from sklearn.linear_model import RidgeCV
from sklearn.model_selection import (
    BaseCrossValidator,
    KFold,
    check_cv,
    cross_val_predict,
)
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils import Bunch, check_array
from sklearn.utils.validation import check_is_fitted, has_fit_parameter

from skdeeptd._compat import Interval, validate_parameter_constraints
from skdeeptd._data.signals import feature_units, from_signals, in_units
from skdeeptd._solvers.conformal import fewest_rows, score_quantile
from skdeeptd._solvers.ridge import principal
from skdeeptd._validation import (
    check_index,
    check_new_rows,
    check_sequence,
    check_weight,
    flatten,
    split_columns,
    unwrap_pipeline,
)


def compare_with_linear(
    estimator: BaseEstimator,
    X: ArrayLike,
    y: ArrayLike,
    *,
    cv: int | BaseCrossValidator | Iterable | None = None,
    sample_weight: ArrayLike | None = None,
    linear: BaseEstimator | None = None,
    n_jobs: int | None = None,
) -> Bunch:
    """Compare the cross-validated R2 of a regressor with that of a linear model.

    >>> from skdeeptd import DeepTDRegressor
    >>> from skdeeptd.datasets import make_patch_cnn_regression
    >>> from skdeeptd.inspection import compare_with_linear
    >>> X, y = make_patch_cnn_regression(
    ...     n_samples=400, kernel_sizes=(8, 8), noise=0.3, random_state=0
    ... )
    >>> model = DeepTDRegressor(kernel_sizes=(8, 8), random_state=0)
    >>> compare_with_linear(model, X, y).conclusion
    ['network']

    Nothing can be learned from a y in reverse order:

    >>> compare_with_linear(model, X, y[::-1]).conclusion
    ['nothing']

    Clones of both models are fitted on the same folds and predict the held-out samples.
    The result answers two questions for each output of y: can X predict y at all, and
    is a network better than a linear model?

    Parameters
    ----------
    estimator : regressor
        The network: a regressor or a Pipeline that ends in one, fitted or not. A search
        is repeated in every fold; pass its ``best_estimator_`` to save time.
    X : array-like of shape (n_samples, n_features) or (n_samples,) + input_shape
        At least 9 samples. The linear model gets samples of several axes flattened.
    y : array-like of shape (n_samples,) or (n_samples, n_outputs)
        Targets. No output may be constant.
    cv : int, cross-validation splitter or iterable, default=None
        As in :class:`~sklearn.model_selection.GridSearchCV`; each sample must be held
        out exactly once. None for five shuffled folds, or ``n_samples // 3`` if that is
        smaller. Use contiguous blocks, ``KFold(5)``, if neighbouring samples are alike.
    sample_weight : array-like of shape (n_samples,), default=None
        Weights in both fits and in the scores.
    linear : regressor, default=None
        The linear model. None for :class:`~sklearn.preprocessing.StandardScaler` and
        :class:`~sklearn.linear_model.RidgeCV` with a penalty for each output.
    n_jobs : int, default=None
        Number of folds that are fitted at the same time, as in joblib.

    Returns
    -------
    Bunch
        Each array or list has an entry for each output of y:

        network, linear : ndarray of shape (n_outputs,)
            Cross-validated R2.
        network_se, linear_se : ndarray of shape (n_outputs,)
            Standard errors of the R2.
        conclusion : list of str
            "nothing" if neither model predicts clearly better than the mean of y,
            "network" if the network predicts clearly better than the linear model, else
            "linear".
        text : list of str
            The conclusion as a sentence.

    Raises
    ------
    TypeError
        If a model is not a regressor, or if weights are given and a model takes none.
    ValueError
        If there are fewer than 9 samples of positive weight, if an output is constant,
        if ``cv`` does not hold out each sample once, or if X, y or the weights are
        invalid.

    See Also
    --------
    skdeeptd.plotting.LinearComparisonDisplay : Draw the result.

    Notes
    -----
    For held-out sample i let e_i be the error of a model, d_i the error of the mean of
    the training samples, and v_i the weight divided by the sum of the weights. With q
    the ratio of the weighted means of e_i^2 and d_i^2, R2 is 1 - q, and by the delta
    method::

        se^2 = sum_i v_i^2 (e_i^2 - q d_i^2)^2 / (sum_i v_i d_i^2)^2

    One model is clearly better than another if the weighted mean of the paired
    differences of their squared errors exceeds two standard errors. The standard error
    has the same formula, with the differences minus their mean. The mean difference
    must also exceed a millionth of the mean of d_i^2.

    The standard errors do not depend on the unit of the weights. They treat held-out
    errors as independent, although the folds share training samples, and are therefore
    slightly too small. R2 is not robust to outliers of y.
    """
    if linear is None:
        ridge = RidgeCV(np.logspace(-5, 6, 23), alpha_per_target=True)
        linear = make_pipeline(StandardScaler(), ridge)
    for name, model in (("estimator", estimator), ("linear", linear)):
        if not is_regressor(model):
            raise TypeError(
                f"{name} must be a regressor, got {type(model).__name__}; for classes "
                f"compare cross_val_score of the classifier and of LogisticRegression"
            )
    flat, _ = flatten(X, None)
    y = check_array(y, ensure_2d=False, dtype=float, input_name="y")
    columns = y.reshape(len(y), -1)
    weight = check_weight(estimator, columns, sample_weight)
    splits = list(_splitter(cv, columns[weight > 0]).split(flat, y))

    def held_out_errors(model, X):
        params = {} if sample_weight is None else _weight_params(model, weight)
        options = {"cv": splits, "n_jobs": n_jobs, "params": params}
        with config_context(enable_metadata_routing=False):
            predicted = cross_val_predict(model, X, y, **options)
        name = f"the predictions of {type(model).__name__}"
        predicted = check_array(predicted, ensure_2d=False, input_name=name)
        return columns - predicted.reshape(columns.shape)

    models = (DummyRegressor(), flat), (linear, flat), (estimator, X)
    return _compare_errors(np.array([held_out_errors(*m) for m in models]), weight)


def _splitter(cv, y):
    """Return the folds; raise if the rows of y are too few or a column is constant."""
    n_splits = min(5, len(y) // 3)
    if n_splits < 3:
        raise ValueError(f"at least 9 samples of positive weight needed, got {len(y)}")
    constant = np.flatnonzero(np.ptp(y, axis=0) == 0).tolist()
    if constant:
        raise ValueError(f"output {constant} of y is constant: leave it out")
    return check_cv(KFold(n_splits, shuffle=True, random_state=0) if cv is None else cv)


def _weight_params(model, weight, prefix=""):
    """Return the arguments of ``fit`` that hand weights to the steps of a Pipeline."""
    if not isinstance(model, Pipeline):
        return {f"{prefix}sample_weight": weight}
    *steps, (name, last) = model.steps
    params = {
        f"{prefix}{step}__sample_weight": weight
        for step, part in steps
        if hasattr(part, "fit") and has_fit_parameter(part, "sample_weight")
    }
    return params | _weight_params(last, weight, f"{prefix}{name}__")


def _compare_errors(errors, weight):
    """Return R2, standard errors and conclusions from errors (3, rows, outputs).

    The errors are those of the mean, of the linear model and of the network.
    """
    share = weight / np.sum(weight)
    squares = (errors / np.max(np.abs(errors[0]), axis=0)) ** 2
    means = np.einsum("i,mio->mo", share, squares)
    ratio = means / means[0]
    terms = (squares - ratio[:, np.newaxis] * squares[0]) / means[0]
    std_errors = np.sqrt(np.einsum("i,mio->mo", share**2, terms**2))

    def is_better(model, other):
        gains = (squares[other] - squares[model]) / means[0]
        mean = share @ gains
        std_error = np.sqrt(share**2 @ (gains - mean) ** 2)
        return mean > np.maximum(2 * std_error, 1e-6)

    conclusion = np.where(is_better(2, 1), "network", "linear")
    conclusion[~(is_better(1, 0) | is_better(2, 0))] = "nothing"
    scores = dict(zip(("linear", "network"), 1 - ratio[1:], strict=True))
    scores |= dict(zip(("linear_se", "network_se"), std_errors[1:], strict=True))
    outputs = zip(conclusion, *scores.values(), strict=True)
    text = [_sentence(*output) for output in outputs]
    return Bunch(conclusion=conclusion.tolist(), text=text, **scores)


def _sentence(conclusion, linear, network, linear_se, network_se):
    """Return the conclusion for one output in plain words."""
    linear = f"the linear model (R2 {linear:.2f} +- {linear_se:.2f})"
    network = f"the network (R2 {network:.2f} +- {network_se:.2f})"
    if conclusion == "nothing":
        return f"Neither {network} nor {linear} is clearly better than the mean of y."
    no = "" if conclusion == "network" else "not "
    return f"On held-out samples {network} is {no}clearly better than {linear}."


def effective_weights(
    estimator: BaseEstimator,
    X: ArrayLike,
    *,
    output: int = 0,
    input_shape: Sequence[int] | None = None,
    refits: Sequence[BaseEstimator] | None = None,
) -> Bunch:
    """Compute the effect of each feature on the prediction.

    >>> import numpy as np
    >>> from sklearn.pipeline import make_pipeline
    >>> from sklearn.preprocessing import StandardScaler
    >>> from skdeeptd import DeepTDRegressor
    >>> from skdeeptd.inspection import effective_weights
    >>> X = np.random.default_rng(0).standard_normal((100, 4))
    >>> X = X / X.std(axis=0) * [1, 10, 1, 1]
    >>> y = X @ [3, -0.5, 0, 1]
    >>> model = make_pipeline(StandardScaler(), DeepTDRegressor((4,))).fit(X, y)
    >>> result = effective_weights(model, X)
    >>> result.magnitude.round(3) + 0
    array([3., 5., 0., 1.])
    >>> result.sign[[0, 1, 3]].round(3)
    array([ 1., -1.,  1.])

    The effective weight of a feature in a sample is the derivative of the prediction by
    the feature (saliency), times the standard deviation of the feature over the
    samples. It has the unit of y. For a linear model it is the coefficient times that
    standard deviation, in every sample.

    Any regressor or classifier will do. For a Pipeline the features are those of its
    input. X is predicted twice for each feature; a few hundred samples are enough.

    Parameters
    ----------
    estimator : regressor or classifier
        A fitted model of this package or of scikit-learn, or a Pipeline. All weights
        are zero if the prediction is piecewise constant, as that of a tree.
    X : array-like of shape (n_samples, n_features) or (n_samples,) + input_shape
        At least two samples. They also give the standard deviations.
    output : int, default=0
        Index of the output. The outputs of a classifier are logits: one for two
        classes, else one for each of ``classes_``. They are its ``decision_function``
        or, if it has none, the log-odds of its probabilities.
    input_shape : sequence of int, default=None
        Shape of a sample in the results. None means that of X or, if X has two axes,
        ``input_shape_`` of the estimator, unless it is a Pipeline.
    refits : sequence of estimators, default=None
        At least two models fitted to other samples, such as ``"estimator"`` of
        :func:`sklearn.model_selection.cross_validate` with ``return_estimator=True``.

    Returns
    -------
    Bunch
        Arrays of the shape of a sample:

        magnitude
            Mean absolute weight over the samples.
        sign
            Mean weight divided by the mean absolute weight, from -1 to 1; 0 for a
            feature without effect.
        standard_error
            Standard error of the mean over the samples.
        refit_std
            Standard deviation of the magnitude over the refits; NaN without refits. It
            is too small if the refits share most of their samples.
        weights
            Weights of each sample, of shape (n_samples,) + shape of a sample.

    Raises
    ------
    sklearn.exceptions.NotFittedError
        If the estimator or a refit is not fitted.
    ValueError, TypeError
        If X does not fit the estimator, holds NaN or inf or has one sample, if there is
        no such output, or if the estimator is neither regressor nor classifier. Also if
        there is only one refit, or a refit is of another kind or has other classes.

    See Also
    --------
    skdeeptd.plotting.ImportanceDisplay : Draw the result.
    sklearn.inspection.permutation_importance : The loss of score without a feature.

    Notes
    -----
    The derivative is a central difference: the feature is shifted up and down by a
    hundredth of its standard deviation.
    """
    check_sequence("input_shape", input_shape, "(8, 8)")
    restore = _input_restorer(X)
    X, shape = flatten(X, input_shape)
    X = check_array(X, dtype=float, ensure_min_samples=2)
    estimators = [estimator, *_check_refits(refits, estimator)]
    n_outputs = {_raw_outputs(e, restore(X)).shape[1] for e in estimators}
    check_index("output", output, min(n_outputs))
    weights, *others = (_feature_weights(e, X, output, restore) for e in estimators)
    size, mean = np.abs(weights), weights.mean(axis=0)
    magnitude = size.mean(axis=0)
    refit_std = np.full(len(mean), np.nan)
    if others:
        magnitudes = [np.abs(w).mean(axis=0) for w in others]
        refit_std = np.std(magnitudes, axis=0, ddof=1)
    if shape is None:
        owner = getattr(estimator, "features_", estimator)
        shape = getattr(owner, "input_shape_", X.shape[1:])
        if len(getattr(estimator, "covariate_indices_", ())):
            shape = X.shape[1:]  # the signal and the covariates
    shape = tuple(shape)
    if math.prod(shape) != X.shape[1]:
        raise ValueError(
            f"input_shape {shape} has {math.prod(shape)} entries, but X has "
            f"{X.shape[1]} features"
        )
    return Bunch(
        magnitude=magnitude.reshape(shape),
        sign=(mean / np.where(magnitude > 0, magnitude, 1)).reshape(shape),
        standard_error=np.reshape(sem(size, axis=0), shape),
        refit_std=refit_std.reshape(shape),
        weights=weights.reshape(-1, *shape),
    )


def metric_weights(estimator: BaseEstimator) -> Bunch:
    """Compute the weight of each feature in the learned metric of a kernel.

    >>> import numpy as np
    >>> from skdeeptd import DeepTDRidge, SignalScaler
    >>> from skdeeptd.inspection import metric_weights
    >>> X = np.random.default_rng(0).standard_normal((150, 12))
    >>> y = np.sin(2 * X[:, 3])
    >>> model = DeepTDRidge(SignalScaler(), kernel="rbf", metric="learned").fit(X, y)
    >>> int(metric_weights(model).weights.argmax())
    3

    The weight of a feature is its entry on the diagonal of ``metric_``, divided by the
    sum of the diagonal. It is proportional to the mean squared derivative of the first
    fit by the feature. A feature of weight zero does not contribute to the distance
    between two samples.

    Parameters
    ----------
    estimator : DeepTDRidge or DeepTDRidgeClassifier
        Fitted, with a kernel other than "linear".

    Returns
    -------
    Bunch
        weights
            Array of the shape of a sample if the features are those of a
            :class:`~skdeeptd.SignalScaler`, else (n_features_out,); of sum one without
            covariates.
        feature_names
            None in the first case, else the names of the features.
        covariates
            Weights of the covariates, (n_covariates,), which count in the sum too.

    Raises
    ------
    sklearn.exceptions.NotFittedError
        If the estimator is not fitted.
    TypeError, AttributeError
        If the estimator is of another kind, or if its kernel is linear.

    See Also
    --------
    skdeeptd.plotting.MetricDisplay : Draw the weights.
    effective_weights : Compute the effect of each feature for any model.
    """
    check_is_fitted(estimator)
    ridge = getattr(estimator, "regressor_", estimator)
    if not hasattr(ridge, "features_"):
        raise TypeError(
            f"metric_weights takes a DeepTDRidge or DeepTDRidgeClassifier, not a "
            f"{type(estimator).__name__}; of an average take one of estimators_"
        )
    diagonal, features = np.diag(ridge.metric_).copy(), ridge.features_
    n_features = len(diagonal) - len(ridge.covariate_indices_)
    diagonal[n_features:] *= ridge.covariate_weight_**2
    weights, covariates = np.split(diagonal / np.sum(diagonal), [n_features])
    names = None
    if hasattr(features, "kernels_"):
        names = features.get_feature_names_out().tolist()
    else:
        weights = from_signals(weights, features.input_shape_)
    return Bunch(weights=weights, feature_names=names, covariates=covariates)


def novelty(
    estimator: BaseEstimator,
    X: ArrayLike,
    X_train: ArrayLike,
    *,
    n_components: int | float = 0.999,
    coverage: float = 0.95,
    cv: int | BaseCrossValidator | Iterable | None = None,
) -> Bunch:
    """Find samples that are unlike the training samples, by T2 and Q residuals.

    >>> import numpy as np
    >>> from skdeeptd import DeepTDRidge, SignalScaler
    >>> from skdeeptd.inspection import novelty
    >>> rng = np.random.default_rng(0)
    >>> peak = np.exp(-(np.linspace(-3, 3, 50) ** 2))
    >>> height = rng.uniform(1, 2, 120)
    >>> X = height[:, np.newaxis] * peak + 0.01 * rng.standard_normal((120, 50))
    >>> model = DeepTDRidge(SignalScaler()).fit(X[:100], height[:100])
    >>> bool(novelty(model, X[100:], X[:100]).is_novel.mean() < 0.2)
    True
    >>> bool(novelty(model, np.roll(X[100:], 3, axis=1), X[:100]).is_novel.all())
    True

    Hotelling's T2 is the squared distance from the mean of the training samples along
    their principal components, in units of the variances. The Q residual is the squared
    distance from the plane of these components [1]_. A sample is novel if T2 or Q
    exceeds its limit.

    Parameters
    ----------
    estimator : estimator
        A fitted model of this package or of scikit-learn, or a Pipeline. A
        :class:`~skdeeptd.DeepTDRidge` or DeepTDRidgeClassifier is inspected on its
        features, other models on the samples that they take, after all but the last
        step of a Pipeline.
    X : array-like of shape (n_samples, n_features) or (n_samples,) + input_shape
        Samples to inspect.
    X_train : array-like of shape (n_train, n_features) or (n_train,) + input_shape
        The training samples, at least 10. A thousand random ones are enough.
    n_components : int or float, default=0.999
        Number of principal components, or the share of the variance that they explain.
        A share takes at most a fifth as many components as training samples.
    coverage : float, default=0.95
        Share of new samples inside both limits, if they are like the training samples.
        Between 0 and 1; 0.95 needs 19 training samples, 0.99 needs 99.
    cv : int, cross-validation splitter or iterable, default=None
        As in :class:`~sklearn.model_selection.GridSearchCV`; each training sample must
        be held out exactly once. None for ten shuffled folds. Use contiguous blocks,
        ``KFold(10)``, if neighbouring samples are alike.

    Returns
    -------
    Bunch
        t2, q : ndarray of shape (n_samples,)
            T2 and Q of the samples.
        t2_limit, q_limit : float
            Limits.
        is_novel : ndarray of shape (n_samples,)
            Whether T2 or Q exceeds its limit.
        t2_train, q_train : ndarray of shape (n_train,)
            T2 and Q of each training sample in the fold that holds it out.

    Raises
    ------
    sklearn.exceptions.NotFittedError
        If the estimator is not fitted.
    ValueError
        If X or X_train does not fit the estimator, or X_train has too few samples or
        equal ones only, or a parameter is invalid.

    See Also
    --------
    skdeeptd.plotting.NoveltyDisplay : Draw the result.

    Notes
    -----
    A fitted model holds no training samples, so that they are an argument. The members
    of an average, such as DeepTDAutoRegressor, have different features. Therefore the
    samples themselves are inspected, as for a network.

    Features are divided by their standard deviations, or by a tenth of the median
    standard deviation if that is larger. The components are fitted to the training
    samples only.

    The limits come from training samples that the components have not seen, because T2
    and Q of samples that they were fitted to are too small. Both limits are the same
    multiple of the quantile ``coverage`` of T2 and of Q. This multiple is conformal
    [2]_: a share ``coverage`` of the held-out samples, with a correction for their
    number, is inside both limits.

    T2 determines the leverage in a regression on the components, h = 1 / n_train +
    T2 / (n_train - 1) for a training sample. A model may predict a novel sample well,
    for example if its features ignore the difference, and a sample that is not novel
    badly.

    References
    ----------
    .. [1] J. Jackson, G. Mudholkar. Control procedures for residuals associated with
       principal component analysis. Technometrics 21(3), 1979.
    .. [2] V. Vovk, A. Gammerman, G. Shafer. Algorithmic Learning in a Random World.
       Springer, 2005.
    """
    share = Interval(Real, 0, 1, closed="neither")
    number = Interval(Integral, 1, None, closed="left")
    validate_parameter_constraints(
        {"n_components": [number, share], "coverage": [share]},
        {"n_components": n_components, "coverage": coverage},
        caller_name="novelty",
    )
    train, rows = (_rows_of_model(estimator, rows) for rows in (X_train, X))
    n_train, least = len(train), max(10, fewest_rows(coverage))
    if n_train < least:
        raise ValueError(
            f"coverage={coverage:g} needs {least} training samples, but X_train has "
            f"{n_train}"
        )
    if not np.any(np.ptp(train, axis=0)):
        raise ValueError("X_train holds the same sample only; use different ones")
    model = _PrincipalDistances(n_components).fit(train)
    if cv is None:
        cv = KFold(10, shuffle=True, random_state=0)
    of_folds = _PrincipalDistances(len(model.variances_))
    held_out = cross_val_predict(of_folds, train, cv=cv)
    found, unit = model.predict(rows), np.quantile(held_out, coverage, axis=0)
    largest = np.max(held_out / unit, axis=1, keepdims=True)
    limits = unit * score_quantile(largest, np.ones(n_train), coverage)
    return Bunch(
        t2=found[:, 0],
        q=found[:, 1],
        t2_limit=float(limits[0]),
        q_limit=float(limits[1]),
        is_novel=np.any(found > limits, axis=1),
        t2_train=held_out[:, 0],
        q_train=held_out[:, 1],
    )


def _rows_of_model(estimator, X):
    """Return features and covariates of a DeepTDRidge, or the samples of a model."""
    estimator, X = unwrap_pipeline(estimator, X)
    check_is_fitted(estimator)
    ridge = getattr(estimator, "regressor_", estimator)
    how = {"ensure_all_finite": True, "dtype": float}
    if not hasattr(ridge, "features_"):
        shape = getattr(estimator, "input_shape_", None)
        return check_new_rows(estimator, X, shape, **how)
    X = check_new_rows(estimator, X, ridge.features_.input_shape_, **how)
    signal, covariates = split_columns(X, ridge.covariate_indices_)
    units = ridge.covariate_shift_, ridge.covariate_scale_
    return np.hstack([ridge.features_.transform(signal), in_units(covariates, *units)])


class _PrincipalDistances(BaseEstimator):
    """Predict T2 and Q of rows, (rows, 2), from the principal components of others.

    A share of variance takes at most ``most`` times as many components as rows. With
    0.99 of the variance half of the meat spectra (tecator) pass with an offset of two
    standard deviations, with 0.999 few do. T2 and Q are at least ``rounding`` times
    their typical size.
    """

    def __init__(self, n_components):
        self.n_components = n_components

    def fit(self, X, y=None, most=0.2):
        n_rows, n = len(X), self.n_components
        self.shift_, self.scale_ = feature_units(X, np.full(n_rows, 1 / n_rows))
        X = self._standard(X)
        left, values = (array[..., ::-1] for array in principal(X))  # largest first
        if not isinstance(n, Integral):
            n = np.searchsorted(np.cumsum(values), n * np.sum(values)) + 1
            n = min(n, max(1, int(most * n_rows)))
        values = values[:n]
        self.components_ = X.T @ (left[:, :n] / np.sqrt(values))
        self.variances_ = values / (n_rows - 1)
        return self

    def predict(self, X, rounding=1e-12):
        X = self._standard(X)
        scores = X @ self.components_
        t2 = np.sum(scores**2 / self.variances_, axis=1)
        q = np.sum((X - scores @ self.components_.T) ** 2, axis=1)
        least = rounding * np.array([1, X.shape[1]])
        return np.maximum(np.column_stack([t2, q]), least)

    def _standard(self, X, largest=1e100):
        """Return X in units of the training rows; their squares do not overflow."""
        with np.errstate(over="ignore"):
            return np.clip(in_units(X, self.shift_, self.scale_), -largest, largest)


def _input_restorer(X):
    """Return a function that gives rows the form of X: a frame, or several axes."""
    if hasattr(X, "columns"):
        return lambda rows: type(X)(dict(zip(X.columns, rows.T, strict=True)))
    shape = np.shape(X)[1:]
    return lambda rows: rows.reshape(-1, *shape)


def _check_refits(refits, estimator):
    """Return a list of the refits; raise an error if a model is of a wrong kind."""
    check_sequence("refits", refits, "[fitted, another]")
    refits = [] if refits is None else list(refits)
    if len(refits) == 1:
        raise ValueError("refits holds one estimator; a spread needs at least two")
    for fitted in [estimator, *refits]:
        if not (is_regressor(fitted) or is_classifier(fitted)):
            kind = type(fitted).__name__
            raise TypeError(f"expected a regressor or a classifier, got {kind}")
        check_is_fitted(fitted)
        if is_classifier(fitted) != is_classifier(estimator):
            raise TypeError("refits and the estimator must be of one kind")
        classes, expected = (getattr(e, "classes_", ()) for e in (fitted, estimator))
        if not np.array_equal(classes, expected):
            raise ValueError(f"refits must have the classes {expected}, got {classes}")
    return refits


def _raw_outputs(estimator, X):
    """Return predictions, or logits, (rows, outputs)."""
    if is_regressor(estimator):
        outputs = estimator.predict(X)
    elif hasattr(estimator, "decision_function"):
        outputs = estimator.decision_function(X)
    else:  # log-odds of each class, or of the second of two classes
        logs = estimator.predict_log_proba(X)
        n_classes = logs.shape[1]
        others = [logsumexp(np.delete(logs, k, 1), axis=1) for k in range(n_classes)]
        odds = logs - np.column_stack(others)
        outputs = odds[:, 1] if n_classes == 2 else odds
    return np.reshape(outputs, (len(X), -1))


def _feature_weights(
    estimator, X, output, restore, *, step_stds=0.01, block_numbers=2**21
):
    """Return w_ij; those of a constant feature are zero.

    A feature is shifted by ``step_stds`` standard deviations, and at most
    ``block_numbers`` numbers (or one feature) are predicted at a time.
    """
    spread = np.where(np.ptp(X, axis=0) > 0, X.std(axis=0), 0)
    varying = np.flatnonzero(spread)
    weights, n_features = np.zeros(X.shape), max(1, block_numbers // (2 * X.size))
    for begin in range(0, len(varying), n_features):
        features = varying[begin : begin + n_features]
        shifted = np.empty((2, len(features), *X.shape))
        shifted[:] = X
        blocks = np.arange(len(features))
        shift = step_stds * spread[features, np.newaxis]
        shifted[0, blocks, :, features] += shift
        shifted[1, blocks, :, features] -= shift
        rows = restore(shifted.reshape(-1, X.shape[1]))
        above, below = _raw_outputs(estimator, rows)[:, output].reshape(2, -1, len(X))
        weights[:, features] = ((above - below) / (2 * step_stds)).T
    return weights
