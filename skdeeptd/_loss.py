"""Losses: the cost of a row, its derivatives, and the link to predictions.

==========  ==================  ==================================================
symbol      array               axes
==========  ==================  ==================================================
y           ``y``               (rows, Q): the target; classes as columns of 0 and 1
eta         ``raw``             (rows, Q): the outputs of the network
l           ``value``           (rows,): the cost of a row, summed over the outputs
r           ``residual``        (rows, Q): -l' / 2
C           ``curvature``       l'' / 2, or an upper bound: None for the identity, else
                                (rows, Q): its diagonal, or the probabilities p
                                with C = diag(p) - p p' (multinomial)
L           never formed        L L' = C
==========  ==================  ==================================================

The Gauss-Newton solver sees nothing else of a loss. A new loss is a class here, its
name in ``_base.design_regression``, and its first estimate in ``_fit``.
``is_quadratic`` says that C is the identity everywhere, so that the best heads for
given hidden layers follow from one set of normal equations.
"""

import math

import numpy as np
from scipy.special import chdtr, chdtrc, expit, xlogy


class SquaredError:
    """l = (y - eta)^2."""

    is_quadratic, couples_outputs = True, False
    negligible = 0.0  # mean cost below which the fit counts as exact
    least_y = -math.inf  # the smallest target that is allowed

    def evaluate(self, y, raw):
        residual = y - raw
        return np.sum(residual**2, axis=1), residual, None

    def multiply_by_root(self, curvature, table):
        """Multiply a table (rows, Q, n) by L', and return its factor (rows, Q)."""
        if curvature is None:
            return np.ones(table.shape[:2], table.dtype)
        root = np.sqrt(curvature).astype(table.dtype, copy=False)
        table *= root[:, :, np.newaxis]
        return root

    def diagonal(self, curvature):
        """Return the diagonal of C, (rows, Q)."""
        return curvature

    def mean(self, raw):
        """Return the predictions that belong to eta: the inverse link."""
        return raw

    def mean_derivative(self, raw):
        """Return the derivative of the predictions by eta."""
        return np.ones_like(raw)


class Huber(SquaredError):
    """The square up to ``threshold``, from there on its tangent.

    C = 1 bounds the curvature: with the second derivative, zero beyond the threshold,
    the rows within it may not determine the weights.
    """

    is_quadratic = False

    def __init__(self, threshold):
        self.threshold = threshold

    def evaluate(self, y, raw):
        error = y - raw
        clipped = np.clip(error, -self.threshold, self.threshold)
        value = np.sum(clipped * (2 * error - clipped), axis=1)
        return value, clipped, np.ones_like(clipped)


class Poisson(SquaredError):
    """The deviance of counts with a log link: 2 (y log(y / mu) - y + mu)."""

    is_quadratic, least_y = False, 0.0

    def evaluate(self, y, raw):
        mean = np.exp(raw)
        value = 2 * np.sum(xlogy(y, y) - y * raw - y + mean, axis=1)
        return np.maximum(value, 0.0), y - mean, mean

    @np.errstate(over="ignore", under="ignore")
    def mean(self, raw):
        return np.minimum(np.exp(raw), np.finfo(raw.dtype).max)  # NaN stays

    mean_derivative = mean


class Binomial(SquaredError):
    """-2 log of the probability of the row's class, of two classes; a logit link."""

    is_quadratic, negligible = False, 2e-6  # no class is mistaken

    def evaluate(self, y, raw):
        probability = expit(raw)
        value = 2 * np.sum(np.logaddexp(0, raw) - y * raw, axis=1)
        return value, y - probability, probability * (1 - probability)

    def mean(self, raw):
        return expit(raw)


class Multinomial(SquaredError):
    """-2 log of the probability of the row's class; the probabilities are a softmax.

    Since p sums to 1, L' = diag(p)^1/2 (I - 1 p') has L L' = C.
    """

    is_quadratic, couples_outputs, negligible = False, True, 2e-6

    def evaluate(self, y, raw):
        most = raw.max(axis=1, keepdims=True)
        p = np.exp(raw - most)
        total = p.sum(axis=1, keepdims=True)
        p /= total
        value = 2 * ((most + np.log(total))[:, 0] - np.sum(y * raw, axis=1))
        return value, y - p, p

    def multiply_by_root(self, curvature, table):
        p = curvature.astype(table.dtype, copy=False)[:, :, np.newaxis]
        table -= p.swapaxes(1, 2) @ table
        root = np.sqrt(p)
        table *= root
        return root[:, :, 0]

    def diagonal(self, curvature):
        return curvature * (1 - curvature)

    def times(self, curvature, change):
        """Return C times a change of eta, (rows, Q)."""
        mean = np.sum(curvature * change, axis=1, keepdims=True)
        return curvature * (change - mean)

    def mean(self, raw):
        p = np.exp(raw - raw.max(axis=1, keepdims=True))
        return p / p.sum(axis=1, keepdims=True)


def huber_consistency(epsilon):
    """Return E[min(z^2, epsilon^2)] of a standard normal z."""
    return chdtr(3, epsilon**2) + epsilon**2 * chdtrc(1, epsilon**2)
