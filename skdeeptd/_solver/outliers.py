"""Fits that outliers of y do not rule, and whether they rule one of least squares.

==========  ==================  ==================================================
symbol      name                meaning
==========  ==================  ==================================================
r           ``residual``        (rows,): y minus the network's output
sigma       ``scale``           (): of r, the standard deviation if it is normal
t           ``threshold``       epsilon sigma
psi         ``np.clip``         r, cut off at t and -t
beta        ``consistency``     E[min(z^2, epsilon^2)] of a normal z
==========  ==================  ==================================================

theta and sigma solve two equations together (Huber 1981, section 7.7, proposal 2):

    sum_i w_i psi(r_i) j_i = alpha / 2 * gradient of the penalty
    sum_i w_i psi(r_i)^2 = beta sigma^2 sum_i w_i

Without a penalty they are the gradient of sum_i w_i (beta sigma + H(r_i) / sigma), H
being Huber's loss, in theta and in sigma. HuberRegressor has 1 for beta, which makes
sigma 0.69 of the standard deviation of normal residuals. In turn one is solved, the
other held; neither step raises the sum.
"""

import math
from typing import NamedTuple

import numpy as np

from skdeeptd._data.rows import concatenate_blocks
from skdeeptd._model.loss import Huber
from skdeeptd._model.network import forward
from skdeeptd._solver.normal_equations import Objective
from skdeeptd._solver.polish import CLOSE_DAMPING, Solution, polish

MEDIAN = 0.6744897501960817  # of |z| for a normal z
WINSORISED = 2.0  # scales from the median at which a start sees y cut off
NO_SCALE = 1e-12  # in units of y: residuals of a network that fits exactly
TIE = 1e-12  # of all weight: rounding that does not move a median
FAR_OUT, MOST_OUT, RULE = 10.0, 0.2, 0.5  # scales; share of the rows; of the squares
FEW_VALUES = 20  # of y that are levels, not measurements
FEWEST = 20  # rows that show outliers


class HuberFit(NamedTuple):
    """theta with the objective that it minimises, and sigma."""

    solution: Solution
    objective: Objective
    scale: float


def weighted_median(values, weight):
    """The lower one, as of rows that are repeated."""
    order = np.argsort(values, kind="stable")
    below = np.cumsum(weight[order])
    half = below[-1] / 2 * (1 - TIE)
    return values[order[np.searchsorted(below, half)]]


def spread(residual, weight):
    """The median of |r|, as a standard deviation of normal r."""
    return weighted_median(np.abs(residual), weight) / MEDIAN


def winsorised(rows):
    """The rows with each target cut off where it is far from its median."""

    def cut(y, weight):
        return np.column_stack([_winsorised(column, weight) for column in y.T]), weight

    return rows.with_targets(cut)


def _winsorised(y, weight):
    middle = weighted_median(y, weight)
    most = WINSORISED * spread(y - middle, weight)
    return np.clip(y, middle - most, middle + most) if most > 0 else y


def consistency(epsilon):
    tail = math.erfc(epsilon / math.sqrt(2))
    density = math.sqrt(2 / math.pi) * math.exp(-(epsilon**2) / 2)
    return 1 - tail - epsilon * density + epsilon**2 * tail


@np.errstate(over="ignore", invalid="ignore", divide="ignore")
def huber_scale(residual, weight, epsilon):
    """The sigma of proposal 2; zero where too many residuals are zero."""
    size = np.abs(residual)
    order = np.argsort(size, kind="stable")
    size, weight = size[order], weight[order]
    within, square = np.cumsum(weight), np.cumsum(weight * size**2)
    beyond = within[-1] - within
    wanted = consistency(epsilon) * within[-1]
    # What the left side is over sigma^2, were t this size: it falls.
    at_size = epsilon**2 * (np.where(size > 0, square / size**2, np.inf) + beyond)
    last = max(np.count_nonzero(at_size >= wanted) - 1, 0)
    return math.sqrt(square[last] / (wanted - epsilon**2 * beyond[last]))


def outputs(network, rows):
    return concatenate_blocks(
        lambda X: forward(network, X.astype(float, copy=False)), rows.X, rows.n_jobs
    )


def huber_fit(start, rows, spec):
    """The solution of both equations, from the network of ``start`` on.

    Parameters
    ----------
    start : Solution
    rows : RowBlocks
        Of one output, in the units of ``start``.
    spec : Spec

    Returns
    -------
    HuberFit
    """
    rows = rows.with_dtype(float)
    found, n_iter = start, 0
    output = outputs(start.network, rows)
    scale = spread(rows.y - output, rows.weight)
    objective = _objective(spec, scale)
    settled = not spec.polish or scale <= NO_SCALE
    while not settled and n_iter < spec.max_iter:
        objective = _objective(spec, scale)
        found = polish(
            found.network,
            rows,
            objective,
            max_iter=spec.max_iter - n_iter,
            tol=spec.tol,
            damping=CLOSE_DAMPING,
        )
        n_iter += found.n_iter
        output = outputs(found.network, rows)
        before = scale
        scale = huber_scale(rows.y - output, rows.weight, spec.epsilon)
        change = abs(scale - before)
        settled = change <= math.sqrt(spec.tol) * before or scale <= NO_SCALE
    squares = _squares(rows.y - output, rows.weight, objective.loss.threshold)
    found = found._replace(
        n_iter=start.n_iter + n_iter,
        converged=found.converged and settled,
        share=start.share,
        squares=squares,
    )
    return HuberFit(found, objective, scale)


def _objective(spec, scale):
    return spec.objective._replace(loss=Huber(spec.epsilon * scale))


def _squares(residual, weight, threshold):
    """Sum of psi^2 over the square of the share of rows whose psi is not cut off."""
    within = weight @ (np.abs(residual) <= threshold) / np.sum(weight)
    return weight @ np.clip(residual, -threshold, threshold) ** 2 / within**2


def which_outliers_rule(networks, rows):
    """``outliers_rule`` of each column of y and its network, (outputs,)."""
    rows = rows.of_weight()
    rule = []
    for network, y in zip(networks, rows.y.T, strict=True):
        rule.append(outliers_rule(y, y - outputs(network, rows), rows.weight))
    return np.array(rule)


def outliers_rule(y, residual, weight):
    """Whether few rows far out hold most of the sum of squares.

    No where y has few values, as labels have, and where half of the residuals are zero.
    """
    scale = spread(residual, weight)
    out = np.abs(residual) > FAR_OUT * scale
    if len(y) < FEWEST or scale == 0 or not out.any():
        return False
    share = (weight @ out) / np.sum(weight)
    squares = weight * residual**2
    most = np.sum(squares[out]) > RULE * np.sum(squares)
    return bool(most and share < MOST_OUT and len(np.unique(y)) > FEW_VALUES)
