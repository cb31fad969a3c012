"""The likelihood of classes by the weights of the hidden layers that they share.

==========  ======================  ==========================================
symbol      array                   axes
==========  ======================  ==========================================
Q, R, T     sizes                   outputs, filters, entries of F
F, V, h     as in _solver.logistic
M           ``metric``              of the readout: G, or an upper bound of it
J_o         never all formed        (rows, R M): of output o by the trunk's weights
S_o         ``crossed``             (Q T, R M): sum_p F'W C_op J_p, and the penalty
A           ``joint``               (R M, R M): sum_op J_o'W C_op J_p, and the same
H           ``hessian``             A - S'M^-1 S
g           ``gradient``            (R M,): sum_o J_o'W (Y_o - p_o), and the penalty
==========  ======================  ==========================================

Generalised Gauss-Newton: A and G have no second derivative of the network in them, and
no negative eigenvalue. H is the Schur complement of their joint matrix; where M is but
an upper bound of G, so is H of that.
"""

import functools
from typing import NamedTuple

import numpy as np

from skdeeptd._model.likelihood import halves
from skdeeptd._model.trunk import (
    stepped,
    trunk_forward,
    trunk_jacobian,
    trunk_weights,
    trunk_width,
)
from skdeeptd._solver.descent import Engine, descend
from skdeeptd._solver.logistic import (
    Metric,
    Readout,
    best_readout,
    regression_from,
    with_ones,
)
from skdeeptd._solver.normal_equations import check_size
from skdeeptd._solver.shared import add_trunk_penalty


class Equations(NamedTuple):
    readout: Readout
    metric: Metric
    joint: np.ndarray
    crossed: np.ndarray
    hessian: np.ndarray
    gradient: np.ndarray

    @property
    def loss(self):
        return self.readout.loss

    @property
    def rounding(self):
        """The loss that is as good as none."""
        return self.loss if self.readout.value.separates else 0.0


def fit_trunk(trunk, rows, objective, max_iter, tol):
    """The readout of the largest penalised likelihood near a trunk, and its trunk.

    Parameters
    ----------
    trunk : PatchCNN
    rows : RowBlocks
        With a target (rows, Q) of ones and zeros.
    objective : Objective
        Whose loss is ``log_likelihood``.
    max_iter, tol
        As of ``descend``. No passes: only the readout is fitted.

    Returns
    -------
    readout : Readout
    n_iter : int
    converged : bool
    """
    n_features = trunk.kernels[-1].size + objective.fit_intercept
    n_weights = len(trunk.scales) * trunk_weights(trunk)
    what = f"{len(trunk.scales)} filters of kernels {trunk.sizes} of classes"
    check_size(n_weights + n_features, what)
    engine = Engine(
        readout=functools.partial(best_readout, rows, objective),
        equations=functools.partial(equations_at, rows, objective),
        moved=_moved,
    )
    if n_weights == 0 or max_iter == 0:
        return engine.readout(trunk), 1, True
    found = descend(engine, trunk, rows.precision, max_iter=max_iter, tol=tol)
    return found.equations.readout, found.n_iter, found.converged


@np.errstate(over="ignore", invalid="ignore")
def equations_at(rows, objective, found):
    """The ``Equations`` at a ``Readout``: two passes."""
    trunk, table, shift, _ = found
    last, (n_outputs, n_features) = found.last_kernels, table.shape
    n_weights = len(trunk.scales) * trunk_weights(trunk)
    in_dtype = trunk.astype(rows.precision)

    def statistic(X, y, weight):
        layers, features = trunk_forward(in_dtype, X)
        features = with_ones(features, shift, n_features - len(shift))
        jacobian = trunk_jacobian(in_dtype, layers, last)
        jacobian = jacobian.reshape(len(X), n_outputs, n_weights)
        residual, p, _ = objective.loss(y, features @ table.T)
        gradient = np.einsum("iqm,iq->m", jacobian, weight[:, np.newaxis] * residual)
        root = np.sqrt(weight)[:, np.newaxis, np.newaxis]
        half, towards = halves(p, jacobian * root)
        joint = half.reshape(-1, n_weights).T @ half.reshape(-1, n_weights)
        half *= towards[:, :, np.newaxis] * root
        crossed = np.array([features.T @ half[:, o] for o in range(n_outputs)])
        return joint, crossed, gradient

    width = trunk_width(trunk, n_outputs) + 3 * n_outputs * n_weights + n_features
    joint, crossed, gradient = rows.reduce(statistic, width)
    of_values = np.ascontiguousarray(crossed[:, : len(shift)].swapaxes(1, 2))
    add_trunk_penalty(trunk, last, objective.alpha, joint, of_values, gradient)
    crossed[:, : len(shift)] = of_values.swapaxes(1, 2)
    crossed = crossed.reshape(table.size, n_weights)
    metric = regression_from(rows, objective, trunk, shift).metric(table)
    half = metric.half(crossed)
    gradient = gradient - crossed.T @ metric.solve(found.value.slope)
    return Equations(found, metric, joint, crossed, joint - half.T @ half, gradient)


def _moved(equations, step):
    """The trunk after a step, of unit norms, and the readout that goes with it."""
    found = equations.readout
    trunk, factor = stepped(found.trunk, step)
    metric = equations.metric
    change = metric.solve(found.value.slope.ravel() - equations.crossed @ step)
    moved = found._replace(table=found.table + change.reshape(found.table.shape))
    values = moved.last_kernels * factor[:, np.newaxis]
    return trunk, values.reshape(len(values), -1), moved.intercept, metric
