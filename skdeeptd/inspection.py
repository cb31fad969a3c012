"""What matters to a fitted model.

==========  ==================  ===============================================
symbol      array               axes
==========  ==================  ===============================================
x_i         ``X``               (rows, features)
s_j         ``spread``          (features,): standard deviation over the rows
f           ``_outputs``        of the model, one of its outputs
w_ij        ``weights``         (rows, features): s_j times df / dx_j at x_i
==========  ==================  ===============================================

The derivative is a central difference of what the model predicts, so that all models,
means of models and pipelines have it in one way.
"""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import logsumexp
from sklearn.base import BaseEstimator, is_classifier, is_regressor
from sklearn.utils import Bunch, check_array
from sklearn.utils.validation import check_is_fitted

from skdeeptd._base import check_index, flatten

STEP = 0.01  # of the difference, in standard deviations of the feature
MOST_NUMBERS = 2**21  # that are predicted at a time


def effective_weights(
    estimator: BaseEstimator,
    X: ArrayLike,
    *,
    output: int = 0,
    input_shape: Sequence[int] | None = None,
    refits: Sequence[BaseEstimator] | None = None,
) -> Bunch:
    """How much each feature moves the prediction, by its standard deviation.

    The effective weight of a feature in a row is the derivative of the prediction there
    times the standard deviation of the feature over the rows: its unit is that of y. Of
    a linear model it is the coefficient times that deviation, in every row.

    For each feature two predictions of all rows are compared, one hundredth of a
    standard deviation to either side. So any regressor or classifier will do, and a
    Pipeline gives the weights of its own input, whatever its steps make of that. It
    takes two predictions of X for each feature: some hundred rows are enough.

    Parameters
    ----------
    estimator : regressor or classifier
        Fitted; of this package or of scikit-learn, or a Pipeline. Of a model whose
        prediction is made of steps, such as a tree, all weights are zero.
    X : array-like of shape (n_samples, n_features) or (n_samples,) + input_shape
        At least two rows. They also give the standard deviations.
    output : int, default=0
        Of a classifier the logit: one where there are two classes, else one for each of
        ``classes_``. It is the ``decision_function``, or where there is none the
        logarithm of the odds of the class.
    input_shape : sequence of int, default=None
        Shape of a sample, for the results. None for that of X, or where X is flat for
        that of the estimator, which a Pipeline does not have.
    refits : sequence of estimators, default=None
        At least two that were fitted to other samples, such as ``"estimator"`` of
        :func:`sklearn.model_selection.cross_validate` with ``return_estimator=True``.

    Returns
    -------
    Bunch
        With arrays of the shape of a sample:

        magnitude
            Mean over the rows of the absolute weight.
        sign
            Mean of the weight over mean of its absolute value, from -1 to 1; 0 where
            the feature does nothing.
        standard_error
            Of the magnitude, as a mean over the rows.
        refit_std
            Standard deviation of the magnitude over the refits; NaN without them.
            Folds that share most of their samples make it too small.
        weights
            Of shape (n_samples,) + shape of a sample: the weights in each row.

    Raises
    ------
    sklearn.exceptions.NotFittedError
        Before ``fit``.
    ValueError, TypeError
        Where X does not fit the estimator, holds NaN or inf or a single row, there is
        no such output, the estimator is neither regressor nor classifier, or the refits
        are fewer than two or of other classes.

    See Also
    --------
    skdeeptd.plotting.ImportanceDisplay : Draws them.
    sklearn.inspection.permutation_importance : What a score loses with each feature.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.pipeline import make_pipeline
    >>> from sklearn.preprocessing import StandardScaler
    >>> from skdeeptd import DeepTDRegressor
    >>> from skdeeptd.inspection import effective_weights
    >>> X = np.random.default_rng(0).standard_normal((100, 4))
    >>> X = X / X.std(axis=0) * [1, 10, 1, 1]
    >>> y = X @ [3, -0.5, 0, 1]
    >>> model = make_pipeline(StandardScaler(), DeepTDRegressor((4,))).fit(X, y)
    >>> found = effective_weights(model, X)
    >>> found.magnitude.round(3) + 0
    array([3., 5., 0., 1.])
    >>> found.sign[[0, 1, 3]].round(3)
    array([ 1., -1.,  1.])
    """
    like = _form_of(X)
    X, shape = flatten(X, input_shape)
    X = check_array(X, dtype=float, ensure_min_samples=2)
    estimators = [estimator, *_checked(refits, estimator)]
    n_outputs = {_outputs(e, like(X)).shape[1] for e in estimators}
    check_index("output", output, min(n_outputs))
    weights, *others = (_weights(e, X, output, like) for e in estimators)
    found = _summary(weights, [np.abs(w).mean(axis=0) for w in others])
    shape = _shape_of(estimator) if shape is None else tuple(shape)
    shape = shape or X.shape[1:]
    if math.prod(shape) != X.shape[1]:
        raise ValueError(
            f"input_shape {shape} has {math.prod(shape)} entries, but X has "
            f"{X.shape[1]} features"
        )
    found = {name: value.reshape(shape) for name, value in found.items()}
    return Bunch(**found, weights=weights.reshape(-1, *shape))


def _form_of(X):
    """Makes of rows of numbers what X is: a data frame, or samples of some shape."""
    if hasattr(X, "columns"):
        return lambda rows: type(X)(dict(zip(X.columns, rows.T, strict=True)))
    shape = np.shape(X)[1:]
    return lambda rows: rows.reshape(-1, *shape)


def _shape_of(estimator):
    """That of a sample, where the estimator knows it."""
    owner = getattr(estimator, "features_", estimator)
    return getattr(owner, "input_shape_", None)


def _checked(refits, estimator):
    """A list of the refits, after a look at them and at the estimator."""
    refits = [] if refits is None else list(refits)
    if len(refits) == 1:
        raise ValueError("refits holds one estimator; a spread needs at least two")
    for fitted in [estimator, *refits]:
        if not (is_regressor(fitted) or is_classifier(fitted)):
            raise TypeError(
                f"effective weights are those of a regressor or a classifier, got "
                f"{type(fitted).__name__}"
            )
        check_is_fitted(fitted)
        if is_classifier(fitted) != is_classifier(estimator):
            raise TypeError("refits and the estimator must be of one kind")
        if is_classifier(fitted) and not np.array_equal(
            fitted.classes_, estimator.classes_
        ):
            raise ValueError(
                f"refits must have the classes of the estimator, "
                f"{estimator.classes_}, got {fitted.classes_}"
            )
    return refits


def _outputs(estimator, X):
    """Predictions, or logits, (rows, outputs)."""
    if is_regressor(estimator):
        found = estimator.predict(X)
    elif hasattr(estimator, "decision_function"):
        found = estimator.decision_function(X)
    else:
        found = _log_odds(estimator.predict_log_proba(X))
    return np.reshape(found, (len(X), -1))


def _log_odds(log_proba):
    """Of each class against all others; of two classes that of the second."""
    n_classes = log_proba.shape[1]
    odds = [
        log_proba[:, k] - logsumexp(np.delete(log_proba, k, axis=1), axis=1)
        for k in range(n_classes)
    ]
    return np.column_stack(odds[1:] if n_classes == 2 else odds)


def _weights(estimator, X, output, like):
    """w_ij; a feature that is constant has none."""
    spread = np.where(np.ptp(X, axis=0) > 0, X.std(axis=0), 0)
    varying = np.flatnonzero(spread)
    weights, at_a_time = np.zeros(X.shape), max(1, MOST_NUMBERS // (2 * X.size))
    for begin in range(0, len(varying), at_a_time):
        features = varying[begin : begin + at_a_time]
        shifted = np.empty((2, len(features), *X.shape))
        shifted[:] = X
        of_each = np.arange(len(features))
        shift = STEP * spread[features, np.newaxis]
        shifted[0, of_each, :, features] += shift
        shifted[1, of_each, :, features] -= shift
        rows = like(shifted.reshape(-1, X.shape[1]))
        above, below = _outputs(estimator, rows)[:, output].reshape(2, -1, len(X))
        weights[:, features] = ((above - below) / (2 * STEP)).T
    return weights


def _summary(weights, of_refits):
    size, n_rows = np.abs(weights), len(weights)
    magnitude, mean = size.mean(axis=0), weights.mean(axis=0)
    moves, unknown = magnitude > 0, np.full(len(magnitude), np.nan)
    return {
        "magnitude": magnitude,
        "sign": np.divide(mean, magnitude, out=np.zeros_like(mean), where=moves),
        "standard_error": size.std(axis=0, ddof=1) / math.sqrt(n_rows),
        "refit_std": np.std(of_refits, axis=0, ddof=1) if of_refits else unknown,
    }
