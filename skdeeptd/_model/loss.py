"""Losses: what a row costs at an output of the network, and how that changes.

==========  ==================  ===============================================
symbol      array               axes
==========  ==================  ===============================================
y           ``y``               (rows,): the target
eta         ``output``          (rows,): the network's output
l(y, eta)   ``value``           (rows,): what a row costs
r           ``residual``        (rows,): where l falls steepest, -l' / 2
c           ``curvature``       (rows,), not negative: l'' / 2; None where it is 1
t           ``threshold``       (): residuals beyond it cost linearly
==========  ==================  ===============================================

A loss is a function of y and eta that gives a ``Working``; the solver knows no more.

The second derivative of Huber's loss is zero beyond the threshold, so that the rows
left may not settle the weights. Its c is 1 instead: the parabola of that curvature
touches the loss and lies nowhere below it, a step that lowers the one lowers the other,
and A is that of least squares. The price is linear convergence, at the rate of the
share of rows beyond the threshold (Huber 1981, section 7.8).
"""

from typing import NamedTuple

import numpy as np


class Working(NamedTuple):
    residual: np.ndarray
    curvature: np.ndarray | None
    value: np.ndarray


def squared_error(y, output):
    residual = y - output
    return Working(residual, None, residual**2)


class Huber(NamedTuple):
    """The square up to ``threshold``, from there on its tangent."""

    threshold: float

    def __call__(self, y, output):
        error, t = y - output, self.threshold
        clipped = np.clip(error, -t, t)
        return Working(clipped, None, clipped * (2 * error - clipped))
