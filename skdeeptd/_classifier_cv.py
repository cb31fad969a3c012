"""DeepTDClassifierCV: the best of several models of classes, or their best mean."""

from __future__ import annotations

import functools

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import ClassifierMixin, clone
from sklearn.decomposition import KernelPCA
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import check_scoring
from sklearn.model_selection import ParameterGrid
from sklearn.pipeline import Pipeline
from sklearn.utils.validation import check_is_fitted, validate_data

from skdeeptd._base import flatten
from skdeeptd._base_cv import (
    MOST_ROWS_OF_KERNEL,
    BasePatchCV,
    Predicted,
    few_weight_shapes,
    in_stage,
    plain_features,
)
from skdeeptd._classifier import (
    DeepTDClassifier,
    check_labels,
    classes_of,
    design_classes,
    one_hot,
)
from skdeeptd._compat import validate_parameter_constraints
from skdeeptd._data.scratch import reusing
from skdeeptd._data.threads import single_threaded_blas
from skdeeptd._features import DeepTDFeatures
from skdeeptd._network.fitted import predictions
from skdeeptd._solver.choice import (
    LEAST_PROBABILITY,
    Candidate,
    LogLoss,
    path_of_alpha,
)
from skdeeptd._fit import fit_rows as fit_classes

CS = np.logspace(-4, 1, 6)  # of LogisticRegression, in the order of warm starts
CS_OF_KERNEL = np.logspace(0, 4, 5)  # whose components are as much smaller
SOLVER = {"max_iter": 1000, "tol": 1e-3}  # of each, from the one before on
MODELS = {
    False: "logistic regression on filters",
    True: "kernel logistic regression on filters",
}
CLOSED = [  # features, whether a kernel
    ({}, False),
    ({"pooling": "global"}, False),
    ({"pooling": "both"}, False),
    ({"pooling": "both"}, True),
]


class DeepTDClassifierCV(ClassifierMixin, BasePatchCV):
    """The best of several models of classes, or their best weighted mean.

    Without arguments it compares, on folds:

    - logistic regression;
    - logistic regression on :class:`DeepTDFeatures` of three kinds (local, global,
      both), and that of a radial basis kernel of both;
    - networks of :class:`DeepTDClassifier` with the default kernel sizes and with all
      of at most three layers that divide the input evenly, if they have no more than
      a weight for eight samples.

    The first two come with five or six values of C each, and are what serves with few
    samples. Networks go through the stages of :class:`DeepTDRegressorCV`.

    The predictions of the rows held out then give the weights of a mean of the
    probabilities of several candidates, the largest likelihood of all means. It is the
    model, where it is better on these rows than the best candidate by itself, which
    otherwise is. Logistic regression keeps a part of the weight where the lead over it
    is smaller than two standard errors over the folds, and all where there is none.

    Parameters
    ----------
    param_grid : dict of lists, or list of them, default=None
        Values of parameters of :class:`DeepTDClassifier`, as in
        :class:`~sklearn.model_selection.ParameterGrid`: the networks to compare, in
        place of all of the above but logistic regression.
    input_shape : sequence of int, default=None
        Shape of a sample, where X has a flat row for each; None for one axis, or the
        shape of X itself.
    ensemble_size : int, default=8
        Candidates that may have a weight; 1 for the best one only.
    max_time : float, default=None
        Seconds after which no more is begun: the best so far is then the model, and a
        warning says what was left out. None for no limit.
    cv : int, cross-validation splitter or iterable, default=None
        As in :class:`~sklearn.model_selection.GridSearchCV`: an int, or None, for folds
        with as many of each class. None for five of them, or three where there are more
        than 500 samples; they are not shuffled.
    scoring : str or callable, default=None
        What ranks the candidates; None for the mean log of the probability of the
        class. The weights are those of the largest likelihood.
    n_jobs : int, default=None
        Threads that fit candidates.
    random_state : int, RandomState instance or None, default=None
    verbose : int, default=0
        Whether to print a line for each stage.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        Those of samples whose weight is not zero.
    estimators_ : list
        The candidates that have a weight, fitted to all samples: each a
        :class:`DeepTDClassifier` or a Pipeline of :class:`DeepTDFeatures` and
        :class:`~sklearn.linear_model.LogisticRegression`, between which there may be a
        :class:`~sklearn.decomposition.KernelPCA`.
    weights_ : ndarray of shape (n_estimators,)
        Not negative, of sum one.
    best_estimator_ : DeepTDClassifier or Pipeline
        The best candidate by itself, fitted to all samples.
    best_params_ : dict
    best_index_ : int
        Of the best candidate in ``cv_results_``.
    best_score_ : float
        Its mean score on the rows held out.
    cv_results_ : dict of arrays
        As in DeepTDRegressorCV.
    scorer_ : callable
    n_splits_ : int
    input_shape_ : tuple of int
    n_features_in_, feature_names_in_
        As in DeepTDClassifier.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from skdeeptd import DeepTDClassifierCV
    >>> X, digit = load_digits(return_X_y=True)
    >>> X = X.reshape(-1, 8, 8)
    >>> model = DeepTDClassifierCV(random_state=0).fit(X[::9], digit[::9])
    >>> bool(model.score(X[1::9], digit[1::9]) > 0.9)
    True
    """

    def _check(self, X, y, sample_weight):
        X, y, weight = check_labels(self, X, y, sample_weight)
        self.classes_ = classes_of(y, weight)
        return X, one_hot(y, self.classes_), weight

    def _strata(self, rows):
        return codes_of(rows.y)

    def _candidates(self, folds):
        """Unfitted estimators, and what is compared of each."""
        n_rows = max(np.count_nonzero(fold.train.weight) for fold in folds)
        common, n_classes = self._common(), len(self.classes_)
        plain = [("features", plain_features(common))]
        found = _path(plain, {"model": "logistic regression"}, n_classes, "linear")
        if self.param_grid is None:
            shapes = few_weight_shapes(
                self.input_shape_,
                n_rows,
                functools.partial(_weights_of_network, n_classes - 1),
            )
            grid = [{"kernel_sizes": of_network} for of_network in shapes]
            for params, is_kernel in CLOSED:
                features = DeepTDFeatures(target_type="multiclass", **params, **common)
                steps = [("features", features)]
                if is_kernel:
                    steps.append(("kernel", KernelPCA(kernel="rbf")))
                if not is_kernel or n_rows <= MOST_ROWS_OF_KERNEL:
                    named = {"model": MODELS[is_kernel], **params}
                    found += _path(steps, named, n_classes)
        else:
            grid = list(ParameterGrid(self.param_grid))
        for params in grid:
            estimator = DeepTDClassifier(**{**common, **params})
            found.append(_network(estimator, params, folds[0].train))
        return zip(*found, strict=True)

    def _run_all(self, in_haste, function, calls):
        """In threads, since candidates of other C than one share its features."""
        return super()._run_all(True, function, calls)

    def _scorer(self, weighted):
        known = _Known(self.classes_)
        scoring = mean_log_likelihood if self.scoring is None else self.scoring
        self.scorer_ = check_scoring(known, scoring=scoring)
        return _Score(self.scorer_, weighted, self.classes_)

    def _in_race(self, candidates, mean):
        """Of those that differ in C only the best."""
        best = {}
        for i in np.flatnonzero(np.isfinite(mean)):
            others = [(k, v) for k, v in candidates[i].params.items() if k != "C"]
            key = i if candidates[i].kind == "network" else repr(others)
            if key not in best or mean[i] > mean[best[key]]:
                best[key] = i
        return np.array(sorted(best.values()))

    def _mixtures(self, predicted, folds):
        codes = np.concatenate([codes_of(fold.test.y) for fold in folds])
        weight = np.concatenate([fold.test.weight for fold in folds])
        return [LogLoss(predicted[:, np.arange(len(codes)), codes], weight)]

    def _fitted(self, estimator, rows):
        return _fit(estimator, rows.X, self.classes_[codes_of(rows.y)], rows.weight)

    def _fit_members(self, *args):
        super()._fit_members(*args)
        self.weights_ = self.weights_[:, 0]

    def predict_proba(self, X: ArrayLike) -> np.ndarray:
        """Weighted mean of the probabilities of the members.

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
            Where X has another number of features than in ``fit``, or NaN or inf.
        """
        check_is_fitted(self)
        X, _ = flatten(X, self.input_shape_)
        X = validate_data(self, X, dtype=[np.float64, np.float32], reset=False)
        with single_threaded_blas():
            parts = [estimator.predict_proba(X) for estimator in self.estimators_]
        return np.tensordot(self.weights_, parts, axes=1)

    def predict_log_proba(self, X: ArrayLike) -> np.ndarray:
        """Logarithms of the probabilities, of 1e-15 at least.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features) or (n_samples,) + input_shape

        Returns
        -------
        ndarray of shape (n_samples, n_classes)
        """
        return np.log(np.maximum(self.predict_proba(X), LEAST_PROBABILITY))

    def predict(self, X: ArrayLike) -> np.ndarray:
        """The most probable class.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features) or (n_samples,) + input_shape

        Returns
        -------
        ndarray of shape (n_samples,)
        """
        most_probable = self.predict_proba(X).argmax(axis=1)
        return self.classes_[most_probable]


def mean_log_likelihood(estimator, X, y, sample_weight=None):
    """Mean log of the probability of the class; not all classes need be in y."""
    of_class = np.searchsorted(estimator.classes_, y)
    found = estimator.predict_log_proba(X)[np.arange(len(of_class)), of_class]
    return np.average(found, weights=sample_weight)


class _Known(ClassifierMixin, Predicted):
    """What a scorer needs of an estimator: probabilities."""

    def __init__(self, classes=None, predicted=None):
        self.classes = classes
        self.predicted = predicted

    @property
    def classes_(self):
        return self.classes

    def predict_proba(self, X):
        return self.predicted

    def predict_log_proba(self, X):
        return np.log(np.maximum(self.predicted, LEAST_PROBABILITY))

    def predict(self, X):
        return self.classes[self.predicted.argmax(axis=1)]


class _Score:
    """The scorer's score of probabilities of rows held out."""

    def __init__(self, scorer, weighted, classes):
        self.scorer, self.weighted, self.classes = scorer, weighted, classes

    def __call__(self, predicted, rows):
        y = self.classes[codes_of(rows.y)]
        weight = {"sample_weight": rows.weight} if self.weighted else {}
        return self.scorer(_Known(self.classes, predicted), rows.X, y, **weight)


def codes_of(columns):
    """Classes as numbers from 0 on, from their ``one_hot``."""
    if columns.shape[1] == 1:
        return columns[:, 0].astype(int)
    return columns.argmax(axis=1)


def _path(steps, params, n_classes, kind="closed"):
    """Candidates that differ in C only, and are fitted together."""
    pipelines = [
        Pipeline([*steps, ("logistic", LogisticRegression(**SOLVER, C=float(C)))])
        for C in _strengths(steps)
    ]
    return [
        (
            pipeline,
            Candidate(
                {**params, "C": pipeline[-1].C},
                kind,
                functools.partial(_run_path, pipelines, i, n_classes),
            ),
        )
        for i, pipeline in enumerate(pipelines)
    ]


def _run_path(pipelines, index, n_classes, fold, *_):
    """Probabilities, (rows, classes); those of all C are kept with the fold."""
    key = id(pipelines)
    if key not in fold.kept:
        with single_threaded_blas():
            fold.kept[key] = _probabilities_of_path(pipelines, n_classes, fold)
    return fold.kept[key][index], None


def _strengths(steps):
    of_kernel = any(isinstance(step, KernelPCA) for _, step in steps)
    return CS_OF_KERNEL if of_kernel else CS


def _probabilities_of_path(pipelines, n_classes, fold):
    strongest, train, codes = pipelines[-1], fold.train, codes_of(fold.train.y)
    transformers, *data = _transformed(strongest, train.X, codes, train.weight)
    held_out, found = transformers.transform(fold.test.X), []
    for regression in _along_path(strongest, *data):
        of_all = np.zeros((len(held_out), n_classes))
        of_all[:, regression.classes_] = regression.predict_proba(held_out)
        found.append(of_all)
    return found


def _transformed(pipeline, X, y, weight):
    """All fitted steps but the last one, and what that takes."""
    X, y, weight = (a[weight > 0] for a in (X, y, weight))
    transformers = clone(pipeline[:-1])
    for step in transformers:
        more = (weight,) if isinstance(step, DeepTDFeatures) else ()
        X = step.fit(X, y, *more).transform(X)
    return transformers, X, y, weight


def _along_path(pipeline, X, y, weight):
    """The regression of each C up to that of the pipeline, from the one before on."""
    regression = clone(pipeline[-1]).set_params(warm_start=True)
    for C in _strengths(pipeline.steps):
        if C <= pipeline[-1].C:
            yield regression.set_params(C=C).fit(X, y, weight)


def _fit(estimator, X, y, weight):
    """A network, or a pipeline as those of the folds."""
    if not isinstance(estimator, Pipeline):
        return clone(estimator).fit(X, y, weight)
    with single_threaded_blas():
        transformers, *data = _transformed(estimator, X, y, weight)
        *_, regression = _along_path(estimator, *data)
    regression.set_params(warm_start=False)
    return Pipeline([*transformers.steps, ("logistic", regression)])


def _weights_of_network(n_logits, sizes):
    """Free ones, with a filter for each of the logits that are."""
    *hidden, last = sizes
    return n_logits * (sum(hidden) - len(hidden) + n_logits * last)


def _network(estimator, params, rows):
    validate_parameter_constraints(
        DeepTDClassifier._parameter_constraints,
        estimator.get_params(deep=False),
        caller_name="DeepTDClassifier",
    )
    _, spec = design_classes(estimator, rows, estimator.input_shape)
    kind = "linear" if not spec.blank.kernels else "network"
    run = functools.partial(_run_network, spec)
    return estimator, Candidate(params, kind, run, path_of_alpha(params))


def _run_network(spec, fold, stage, before):
    spec, known = in_stage(spec, stage, before)
    with single_threaded_blas(), reusing():
        fit = fit_classes(fold.train, spec, moment=fold.moment, warm_start=known)
        found = spec.loss.mean(predictions(fit.networks, fold.test.X))
    found = np.column_stack([1 - found, found]) if found.shape[1] == 1 else found
    return found, fit.networks
