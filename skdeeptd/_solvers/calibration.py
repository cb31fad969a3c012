"""Probabilities of classes from scores: a softmax with one factor.

==========  ==================  ==================================================
symbol      name                axes
==========  ==================  ==================================================
f_ic        ``scores``          (rows, classes)
t           ``factor``          p_ic is proportional to exp(t f_ic)
==========  ==================  ==================================================
"""

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax, softmax


def fit_temperature(scores, target, weight, log10_bounds=(-2.0, 3.0)):
    """Return the factor of the largest likelihood of held-out scores.

    Parameters
    ----------
    scores : array of shape (rows, classes)
    target : array of shape (rows, classes)
        One in the column of the class, else zero.
    weight : array of shape (rows,)
    log10_bounds : tuple of float
        Smallest and largest factor: their decimal logarithms.

    Returns
    -------
    float
    """
    share = weight / np.sum(weight)

    def loss(exponent):
        logs = log_softmax(10**exponent * scores, axis=1)
        return -share @ np.sum(logs * target, axis=1)

    return float(10 ** minimize_scalar(loss, bounds=log10_bounds, method="bounded").x)


def calibrated(scores, factor, prior, prior_weight):
    """Return probabilities, (rows, classes), mixed with the shares of the classes."""
    probabilities = softmax(factor * scores, axis=1)
    mixed = (1 - prior_weight) * probabilities + prior_weight * prior
    return (mixed / mixed.sum(axis=1, keepdims=True)).astype(scores.dtype, copy=False)
