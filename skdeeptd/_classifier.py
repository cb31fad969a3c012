"""DeepTDClassifier: a patch network whose outputs are logits of classes."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Integral, Real
from typing import Self

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import log_softmax
from sklearn.base import ClassifierMixin
from sklearn.utils.metaestimators import available_if
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, column_or_1d, validate_data

from skdeeptd._array_api import takes_other_arrays
from skdeeptd._base import BasePatchNetwork, design
from skdeeptd._compat import Interval, StrOptions, fit_context
from skdeeptd._loss import Binomial, Multinomial
from skdeeptd._typing import KernelSizes, RandomState, Strides
from skdeeptd._validation import (
    X_VALIDATION,
    check_containers,
    check_kind,
    check_weight,
    reset_on_fit,
    warn,
)

CLASS_WEIGHT = [dict, StrOptions({"balanced"}), None]  # the values that are allowed


def design_classes(estimator, rows, input_shape):
    """Return the layout and the ``Spec`` of the parameters of DeepTDClassifier."""
    n_outputs = rows.first_row()[1].shape[1]
    loss = Binomial() if n_outputs == 1 else Multinomial()
    n_filters = estimator.n_filters or max(2, n_outputs) - 1
    arguments = estimator, rows.n_features, input_shape
    layout, spec = design(*arguments, n_filters, estimator.alpha, loss)
    most = 1 if spec.n_copies > 1 else default_n_filters(n_filters, layout.sizes[0])
    if estimator.n_filters is None and n_filters > most:
        layout, spec = design(*arguments, most, estimator.alpha, loss)
    n_sharing = n_outputs if n_outputs > 1 and spec.blank.kernels else 0
    return layout, spec._replace(n_sharing=n_sharing)


def default_n_filters(n_logits, kernel_size, per_value=2):
    """Return a filter per logit, but at most ``per_value`` for each kernel entry.

    With relu, two for each entry span the linear functions of a patch. More filters
    lower the held-out log-likelihood by 0.1 to 0.5 per sample (1000 samples of 12, 20
    and 30 classes from random networks, kernels of 3 and 4 values, two seeds).
    """
    return min(n_logits, per_value * kernel_size)


def _has_known_weights(estimator):
    if estimator.class_weight == "balanced":
        raise AttributeError(
            "class_weight='balanced' needs the shares of all classes, which are not "
            "known before the last batch; give a dict of weights, or sample_weight"
        )
    return True


class DeepTDClassifier(ClassifierMixin, BasePatchNetwork):
    """Convolutional classifier whose kernels are learned by tensor decomposition.

    >>> from sklearn.datasets import load_digits
    >>> from skdeeptd import DeepTDClassifier
    >>> X, digit = load_digits(return_X_y=True)
    >>> X = X.reshape(-1, 8, 8) / 16
    >>> model = DeepTDClassifier(((4, 4), (2, 2)), n_filters=8, random_state=0)
    >>> model.fit(X[:300], digit[:300]).score(X[300:], digit[300:]) > 0.8
    True
    >>> model.predict_proba(X[:1]).shape
    (1, 10)

    The outputs of the network are logits: one logit for two classes, else one for each
    class. All logits share the hidden layers, and each has its own last layer. The
    cross-moment of X and the classes gives the first estimate of the kernels, as in
    :class:`DeepTDRegressor`. Gauss-Newton iterations then maximize the likelihood with
    a ridge penalty.

    Parameters
    ----------
    kernel_sizes, input_shape, covariates, strides
        As in :class:`DeepTDRegressor`.
    n_filters : int, default=None
        Number of filters. None means one less than the number of classes, but at most
        twice the size of the first kernel; one linear layer has one filter.
    activation, output_activation, fit_intercept, hidden_bias
        As in :class:`DeepTDRegressor`. ``output_activation`` is applied to each filter
        before the filters are added to a logit.
    alpha : float, default=1.0
        Ridge penalty, added to minus the log-likelihood; see Notes. For one linear
        layer it is that of :class:`~sklearn.linear_model.LogisticRegression` with
        ``C=1/alpha``. With ``alpha=0`` the weights have no bound if a network separates
        the classes.
    class_weight : dict, "balanced" or None, default=None
        Weights of the classes, multiplied by ``sample_weight``; a class that a dict
        lacks has weight one. "balanced" gives all classes the same total weight; the
        probabilities are then those of equally frequent classes.
    polish, max_iter, tol, n_init, n_jobs, random_state, verbose
        As in :class:`DeepTDRegressor`. With ``polish=False`` the hidden kernels are
        those of the moment, and the last layer is a logistic regression on its inputs.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        Classes of the samples whose weight is not zero.
    kernels_, gains_, scales_, biases_, intercept_, activations_, kernel_sizes_, \
strides_, input_shape_, n_iter_
        As in :class:`DeepTDRegressor`. An output is a logit: that of ``classes_[1]``
        for two classes, else that of each class.
    covariate_coef_, covariate_indices_ : ndarray
        As in :class:`DeepTDRegressor`.
    moment_ : ndarray of shape (n_outputs,) + input_shape
        Centred cross-moment of X and the indicators of the classes.
    n_features_in_, feature_names_in_
        As in scikit-learn.

    See Also
    --------
    DeepTDClassifierCV : Finds the best network of a grid.

    Notes
    -----
    The penalty is ``alpha / 2`` times the squared norm of the weights that each filter
    would give the features if all activations were the identity, summed over logits.
    """

    classes_: np.ndarray
    _parameter_constraints: dict = {
        **BasePatchNetwork._parameter_constraints,
        "n_filters": [Interval(Integral, 1, None, closed="left"), None],
        "class_weight": CLASS_WEIGHT,
    }
    _design = design_classes

    def __init__(
        self,
        kernel_sizes: KernelSizes | None = None,
        *,
        input_shape: Sequence[int] | None = None,
        covariates: Sequence[int | str] | None = None,
        strides: Strides | None = None,
        n_filters: int | None = None,
        activation: str | Sequence[str] = "relu",
        output_activation: str = "identity",
        fit_intercept: bool = True,
        hidden_bias: bool = False,
        alpha: float = 1.0,
        class_weight: dict | str | None = None,
        polish: bool = True,
        max_iter: int = 500,
        tol: float = 1e-6,
        n_init: int | str = "auto",
        n_jobs: int | None = None,
        random_state: RandomState = None,
        verbose: int = 0,
    ) -> None:
        self.kernel_sizes = kernel_sizes
        self.input_shape = input_shape
        self.covariates = covariates
        self.strides = strides
        self.n_filters = n_filters
        self.activation = activation
        self.output_activation = output_activation
        self.fit_intercept = fit_intercept
        self.hidden_bias = hidden_bias
        self.alpha = alpha
        self.class_weight = class_weight
        self.polish = polish
        self.max_iter = max_iter
        self.tol = tol
        self.n_init = n_init
        self.n_jobs = n_jobs
        self.random_state = random_state
        self.verbose = verbose

    @reset_on_fit
    @fit_context(prefer_skip_nested_validation=True)
    def fit(
        self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None
    ) -> Self:
        """Fit the network to X and y.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features) or (n_samples,) + input_shape
            float32 is kept, everything else becomes float64.
        y : array-like of shape (n_samples,)
            Labels: numbers or strings.
        sample_weight : array-like of shape (n_samples,), default=None
            A row of weight 2 counts as two rows, a row of weight 0 as none.

        Returns
        -------
        DeepTDClassifier
            The fitted estimator itself.

        Raises
        ------
        ValueError, TypeError
            If X, y or a parameter is invalid, or if all samples have the same class.
            The estimator is then not fitted.
        """
        return self._fit(X, y, sample_weight)

    @available_if(_has_known_weights)
    @takes_other_arrays
    def partial_fit(
        self,
        X: ArrayLike,
        y: ArrayLike,
        classes: ArrayLike | None = None,
        sample_weight: ArrayLike | None = None,
    ) -> Self:
        """Update the network with a batch of samples.

        >>> from sklearn.datasets import load_digits
        >>> from skdeeptd import DeepTDClassifier
        >>> X, digit = load_digits(return_X_y=True)
        >>> X, y = X.reshape(-1, 8, 8) / 16, digit % 2
        >>> model = DeepTDClassifier(n_filters=4, random_state=0)
        >>> for part in (slice(0, 400), slice(400, 800)):
        ...     _ = model.partial_fit(X[part], y[part], classes=[0, 1])
        >>> model.score(X[800:], y[800:]) > 0.8
        True

        The moment is computed from all batches so far, the likelihood from a random
        subsample of their rows, as in :meth:`skdeeptd.DeepTDRegressor.partial_fit`.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features) or (n_samples,) + input_shape
        y : array-like of shape (n_samples,)
        classes : array-like of shape (n_classes,), default=None
            All classes of all batches, at least two; a batch may lack some of them.
            None means the classes of the first batch.
        sample_weight : array-like of shape (n_samples,), default=None

        Returns
        -------
        DeepTDClassifier
            The fitted estimator itself.

        Raises
        ------
        ValueError, TypeError
            If X, y or a parameter is invalid, or y holds an unknown class. The
            estimator is then unchanged, as it is if a warning is raised as an error.
        """
        if classes is None:
            return self._partial_fit(X, y, sample_weight)
        classes = np.unique(classes)
        if len(classes) < 2:
            raise ValueError(
                f"classes must hold at least two classes, got {classes.tolist()}"
            )
        if hasattr(self, "_stream") and not np.array_equal(classes, self.classes_):
            raise ValueError(
                f"classes are {classes}, but those of the stream are {self.classes_}"
            )
        return self._partial_fit(X, y, sample_weight, classes_=classes)

    def _check(self, X, y, sample_weight, reset=True):
        X, y, weight = check_labels(self, X, y, sample_weight, reset)
        known = getattr(self, "classes_", None)
        weight = with_class_weight(self.class_weight, y, weight, known)
        found = classes_of(y, weight, several=known is None)
        self.classes_ = known = found if known is None else known
        if not np.isin(found, known).all():
            others = np.setdiff1d(found, known)
            raise ValueError(f"y holds {others}, but the classes are {known}")
        return X, one_hot(y, known), weight

    def _warn(self, fit):
        super()._warn(fit)
        if fit.separates_classes and self.alpha == 0 and self.scales_.any():
            warn(
                "The network separates the classes without error, and alpha=0 puts no "
                "bound on the weights, so that the probabilities are too close to 0 "
                "and 1. Give alpha a number above zero, such as 1."
            )

    def decision_function(self, X: ArrayLike) -> np.ndarray:
        """Return the logits of the classes.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features) or (n_samples,) + input_shape

        Returns
        -------
        ndarray of shape (n_samples,) or (n_samples, n_classes)
            For two classes the logit of ``classes_[1]``. If the logits of a sample
            overflow, the sample is scaled down until they do not.

        Raises
        ------
        sklearn.exceptions.NotFittedError
            Before ``fit``.
        ValueError
            If X has another number of features than in ``fit``, or NaN or infinity.
        """
        check_is_fitted(self)
        X = self._validated(X)
        logits = self._outputs(X)
        far, near = np.arange(len(X)), X
        while True:
            overflows = ~np.all(np.abs(logits[far]) < np.finfo(X.dtype).max / 2, axis=1)
            far, near = far[overflows], near[overflows] * np.finfo(X.dtype).eps
            if not np.any(near):
                break
            logits[far] = self._outputs(near)
        return logits[:, 0] if logits.shape[1] == 1 else logits

    def predict(self, X: ArrayLike) -> np.ndarray:
        """Predict the most probable class.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features) or (n_samples,) + input_shape

        Returns
        -------
        ndarray of shape (n_samples,)
        """
        logits = self.decision_function(X)
        if logits.ndim == 1:
            return self.classes_[(logits > 0).astype(int)]
        return self.classes_[logits.argmax(axis=1)]

    def predict_proba(self, X: ArrayLike) -> np.ndarray:
        """Predict the probabilities of the classes.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features) or (n_samples,) + input_shape

        Returns
        -------
        ndarray of shape (n_samples, n_classes)
        """
        with np.errstate(under="ignore"):
            return np.exp(self.predict_log_proba(X))

    def predict_log_proba(self, X: ArrayLike) -> np.ndarray:
        """Predict the logarithms of the probabilities of the classes.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features) or (n_samples,) + input_shape

        Returns
        -------
        ndarray of shape (n_samples, n_classes)
        """
        logits = self.decision_function(X)
        if logits.ndim == 1:
            logits = np.column_stack([np.zeros_like(logits), logits])
        with np.errstate(under="ignore"):
            return log_softmax(logits, axis=1)


def check_labels(estimator, X, y, sample_weight, reset=True):
    """Return validated X, y (n_samples,) and the weights (n_samples,)."""
    check_containers(y=y, sample_weight=sample_weight)
    check_kind(estimator, y)
    X, y = validate_data(estimator, X, y, **X_VALIDATION, reset=reset)
    y = column_or_1d(y, warn=True)
    check_classification_targets(y)
    return X, y, check_weight(estimator, X, sample_weight)


def classes_of(y, weight, several=True):
    """Return the classes of samples of positive weight; ``several`` needs two."""
    classes = np.unique(y[weight > 0])
    if several and len(classes) < 2:
        raise ValueError(
            f"y holds one class only, {classes.tolist()[0]!r}, among the samples whose "
            f"weight is not zero; at least two are needed"
        )
    return classes


def with_class_weight(class_weight, y, weight, classes=None):
    """Return the weights (n_samples,) times those of the classes.

    ``classes`` are all classes, None for those of y.

    Raises
    ------
    ValueError
        If a weight of a class is not a finite number of at least zero, if the dict
        seems to be for other classes, or if no product is above zero.
    """
    if class_weight is None:
        return weight
    found, group = np.unique(y, return_inverse=True)
    if isinstance(class_weight, str):
        sums = np.bincount(group, weight)
        shares = np.sum(sums > 0) * np.where(sums > 0, sums, 1.0) / np.sum(sums)
        return weight / shares[group]
    labels = (found if classes is None else classes).tolist()
    for label, value in class_weight.items():
        if not isinstance(value, Real) or not 0 <= value < np.inf:
            raise ValueError(
                f"class_weight must hold finite numbers of at least 0, got {value!r} "
                f"for class {label!r}"
            )
    without = [label for label in labels if label not in class_weight]
    unknown = [label for label in class_weight if label not in labels]
    if without and unknown:
        raise ValueError(
            f"class_weight has {unknown}, which y lacks, but not {without}; give a "
            f"weight for each of {labels}"
        )
    factors = [class_weight.get(label, 1.0) for label in found.tolist()]
    with np.errstate(over="ignore"):
        product = weight * np.array(factors, dtype=float)[group]
    if not 0 < product.max() < np.inf:
        raise ValueError(
            f"the largest sample_weight times class_weight={class_weight!r} is "
            f"{product.max():g}; it must be above 0 and finite"
        )
    return product


def one_hot(y, classes):
    """Return indicators (n_samples, n_classes), or (n_samples, 1) for two classes."""
    columns = (y[:, np.newaxis] == classes).astype(float)
    return columns[:, 1:] if len(classes) == 2 else columns
