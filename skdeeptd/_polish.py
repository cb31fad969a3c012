"""Levenberg-Marquardt on the normal equations of a patch network.

==========  ======================  ==========================================
symbol      array                   axes
==========  ======================  ==========================================
theta       ``pack(network)[:-1]``  (parameters,): all but the intercept
r           ``residual``            (rows,): y minus the network's output
J           ``by_theta``            (rows, parameters): Jacobian of the output,
                                    centred where there is an intercept
A = J'WJ    ``hessian``             (parameters, parameters), plus the penalty
g = J'Wr    ``gradient``            (parameters,), minus the penalty's part
B           ``basis``               (parameters, free): directions theta may take
lambda      ``damping``             relative to the diagonal of B'AB
==========  ======================  ==========================================

The loss is sum_i w_i r_i^2 + alpha * sum_filters |W|_F^2, where the tensor
W = scale * k_D o ... o k_1 holds the weights that the filter would give the features
if every activation were the identity. For one layer it is scikit-learn's Ridge. The
intercept is always the best one for the other parameters (variable projection).
"""

from typing import NamedTuple

import numpy as np
from scipy import linalg

from skdeeptd._linalg import diagonal_scale
from skdeeptd._network import PatchCNN, jacobian, normalize, pack, unpack

OUTPUT_ROUNDING = 32  # units in the last place of the output: a residual that is zero
FIRST_DAMPING, CLOSE_DAMPING = 1e-2, 1e-4  # far from a minimum, and close to one
SMALLEST_DAMPING, LARGEST_DAMPING = 1e-10, 1e8
SINGULAR_ROUNDING = 1e3  # units in the last place: less damping would amplify rounding


class Objective(NamedTuple):
    """What is minimised: the ridge penalty, and whether the intercept is free."""

    alpha: float = 0.0
    fit_intercept: bool = True


class NormalEquations(NamedTuple):
    network: PatchCNN
    hessian: np.ndarray
    gradient: np.ndarray
    loss: float
    rounding: float  # what is left of a loss that is zero
    mean_jacobian: np.ndarray  # (parameters,), by ``pack(network)[:-1]``


class Polished(NamedTuple):
    """``n_iter`` counts passes over the rows; ``converged``: they were enough.

    ``equations`` are those at the network, None where nothing was polished.
    """

    network: PatchCNN
    loss: float
    n_iter: int
    converged: bool
    equations: NormalEquations | None = None


@np.errstate(over="ignore", invalid="ignore")
def normal_equations(network, rows, objective):
    """Accumulate A, g and the loss at ``network``: one pass over the rows.

    With an intercept, output and J are taken from those of the first row on, so that
    features whose mean is large beside their deviations lose no digits.
    """
    X_pilot, y_pilot = rows.pilot()
    shift = jacobian(network, X_pilot)[0]
    if objective.fit_intercept:
        intercept = network.intercept + y_pilot[0] - shift[-1]
        network = network._replace(intercept=intercept)
    shift = shift[:-2] * objective.fit_intercept

    def statistic(X, y, weight):
        table = jacobian(network.astype(X.dtype), X)
        residual = y - table[:, -1]
        squares = np.array([weight @ residual**2, weight @ table[:, -1] ** 2])
        table[:, :-2] -= shift.astype(X.dtype)
        table[:, -1] = residual
        weighted = table * weight.astype(X.dtype)[:, np.newaxis]
        return (weighted.T @ table).astype(float, copy=False), squares

    sums, (loss, output_square) = rows.reduce(statistic)
    hessian, gradient = sums[:-2, :-2], sums[:-2, -1]
    columns, weight, residual = sums[:-2, -2], sums[-2, -2], sums[-2, -1]
    if objective.fit_intercept:
        mean = residual / weight
        hessian = hessian - np.outer(columns, columns / weight)
        gradient = gradient - mean * columns
        loss = max(loss - mean * residual, 0.0)
        network = network._replace(intercept=network.intercept + mean)
    if objective.alpha > 0:
        curvature, slope, value = penalty(network)
        hessian = hessian + objective.alpha * curvature
        gradient = gradient - objective.alpha * slope
        loss = loss + objective.alpha * value
    if not np.all(np.isfinite(hessian)):
        loss = np.inf
    rounding = (OUTPUT_ROUNDING * np.finfo(rows.precision).eps) ** 2 * output_square
    mean_jacobian = shift + columns / weight
    return NormalEquations(network, hessian, gradient, loss, rounding, mean_jacobian)


def penalty(network):
    """Sum of |W|_F^2 over the filters: Gauss-Newton curvature, half gradient, value."""
    blocks, slopes, value = [], [], 0.0
    no_biases = np.zeros(len(network.biases))
    for r, scale in enumerate(network.scales):
        parts = [*(k[r] for k in network.kernels), np.atleast_1d(scale)]
        squares = np.array([part @ part for part in parts])
        value += np.prod(squares)

        def without(*dropped, squares=squares):
            return np.prod(np.delete(squares, dropped))

        slopes += [*(without(i) * part for i, part in enumerate(parts)), no_biases]
        blocks.append(
            np.block(
                [
                    [
                        without(i) * np.eye(len(part))
                        if i == j
                        else without(i, j) * np.outer(part, other)
                        for j, other in enumerate(parts)
                    ]
                    for i, part in enumerate(parts)
                ]
            )
        )
        blocks.append(np.diag(no_biases))
    return linalg.block_diag(*blocks), np.hstack(slopes), value


class Directions(NamedTuple):
    """B, with one entry per row: its value, and its column, which never decreases."""

    values: np.ndarray
    columns: np.ndarray

    def restrict(self, hessian, gradient):
        """B'AB and B'g."""
        starts = np.flatnonzero(np.diff(self.columns, prepend=-1))
        hessian = hessian * np.outer(self.values, self.values)
        hessian = np.add.reduceat(np.add.reduceat(hessian, starts, axis=0), starts, 1)
        return hessian, np.add.reduceat(gradient * self.values, starts)

    def expand(self, step):
        """The change of the parameters that a step in the columns makes."""
        return self.values * step[self.columns]


def everything(network):
    """Free every parameter but the intercept by itself."""
    n_free = len(pack(network)) - 1
    return Directions(np.ones(n_free), np.arange(n_free))


def gains(network):
    """Free the norm of each kernel, each scale and each bias."""
    n_filters = len(network.scales)
    sizes = [*(k.shape[1] for k in network.kernels), 1, *(1 for _ in network.biases)]
    owner = np.repeat(np.arange(n_filters * len(sizes)), np.tile(sizes, n_filters))
    ones = np.ones(n_filters)
    units = pack(network._replace(scales=ones, biases=(ones,) * len(network.biases)))
    return Directions(units[:-1], owner)


def _damped_step(hessian, gradient, damping):
    """Solve (A + damping * diag A) step = g; also the decrease that A predicts."""
    scale = diagonal_scale(hessian)
    damped = hessian / np.outer(scale, scale) + damping * np.eye(len(scale))
    target = gradient / scale
    try:
        step = linalg.cho_solve(linalg.cho_factor(damped), target)
    except linalg.LinAlgError:
        step = linalg.lstsq(damped, target)[0]
    step = step / scale
    return step, step @ (2 * gradient - hessian @ step)


def polish(
    network,
    rows,
    objective,
    *,
    directions=everything,
    max_iter,
    tol,
    zero_loss=0.0,
    damping=FIRST_DAMPING,
):
    """Minimise the loss from ``network`` on.

    It has converged where a step lowered the loss by less than ``tol`` of itself, or
    the linear model of the residuals promises no more than that, where the loss is at
    most ``zero_loss``, or where no step, however small, lowers it: the kinks of a relu
    have minima at which the gradient is not zero.

    Parameters
    ----------
    network : PatchCNN
    rows : RowBlocks
    objective : Objective
    directions : callable
        ``everything`` or ``gains``: the directions in which parameters may move.
    max_iter : int
        Most passes over the rows.
    tol, zero_loss : float
    damping : float
        Of the first step.

    Returns
    -------
    Polished

    Raises
    ------
    FloatingPointError
        Where the normal equations overflow at the start.
    """
    current = normal_equations(normalize(network), rows, objective)
    if not np.isfinite(current.loss):
        raise FloatingPointError("the squares of the network's derivatives overflow")
    growth, n_iter, decrease = 2.0, 1, np.inf
    rounding = SINGULAR_ROUNDING * np.finfo(rows.precision).eps
    smallest = max(SMALLEST_DAMPING, rounding)
    while True:
        basis = directions(current.network)
        hessian, gradient = basis.restrict(current.hessian, current.gradient)
        # After a rejected step the linear model is trusted no further than it reached.
        trusted = damping if growth > 2.0 else smallest
        _, promised = _damped_step(hessian, gradient, trusted)
        converged = (
            current.loss <= max(zero_loss, current.rounding)
            or min(promised, decrease) <= tol * current.loss
            or damping > LARGEST_DAMPING
        )
        if converged or n_iter >= max_iter:
            return Polished(current.network, current.loss, n_iter, converged, current)
        step, predicted = _damped_step(hessian, gradient, damping)
        change = np.append(basis.expand(step), 0.0)
        moved = unpack(pack(current.network) + change, current.network)
        trial = normal_equations(normalize(moved), rows, objective)
        n_iter += 1
        if trial.loss < current.loss:
            decrease = current.loss - trial.loss
            gain = decrease / predicted
            damping *= max(0.1, 1 - (2 * gain - 1) ** 3)
            damping, growth = max(damping, smallest), 2.0
            current = trial
        else:
            damping, growth = damping * growth, growth * 2
