"""The likelihood of classes that share hidden layers, each with a readout of its own.

==========  ======================  ==========================================
symbol      array                   axes
==========  ======================  ==========================================
Q, R, P     sizes                   outputs, filters, entries of a last kernel
Y           ``y``                   (rows, Q): 1 where a row is of the class
F           ``features``            (rows, T): what the last layer takes, and a
                                    one where there is an intercept
V           ``table``               (Q, T): last kernels, and intercepts
E           ``residual``            (rows, Q): Y - p
C           never formed            (rows, Q, Q): l'' / 2
G           ``gram``                (Q T, Q T): sum over i of C_i x F_i F_i', and
                                    alpha N
h           ``slope``               (Q, T): E'WF - alpha N V
J_o         never all formed        (rows, R M): of output o by the trunk's weights
S_o         ``crossed``             (Q, R M, T): sum_p J_p'W C_po F, and the penalty
A           ``joint``               (R M, R M): sum_op J_o'W C_op J_p, and the same
H           ``hessian``             A - S G^-1 S'
==========  ======================  ==========================================

The objective is that of scikit-learn's LogisticRegression with C = 1 / alpha, times
two: sum_i w_i l(Y_i, eta_i) + alpha |W|^2, |W|^2 being that of the hidden kernels
times the readout. It has no second derivative of the network in it (generalised
Gauss-Newton), so that A and G have no negative eigenvalue. For a trunk a few Newton
steps of the readout, which is a logistic regression, come before each step.

Logits of softmax may all rise by the same number and nothing changes: V has a mean of
zero over the classes.
"""

import functools
from typing import NamedTuple

import numpy as np
from scipy import linalg

from skdeeptd._data.scratch import empty
from skdeeptd._model.likelihood import curvature, halves
from skdeeptd._model.network import PatchCNN
from skdeeptd._model.trunk import (
    pack_trunk,
    trunk_forward,
    trunk_jacobian,
    trunk_weights,
    trunk_width,
    unit_trunk,
    unpack_trunk,
)
from skdeeptd._solver.descent import Engine, descend
from skdeeptd._solver.linalg import diagonal_scale
from skdeeptd._solver.normal_equations import check_size
from skdeeptd._solver.shared import (
    READOUT_DAMPING,
    add_trunk_penalty,
    readout_penalty,
)

FIRST_STEPS, STEPS = 30, 3  # of Newton, of a new readout and of one that is near
HALVINGS = 10  # of a step that does not lower the objective
SETTLED = 1e-12  # relative: a step of Newton that promises less is the last one
SEPARATED = 1e-6  # mean of -log p: no class is mistaken, and V may grow for ever


class Readout(NamedTuple):
    """V and its equations for a trunk. F is taken from ``shift``, its mean, on."""

    trunk: PatchCNN
    table: np.ndarray
    shift: np.ndarray
    loss: float
    separates: bool
    slope: np.ndarray
    scale: np.ndarray  # G is scaled by it before it is factorised
    factor: np.ndarray

    def solve(self, target):
        """G^-1 times (Q T, anything)."""
        scale = self.scale.reshape(-1, *[1] * (target.ndim - 1))
        return linalg.cho_solve((self.factor, True), target / scale) / scale

    @property
    def last_kernels(self):
        """(Q, R, P)."""
        n_filters, n_entries = self.trunk.kernels[-1].shape
        values = self.table[:, : n_filters * n_entries]
        return values.reshape(len(values), n_filters, n_entries)

    @property
    def intercept(self):
        """(Q,), of features that are not shifted."""
        values = self.table[:, : len(self.shift)]
        return self.table[:, len(self.shift) :].sum(axis=1) - values @ self.shift


class LogisticEquations(NamedTuple):
    readout: Readout
    joint: np.ndarray
    crossed: np.ndarray
    hessian: np.ndarray
    gradient: np.ndarray
    loss: float

    @property
    def rounding(self):
        """The loss that is as good as none."""
        return self.loss if self.readout.separates else 0.0


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
    n_outputs = rows.pilot()[1].shape[1]
    what = f"{n_outputs} logits of {n_features} features"
    check_size(n_weights + n_outputs * n_features, what)
    engine = Engine(
        readout=functools.partial(best_readout, rows, objective),
        equations=functools.partial(logistic_equations, rows, objective),
        moved=_moved,
    )
    if n_weights == 0 or max_iter == 0:
        return engine.readout(trunk), 1, True
    found = descend(engine, trunk, rows.precision, max_iter=max_iter, tol=tol)
    return found.equations.readout, found.n_iter, found.converged


def best_readout(rows, objective, trunk, values=None, intercept=None):
    """The ``Readout`` of a trunk, from one close to it on or from none: Newton."""
    shift = _mean_features(rows, trunk) * objective.fit_intercept
    n_steps = STEPS
    if values is None:
        n_steps = FIRST_STEPS
        n_outputs = rows.pilot()[1].shape[1]
        values, intercept = np.zeros((n_outputs, len(shift))), np.zeros(n_outputs)
    table = values
    if objective.fit_intercept:
        table = np.column_stack([values, intercept + values @ shift])
    found = _readout_at(rows, objective, trunk, shift, _centred(table))
    for _ in range(n_steps):
        if found.separates or not np.isfinite(found.loss):
            break
        step = found.solve(found.slope.ravel()).reshape(table.shape)
        settled = np.sum(step * found.slope) <= SETTLED * found.loss
        for halving in range(HALVINGS):
            moved = _centred(found.table + step / 2**halving)
            trial = _readout_at(rows, objective, trunk, shift, moved)
            if settled or trial.loss < found.loss:
                break
        else:
            break
        found = trial
        if settled:
            break
    return found


@np.errstate(over="ignore", invalid="ignore")
def _mean_features(rows, trunk):
    in_dtype = trunk.astype(rows.precision)

    def statistic(X, y, weight):
        return weight @ trunk_forward(in_dtype, X)[1], np.sum(weight)

    sums, total = rows.reduce(statistic, trunk_width(trunk, 0))
    return sums / total


def _centred(table):
    return table - table.mean(axis=0) if len(table) > 1 else table


@np.errstate(over="ignore", invalid="ignore")
def _readout_at(rows, objective, trunk, shift, table):
    """One pass."""
    n_outputs, n_features = table.shape
    in_dtype, from_first = trunk.astype(rows.precision), shift.astype(rows.precision)

    def statistic(X, y, weight):
        _, features = trunk_forward(in_dtype, X)
        features = _with_one(features - from_first, objective.fit_intercept)
        working = objective.loss(y, features @ table.T)
        gram = empty("logistic", (n_outputs, n_features) * 2, float)
        for o in range(n_outputs):
            for p in range(o + 1):
                importance = weight * curvature(working.curvature, o, p)
                weighted = features * importance[:, np.newaxis].astype(X.dtype)
                gram[o, :, p] = gram[p, :, o] = weighted.T @ features
        slope = (weight[:, np.newaxis] * working.residual).T @ features
        return gram, slope, weight @ working.value, np.sum(weight)

    width = trunk_width(trunk, 0) + 2 * n_features + 3 * n_outputs
    gram, slope, loss, total = rows.reduce(statistic, width)
    ridge = np.zeros(n_features)
    ridge[: len(shift)] = readout_penalty(trunk, objective)
    gram[np.diag_indices(n_outputs)[0], :, np.arange(n_outputs)] += np.diag(ridge)
    if n_outputs > 1:  # nothing moves along what all logits have in common
        in_common = np.einsum("otot->t", gram) / n_outputs
        gram += np.diag(in_common)[:, np.newaxis] / n_outputs
    gram = gram.reshape(table.size, table.size)
    scale = diagonal_scale(gram)
    scaled = gram / scale[:, np.newaxis] / scale
    scaled[np.diag_indices_from(scaled)] += READOUT_DAMPING
    try:
        factor = linalg.cholesky(scaled, lower=True, check_finite=True)
    except (linalg.LinAlgError, ValueError):
        factor, loss = scaled, np.inf
    separates = loss <= 2 * SEPARATED * total
    loss = loss + np.sum(ridge * table**2)
    slope = slope - ridge * table
    return Readout(trunk, table, shift, loss, separates, slope, scale, factor)


def _with_one(features, has_one):
    ones = np.ones((len(features), int(has_one)), features.dtype)
    return np.concatenate([features, ones], axis=1)


@np.errstate(over="ignore", invalid="ignore")
def logistic_equations(rows, objective, found):
    """The ``LogisticEquations`` at a ``Readout``: one pass."""
    trunk, last, table = found.trunk, found.last_kernels, found.table
    n_outputs, n_features = table.shape
    n_weights = len(trunk.scales) * trunk_weights(trunk)
    in_dtype, basis = trunk.astype(rows.precision), last.astype(rows.precision)
    shift = found.shift.astype(rows.precision)

    def statistic(X, y, weight):
        layers, features = trunk_forward(in_dtype, X)
        features = _with_one(features - shift, objective.fit_intercept)
        jacobian = trunk_jacobian(in_dtype, layers, basis)
        jacobian = jacobian.reshape(len(X), n_outputs, n_weights)
        residual, probability, _ = objective.loss(y, features @ table.T)
        gradient = np.einsum("iqm,iq->m", jacobian, weight[:, np.newaxis] * residual)
        root = np.sqrt(weight)[:, np.newaxis, np.newaxis]
        half = halves(probability, jacobian * root)
        joint = half.reshape(-1, n_weights)
        if n_outputs == 1:
            towards = np.sqrt(probability * (1 - probability))
        else:
            towards = np.sqrt(probability)
        half = half * (towards[:, :, np.newaxis] * root)
        crossed = np.array([half[:, o].T @ features for o in range(n_outputs)])
        return joint.T @ joint, crossed, gradient

    width = trunk_width(trunk, n_outputs) + 3 * n_outputs * n_weights + n_features
    joint, crossed, gradient = rows.reduce(statistic, width)
    values = np.ascontiguousarray(crossed[:, :, : len(found.shift)])
    add_trunk_penalty(trunk, last, objective.alpha, joint, values, gradient)
    crossed = np.concatenate([values, crossed[:, :, len(found.shift) :]], axis=2)
    crossed = crossed.transpose(0, 2, 1).reshape(table.size, n_weights)
    half = linalg.solve_triangular(
        found.factor, crossed / found.scale[:, np.newaxis], lower=True
    )
    gradient = gradient - crossed.T @ found.solve(found.slope.ravel())
    hessian = joint - half.T @ half
    return LogisticEquations(found, joint, crossed, hessian, gradient, found.loss)


def _moved(equations, step):
    """The trunk after a step, of unit norms, and the readout that goes with it."""
    found = equations.readout
    theta = pack_trunk(found.trunk)
    trunk = unpack_trunk(theta + step.reshape(theta.shape), found.trunk)
    trunk, factor = unit_trunk(trunk)
    change = found.solve(found.slope.ravel() - equations.crossed @ step)
    moved = found._replace(table=found.table + change.reshape(found.table.shape))
    values = moved.last_kernels * factor[:, np.newaxis]
    return trunk, values.reshape(len(values), -1), moved.intercept
