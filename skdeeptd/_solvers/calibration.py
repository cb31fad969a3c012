"""Probabilities of classes from scores: a softmax with one factor.

==========  ==================  ==================================================
symbol      name                axes
==========  ==================  ==================================================
f_ic        ``scores``          (rows, classes)
pi_c        ``prior``           (classes,): shares of the classes
t           ``factor``          p_ic is proportional to pi_c exp(t (f_ic - pi_c))
==========  ==================  ==================================================

Scores without information have the factor zero, and so the shares as probabilities.
"""

import numpy as np
from scipy.optimize import brentq
from scipy.special import softmax


def fit_temperature(scores, target, weight, log10_bounds=(-2.0, 3.0), flat=1e-9):
    """Return the factor of the largest likelihood of held-out scores.

    It is where the slope of the loss is zero. If the scores separate the classes, then
    the loss falls for ever, and the factor is that from which on it is flat.

    Parameters
    ----------
    scores : array of shape (rows, classes)
    target : array of shape (rows, classes)
        One in the column of the class, else zero.
    weight : array of shape (rows,)
    log10_bounds : tuple of float
        Smallest and largest factor: their decimal logarithms.
    flat : float
        Slope that counts as zero.

    Returns
    -------
    float
    """
    share = weight / np.sum(weight)
    prior = share @ target
    beyond = scores - prior

    def slope(exponent):
        logits = 10**exponent * beyond + np.log(prior)
        residual = softmax(logits, axis=1) - target
        return share @ np.sum(residual * beyond, axis=1) + flat

    low, high = log10_bounds
    if slope(low) >= 0:
        return float(10**low)
    if slope(high) <= 0:
        return float(10**high)
    return float(10 ** brentq(slope, low, high, xtol=1e-13))


@np.errstate(under="ignore")
def calibrated(scores, factor, prior, prior_weight):
    """Return probabilities, (rows, classes), mixed with the shares of the classes."""
    logits = factor * (scores - prior) + np.log(prior)
    probabilities = softmax(logits, axis=1)
    mixed = (1 - prior_weight) * probabilities + prior_weight * prior
    return (mixed / mixed.sum(axis=1, keepdims=True)).astype(scores.dtype, copy=False)
