"""The scale of residuals, and whether outliers dominate a sum of squares.

==========  ==================  ==================================================
symbol      name                meaning
==========  ==================  ==================================================
r           ``residual``        (rows,): y minus the network's output
sigma       ``scale``           (): of r, the standard deviation if r is normal
psi         ``np.clip``         r, cut off at epsilon sigma
beta        ``consistency``     E[min(z^2, epsilon^2)] of a normal z
==========  ==================  ==================================================

The weights theta and sigma solve two equations together (Huber 1981, section 7.7,
proposal 2):

    sum_i w_i psi(r_i) j_i = alpha / 2 * gradient of the penalty
    sum_i w_i psi(r_i)^2 = beta sigma^2 sum_i w_i

HuberRegressor has 1 for beta, which makes sigma 0.69 of the standard deviation of
normal residuals.
"""

import math

import numpy as np

from skdeeptd._loss import huber_consistency


def weighted_median(values, weight):
    """Return the lower median, as of rows that are repeated."""
    order = np.argsort(values, kind="stable")
    below = np.cumsum(weight[order])
    half = below[-1] / 2 * (1 - 1e-12)  # rounding does not move a median
    return values[order[np.searchsorted(below, half)]]


def median_scale(residual, weight):
    """Return the median of |r| as the standard deviation of normal r."""
    return weighted_median(np.abs(residual), weight) / 0.6744897501960817


def winsorised(y, weight, most_scales=2.0):
    """Return y, (rows, outputs), cut off ``most_scales`` from its median."""
    columns = []
    for column in y.T:
        middle = weighted_median(column, weight)
        most = most_scales * median_scale(column - middle, weight)
        cut = np.clip(column, middle - most, middle + most)
        columns.append(cut if most > 0 else column)
    return np.column_stack(columns)


@np.errstate(over="ignore", invalid="ignore", divide="ignore")
def huber_scale(residual, weight, epsilon):
    """Return the sigma of proposal 2; zero if too many residuals are zero."""
    size = np.abs(residual)
    order = np.argsort(size, kind="stable")
    size, weight = size[order], weight[order]
    within, square = np.cumsum(weight), np.cumsum(weight * size**2)
    beyond = within[-1] - within
    wanted = huber_consistency(epsilon) * within[-1]
    # The left side over sigma^2 if epsilon sigma were this size: it falls.
    at_size = epsilon**2 * (np.where(size > 0, square / size**2, np.inf) + beyond)
    last = max(np.count_nonzero(at_size >= wanted) - 1, 0)
    return math.sqrt(square[last] / (wanted - epsilon**2 * beyond[last]))


def dominated_by_outliers(y, residual, weight, *, far_scales=10.0, most_share=0.2):
    """Return whether few rows far out hold most of the sum of squares.

    No if y has few values, as labels have, and if half of the residuals are zero.
    """
    scale = median_scale(residual, weight)
    out = np.abs(residual) > far_scales * scale
    if len(y) < 20 or scale == 0 or not out.any():
        return False
    share = (weight @ out) / np.sum(weight)
    squares = weight * residual**2
    most = np.sum(squares[out]) > 0.5 * np.sum(squares)
    return bool(most and share < most_share and len(np.unique(y)) > 20)
