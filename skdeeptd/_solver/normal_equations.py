"""The sums over the rows that a Gauss-Newton step needs: one pass.

==========  ======================  ==========================================
symbol      array                   axes
==========  ======================  ==========================================
theta       ``theta``               (parameters,): ``pack(network)``
r           ``residual``            (rows,): that of the loss
J           ``table[:, :-2]``       (rows, parameters - 1): Jacobian of the output,
                                    centred where there is an intercept
A = J'WJ    ``hessian``             (parameters - 1,) squared, plus the penalty
g = J'Wr    ``gradient``            (parameters - 1,), minus the penalty's part
==========  ======================  ==========================================

The objective is sum_i w_i l(y_i, eta_i) + alpha * sum_filters |W|_F^2, where the tensor
W = scale * k_D o ... o k_1 holds the weights that the filter would give the features
if every activation were the identity. For one layer it is scikit-learn's Ridge. The
intercept is always the best one for the other parameters (variable projection), as far
as the parabolas of curvature c tell.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from skdeeptd._data.scratch import empty
from skdeeptd._model.loss import squared_error
from skdeeptd._model.network import copies_per_row, jacobian
from skdeeptd._model.parameters import (
    add_per_filter,
    pack,
    penalty,
    unpack,
    with_free_readout,
)

OUTPUT_ROUNDING = 32  # units in the last place of the output: a residual that is zero
FAR = 0.999  # share of a sum of squares that is the first row's distance from the mean
MOST_BYTES = 2**32  # of A and of what a step needs beside it


class Objective(NamedTuple):
    """What is minimised: the ridge penalty, and whether the intercept is free."""

    alpha: float = 0.0
    fit_intercept: bool = True
    loss: Callable = squared_error


class NormalEquations(NamedTuple):
    theta: np.ndarray
    hessian: np.ndarray
    gradient: np.ndarray
    loss: float
    rounding: float  # what is left of a loss that is zero
    mean_jacobian: np.ndarray  # (parameters - 1,)
    fit_intercept: bool
    stale: float = 0.0  # what the loss has fallen since A and g were taken


def fits_in_memory(n_unknowns):
    return 3 * 8 * n_unknowns**2 <= MOST_BYTES


def check_size(n_unknowns, of_what):
    """Refuse normal equations that would not fit in memory.

    Raises
    ------
    ValueError
    """
    if not fits_in_memory(n_unknowns):
        raise ValueError(
            f"the normal equations of {of_what} have {n_unknowns} unknowns and take "
            f"{3 * 8 * n_unknowns**2 / 2**30:.3g} GiB, where "
            f"{MOST_BYTES / 2**30:.0f} GiB are allowed; use smaller kernels in more "
            f"layers, fewer filters, or polish=False"
        )


@np.errstate(over="ignore", invalid="ignore")
def normal_equations(theta, like, rows, objective, centre=None):
    """A, g and the objective at ``theta``, whose norms are moved to the readout before.

    With an intercept, J is taken from ``centre`` on, so that features whose mean is
    large beside their deviations lose no digits.

    Parameters
    ----------
    theta : array of shape (parameters,)
    like : PatchCNN
        The structure of the network.
    rows : RowBlocks
    objective : Objective
    centre : array of shape (parameters - 1,)
        About the mean of J. None takes the first row of J, and the intercept that fits
        that row.
    """
    network = with_free_readout(unpack(theta, like))
    from_first_row = objective.fit_intercept and centre is None
    if not objective.fit_intercept:
        centre = np.zeros(len(theta) - 1)
    elif centre is None:
        moved, centre = _at_first_row(network, rows)
        if objective.loss is squared_error:  # of which one step finds the intercept
            network = moved
    in_dtype = network.astype(rows.precision)
    shift = np.append(centre, [0, 0]).astype(rows.precision)

    def statistic(X, y, weight):
        table = jacobian(in_dtype, X)
        output = table[:, -1].astype(float)
        residual, curvature, value = objective.loss(y, output)
        squares = np.array([weight @ value, weight @ output**2])
        table -= shift
        table[:, -1] = residual
        importance = weight if curvature is None else weight * curvature
        if np.any(importance != 1):
            table *= np.sqrt(importance).astype(X.dtype)[:, np.newaxis]
        sums = empty("sums", (table.shape[1],) * 2, X.dtype)
        return np.matmul(table.T, table, out=sums), squares

    width = len(theta) + 1 + copies_per_row(network)
    sums, (loss, output_square) = rows.reduce(statistic, width=width)
    hessian, gradient = sums[:-2, :-2], sums[:-2, -1]
    columns, weight, residual = sums[:-2, -2], sums[-2, -2], sums[-2, -1]
    if objective.fit_intercept:
        mean = residual / weight
        off = np.append(mean * residual, columns**2 / weight)
        if from_first_row and np.any(off > FAR * np.append(loss, hessian.diagonal())):
            moved = pack(network._replace(intercept=network.intercept + mean))
            about = centre + columns / weight
            return normal_equations(moved, like, rows, objective, about)
        hessian = hessian - np.outer(columns, columns / weight)
        gradient = gradient - mean * columns
        loss = max(loss - mean * residual, 0.0)
        network = network._replace(intercept=network.intercept + mean)
    if objective.alpha > 0:
        curvature, slope, value = penalty(network)
        if not objective.fit_intercept:
            hessian = hessian.copy()
        add_per_filter(hessian, objective.alpha * curvature)
        gradient = gradient - objective.alpha * slope.ravel()
        loss = loss + objective.alpha * value
    if not (np.isfinite(loss) and np.all(np.isfinite(hessian.diagonal()))):
        loss = np.inf
    rounding = (OUTPUT_ROUNDING * np.finfo(rows.precision).eps) ** 2 * output_square
    mean_jacobian = centre + columns / weight
    return NormalEquations(
        pack(network),
        hessian,
        gradient,
        loss,
        rounding,
        mean_jacobian,
        objective.fit_intercept,
    )


def _at_first_row(network, rows):
    """The network with an intercept that fits the first row, and the J of that row."""
    X, y = rows.pilot()
    *by_theta, _, output = jacobian(network, X)[0]
    intercept = network.intercept + y[0] - output
    return network._replace(intercept=intercept), np.array(by_theta)
