"""Logistic regression of classes on what the last layer of a trunk takes.

==========  ======================  ==========================================
symbol      array                   axes
==========  ======================  ==========================================
Q, T        sizes                   outputs; entries of F
Y           ``y``                   (rows, Q): 1 where a row is of the class
F           ``features``            (rows, T): what the last layer takes, from
                                    its mean on, and a one where there is an
                                    intercept
V           ``table``               (Q, T): last kernels, and intercepts
p, C                                as in _model.likelihood
G           never formed if large   (Q T, Q T): sum_i w_i C_i x F_i F_i' + alpha N
h           ``slope``               (Q, T): (Y - p)'WF - alpha V N
M           ``metric``              G, or blocks (Q, T, T) that are not below it
==========  ======================  ==========================================

The objective is that of scikit-learn's LogisticRegression with C = 1 / alpha, times
two: sum_i w_i l(Y_i, eta_i) + alpha sum_r N_r |V_r|^2, where N_r is the square of the
norm of W of filter r without its last kernel.

Newton's step solves G dV = h by conjugate gradients, each of which costs a pass without
a Gram matrix. They take M for a guide: where G is small G itself, else twice its blocks
on the diagonal. Twice, since the rows of C sum to zero: it is the Laplacian of a graph,
which is never more than twice its diagonal. What all logits have in common does not
matter, so that V has a mean of zero over the classes.
"""

from typing import NamedTuple

import numpy as np
from scipy import linalg
from scipy.sparse.linalg import LinearOperator, cg

from skdeeptd._data.rows import RowBlocks
from skdeeptd._model.likelihood import curvature, probabilities, times_curvature
from skdeeptd._model.network import PatchCNN
from skdeeptd._model.trunk import trunk_forward, trunk_width
from skdeeptd._solver.linalg import diagonal_scale
from skdeeptd._solver.normal_equations import Objective
from skdeeptd._solver.shared import READOUT_DAMPING, readout_penalty

FIRST_STEPS, STEPS = 30, 1  # of Newton, of a new readout and of one that is near
HALVINGS = 10  # of a step that does not lower the objective
MOST_OF_CG, TOL_OF_CG = 50, 1e-2
SETTLED = 1e-12  # relative: a step of Newton that promises less is the last one
SEPARATED = 1e-6  # mean of -log p: no class is mistaken, and V may grow for ever
WHOLE = 1000  # entries of V, up to which M is G


class Metric(NamedTuple):
    """M, in blocks of unit diagonal: ``scale`` (blocks, entries), and their factors."""

    scale: np.ndarray
    factors: np.ndarray

    def solve(self, target):
        """M^-1 times (Q T,)."""
        target = target.reshape(self.scale.shape) / self.scale
        parts = [
            linalg.cho_solve((factor, True), part, check_finite=False)
            for factor, part in zip(self.factors, target, strict=True)
        ]
        return (parts / self.scale).ravel()

    def half(self, target):
        """An L^-1 times (Q T, columns), with LL' = M."""
        target = target.reshape(*self.scale.shape, -1) / self.scale[:, :, np.newaxis]
        parts = [
            linalg.solve_triangular(factor, part, lower=True, check_finite=False)
            for factor, part in zip(self.factors, target, strict=True)
        ]
        return np.concatenate(parts)


class Value(NamedTuple):
    loss: float
    slope: np.ndarray
    separates: bool


class Readout(NamedTuple):
    """V for a trunk, and what is known there. F is taken from ``shift`` on."""

    trunk: PatchCNN
    table: np.ndarray
    shift: np.ndarray
    value: Value

    @property
    def loss(self):
        return self.value.loss

    @property
    def last_kernels(self):
        """(Q, filters, entries)."""
        values = self.table[:, : len(self.shift)]
        return values.reshape(len(values), len(self.trunk.scales), -1)

    @property
    def intercept(self):
        """(Q,), of features that are not shifted."""
        values = self.table[:, : len(self.shift)]
        return self.table[:, len(self.shift) :].sum(axis=1) - values @ self.shift


class Regression(NamedTuple):
    """The sums over the rows for a trunk; each method is one pass."""

    rows: RowBlocks
    objective: Objective
    trunk: PatchCNN
    shift: np.ndarray
    ridge: np.ndarray  # (T,): alpha N

    def value(self, table):
        """The objective, and its slope h."""

        def statistic(features, y, weight):
            residual, _, value = self.objective.loss(y, features @ table.T)
            slope = (weight[:, np.newaxis] * residual).T @ features
            return slope, weight @ value, np.sum(weight)

        slope, loss, total = self._reduce(statistic)
        slope, separates = slope - self.ridge * table, loss <= 2 * SEPARATED * total
        return Value(loss + np.sum(self.ridge * table**2), slope, separates)

    def product(self, table, direction):
        """G at V, times a direction."""

        def statistic(features, y, weight):
            p = probabilities(features @ table.T)
            moved = times_curvature(p, features @ direction.T)
            return ((weight[:, np.newaxis] * moved).T @ features,)

        return self._reduce(statistic)[0] + self.ridge * direction

    def metric(self, table):
        n_outputs, n_features = table.shape
        whole = n_outputs == 1 or table.size <= WHOLE
        pairs = [(o, o) for o in range(n_outputs)]
        if whole:
            pairs = [(o, p) for o in range(n_outputs) for p in range(o + 1)]

        def statistic(features, y, weight):
            p = probabilities(features @ table.T)
            grams = [
                (features * (weight * curvature(p, *pair))[:, np.newaxis]).T @ features
                for pair in pairs
            ]
            return (np.array(grams),)

        (grams,) = self._reduce(statistic)
        if whole:
            blocks = np.empty((n_outputs, n_features) * 2)
            for (o, p), gram in zip(pairs, grams, strict=True):
                blocks[o, :, p] = blocks[p, :, o] = gram
            blocks[np.arange(n_outputs), :, np.arange(n_outputs)] += np.diag(self.ridge)
            if n_outputs > 1:  # nothing moves along what all logits have in common
                in_common = np.einsum("otot->t", blocks) / n_outputs
                blocks += np.diag(in_common)[:, np.newaxis] / n_outputs
            blocks = blocks.reshape(1, table.size, table.size)
        else:
            blocks = 2 * grams + np.diag(self.ridge)
        scale = diagonal_scale(blocks)
        blocks = blocks / scale[:, :, np.newaxis] / scale[:, np.newaxis]
        blocks += READOUT_DAMPING * np.eye(blocks.shape[1])
        return Metric(scale, np.array([linalg.cholesky(b, lower=True) for b in blocks]))

    def newton_step(self, table, slope, metric):
        def operator(function):
            return LinearOperator((table.size, table.size), function, dtype=float)

        step, _ = cg(
            operator(lambda d: self.product(table, d.reshape(table.shape)).ravel()),
            slope.ravel(),
            rtol=TOL_OF_CG,
            maxiter=MOST_OF_CG,
            M=operator(metric.solve),
        )
        return step.reshape(table.shape)

    def _reduce(self, statistic):
        in_dtype = self.trunk.astype(self.rows.precision)

        def of_block(X, y, weight):
            _, features = trunk_forward(in_dtype, X)
            return statistic(with_ones(features, self.shift, n_ones), y, weight)

        n_ones = len(self.ridge) - len(self.shift)
        width = trunk_width(self.trunk, 0) + 3 * len(self.ridge)
        with np.errstate(over="ignore", invalid="ignore"):
            return self.rows.reduce(of_block, width)


def regression_on(rows, objective, trunk):
    """The ``Regression`` on F of a trunk: one pass, for its mean."""
    in_dtype = trunk.astype(rows.precision)

    def statistic(X, y, weight):
        return weight @ trunk_forward(in_dtype, X)[1], np.sum(weight)

    with np.errstate(over="ignore", invalid="ignore"):
        sums, total = rows.reduce(statistic, trunk_width(trunk, 0))
    shift = sums / total if objective.fit_intercept else np.zeros_like(sums)
    return regression_from(rows, objective, trunk, shift)


def regression_from(rows, objective, trunk, shift):
    ridge = readout_penalty(trunk, objective)
    if objective.fit_intercept:
        ridge = np.append(ridge, 0.0)
    return Regression(rows, objective, trunk, shift, ridge)


def with_ones(features, shift, n_ones):
    ones = np.ones((len(features), n_ones), features.dtype)
    return np.concatenate([features - shift, ones], axis=1)


def best_readout(rows, objective, trunk, values=None, intercept=None, metric=None):
    """The ``Readout`` of a trunk, from one close to it on or from none: Newton.

    The metric of what is close is a guide that costs no pass.
    """
    on, n_steps = regression_on(rows, objective, trunk), STEPS
    table = np.zeros((rows.pilot()[1].shape[1], len(on.ridge)))
    if values is None:
        n_steps = FIRST_STEPS
    else:
        table[:, : len(on.shift)] = values
        table[:, len(on.shift) :] = (intercept + values @ on.shift)[:, np.newaxis]
    table = _centred(table)
    found = on.value(table)
    for _ in range(n_steps):
        if found.separates or not np.isfinite(found.loss):
            break
        if values is None:  # far from the end it changes
            metric = on.metric(table)
        step = on.newton_step(table, found.slope, metric)
        settled = np.sum(step * found.slope) <= SETTLED * found.loss
        for halving in range(HALVINGS):
            moved = _centred(table + step / 2**halving)
            trial = on.value(moved)
            if settled or trial.loss < found.loss:
                break
        else:
            break
        table, found = moved, trial
        if settled:
            break
    return Readout(trunk, table, on.shift, found)


def _centred(table):
    return table - table.mean(axis=0) if len(table) > 1 else table
