"""Hidden layers that several outputs share, each with a readout of its own.

==========  ======================  ==========================================
symbol      array                   axes
==========  ======================  ==========================================
Q, R, P     sizes                   outputs, filters, entries of a last kernel
Y           ``y``                   (rows, Q)
F           ``features``            (rows, R P), centred where there is an intercept
V           ``values``              (Q, R P): the last kernels of each output
E           ``residual``            (rows, Q): Y - F V' - b
G           ``gram``                (R P, R P): F'WF + alpha N, N = |W|^2 without V
J_o         never all formed        (rows, R M): of output o by the trunk's weights
S_o         ``crossed``             (Q, R M, R P): J_o'WF + alpha dN V_o'
A           ``joint``               (R M, R M): sum_o J_o'WJ_o, and the penalty
H           ``hessian``             A - sum_o S_o G^-1 S_o'
g           ``gradient``            (R M,): sum_o J_o'WE_o, and the penalty
==========  ======================  ==========================================

The objective is the sum over the outputs of that of one network each. For a given trunk
V is a ridge regression, with one G for all outputs, so it is always the best one
(variable projection). H is then the Schur complement of the joint Gauss-Newton matrix.
J_o is linear in V_o. Where a last kernel has few entries, one Gram matrix of the
derivatives of each entry holds all that is needed of any number of outputs; else that
of each output is formed.
"""

import functools
from typing import NamedTuple

import numpy as np
from scipy import linalg

from skdeeptd._data.scratch import empty
from skdeeptd._model.network import PatchCNN
from skdeeptd._model.trunk import (
    stepped,
    trunk_forward,
    trunk_jacobian,
    trunk_penalty,
    trunk_weights,
    trunk_width,
)
from skdeeptd._solver.descent import Engine, descend
from skdeeptd._solver.linalg import diagonal_scale
from skdeeptd._solver.normal_equations import OUTPUT_ROUNDING, check_size
from skdeeptd._solver.polish import SINGULAR_ROUNDING

READOUT_DAMPING = 1e-9  # relative: less would amplify rounding


class Readout(NamedTuple):
    """The best V and b for a trunk, and the objective there."""

    trunk: PatchCNN
    values: np.ndarray
    intercept: np.ndarray
    loss: float
    mean: np.ndarray  # of F
    scale: np.ndarray  # G is scaled by it before it is factorised
    factor: np.ndarray

    def solve(self, target):
        """G^-1 times (R P, anything)."""
        scale = self.scale[:, np.newaxis]
        return linalg.cho_solve((self.factor, True), target / scale) / scale

    @property
    def last_kernels(self):
        return self.values.reshape(len(self.values), len(self.trunk.scales), -1)


class SharedEquations(NamedTuple):
    readout: Readout
    joint: np.ndarray
    crossed: np.ndarray
    hessian: np.ndarray
    gradient: np.ndarray
    of_outputs: np.ndarray | None  # (Q, R M, R M): J_o'WJ_o, only where asked for
    mean_jacobian: np.ndarray  # (Q, R M)
    losses: np.ndarray  # (Q,): the objective of each output
    squares: np.ndarray  # (Q,): of it the weighted sum of squared residuals
    rounding: float

    @property
    def loss(self):
        return float(np.sum(self.losses))


@np.errstate(over="ignore", invalid="ignore")
def best_readout(trunk, rows, objective, values=None, intercept=None):
    """The ``Readout`` of a trunk: one pass.

    Parameters
    ----------
    trunk : PatchCNN
    rows : RowBlocks
        With a target (rows, Q).
    objective : Objective
        Of squared error.
    values, intercept : array or None
        Close to those wanted, or none: from close by no digits are lost.
    """
    X_pilot, y_pilot = rows.pilot()
    _, first = trunk_forward(trunk, X_pilot)
    n_entries, n_outputs = first.shape[1], y_pilot.shape[1]
    shift = first[0] * float(objective.fit_intercept)
    if values is None:
        values = np.zeros((n_outputs, n_entries))
        intercept = y_pilot[0] * float(objective.fit_intercept)
    at_shift = intercept + values @ shift
    in_dtype = trunk.astype(rows.precision)
    from_first, of_values = shift.astype(rows.precision), values.T

    def statistic(X, y, weight):
        table = empty("shared", (len(X), n_entries + 1 + n_outputs), X.dtype)
        _, features = trunk_forward(in_dtype, X)
        features -= from_first
        table[:, :n_entries] = features
        table[:, n_entries] = 1
        table[:, n_entries + 1 :] = y - at_shift - features @ of_values
        table *= np.sqrt(weight).astype(X.dtype)[:, np.newaxis]
        return (table.T @ table,)

    (sums,) = rows.reduce(statistic, trunk_width(trunk, 0) + n_entries + n_outputs)
    ours, rest = slice(0, n_entries), slice(n_entries + 1, None)
    gram, with_rest = sums[ours, ours], sums[ours, rest]
    total, mean = sums[n_entries, n_entries], np.zeros(n_entries)
    squares, off = sums[rest, rest].diagonal().copy(), np.zeros(n_outputs)
    if objective.fit_intercept:
        mean, off = sums[ours, n_entries] / total, sums[n_entries, rest] / total
        gram = gram - total * np.outer(mean, mean)
        with_rest = with_rest - total * np.outer(mean, off)
        squares = np.maximum(squares - total * off**2, 0.0)
    ridge = readout_penalty(trunk, objective)
    gram = gram + np.diag(ridge)
    target = with_rest - ridge[:, np.newaxis] * values.T
    scale, factor = _factor(gram, rows.precision)
    if factor is None:
        bare = np.full(n_entries, np.nan)
        return Readout(trunk, values, intercept, np.inf, bare, scale, gram)
    found = Readout(trunk, values, intercept, 0.0, mean + shift, scale, factor)
    change = found.solve(target).T
    gain = np.sum(change.T * (2 * target - gram @ change.T))
    moved = values + change
    at_mean = at_shift + off - change @ mean
    return found._replace(
        values=moved,
        intercept=(at_mean - moved @ shift) * float(objective.fit_intercept),
        loss=max(np.sum(squares) + np.sum(ridge * values**2) - gain, 0.0),
    )


def readout_penalty(trunk, objective):
    """The diagonal of alpha N, a number for each entry of V."""
    _, _, squares = trunk_penalty(trunk)
    return objective.alpha * np.repeat(squares, trunk.sizes[-1])


def _factor(gram, precision):
    """Roots of the diagonal, and the Cholesky factor of G over them."""
    scale = diagonal_scale(gram)
    scaled = gram / scale[:, np.newaxis] / scale
    if not np.all(np.isfinite(scaled)):
        return scale, None
    scaled[np.diag_indices_from(scaled)] += max(
        READOUT_DAMPING, SINGULAR_ROUNDING * np.finfo(precision).eps
    )
    try:
        return scale, linalg.cholesky(scaled, lower=True, check_finite=False)
    except linalg.LinAlgError:
        return scale, None


def is_joint(n_outputs, n_entries, n_weights):
    """Whether one Gram matrix of all entries costs less than one for each output."""
    each = n_outputs * (n_weights + n_entries)
    return n_entries * (n_entries * n_weights + n_entries + n_outputs) <= each


@np.errstate(over="ignore", invalid="ignore")
def shared_equations(found, rows, objective, of_each=False):
    """The ``SharedEquations`` at a ``Readout``: one pass.

    ``of_each`` asks for J_o'WJ_o of each output.
    """
    trunk, last = found.trunk, found.last_kernels
    n_outputs, n_filters, n_entries = last.shape
    n_weights = trunk_weights(trunk)
    joint = is_joint(n_outputs, n_entries, n_weights)
    basis = last
    if joint:
        basis = np.repeat(np.eye(n_entries)[:, np.newaxis], n_filters, axis=1)
    sums = _jacobian_sums(found, basis, joint, rows, objective, of_each)
    contract = _contract_joint if joint else _contract_each
    A, of_outputs, crossed, gradient, mean, squares, output_square = contract(
        sums, last, n_weights, of_each
    )
    norms = add_trunk_penalty(trunk, last, objective.alpha, A, crossed, gradient)
    by_entry = crossed.transpose(2, 0, 1) / found.scale[:, np.newaxis, np.newaxis]
    whitened = linalg.solve_triangular(
        found.factor,
        by_entry.reshape(len(by_entry), -1),
        lower=True,
        check_finite=False,
    ).reshape(-1, A.shape[0])
    losses = squares + objective.alpha * (last**2).sum(axis=2) @ norms
    rounding = (OUTPUT_ROUNDING * np.finfo(rows.precision).eps) ** 2 * output_square
    return SharedEquations(
        found,
        A,
        crossed,
        A - whitened.T @ whitened,
        gradient,
        of_outputs,
        mean,
        losses,
        squares,
        rounding,
    )


def add_trunk_penalty(trunk, last, alpha, joint, crossed, gradient):
    """Add to the sums, in place, the part of the penalty; gives |W|^2 without V."""
    curvature, slope, norms = trunk_penalty(trunk)
    if alpha > 0:
        n_outputs, n_filters, n_entries = last.shape
        size = np.sum(last**2, axis=(0, 2))
        shape = n_filters, trunk_weights(trunk), n_filters
        each = np.arange(n_filters)
        blocks = joint.reshape(*shape, shape[1])
        blocks[each, :, each] += alpha * size[:, np.newaxis, np.newaxis] * curvature
        blocks = crossed.reshape(n_outputs, *shape, n_entries)
        for r in range(n_filters):
            blocks[:, r, :, r] += (
                alpha * slope[r][:, np.newaxis] * last[:, r][:, np.newaxis]
            )
        gradient -= alpha * (size[:, np.newaxis] * slope).ravel()
    return norms


def _jacobian_sums(found, basis, joint, rows, objective, of_each):
    """Sums over the rows of products of J of the basis, F and E, J from a row on."""
    trunk, centre = found.trunk, found.mean
    n_outputs, n_basis = len(found.values), len(basis)
    layers, _ = trunk_forward(trunk, rows.pilot()[0])
    pilot = trunk_jacobian(trunk, layers, basis)[0] * float(objective.fit_intercept)
    in_dtype, pilot = trunk.astype(rows.precision), pilot.astype(rows.precision)
    if not objective.fit_intercept:
        centre = np.zeros_like(centre)
    at_centre = found.intercept + found.values @ centre
    centre_in, values = centre.astype(rows.precision), found.values.T
    basis_in, width = basis.astype(rows.precision), basis[0].size

    def statistic(X, y, weight):
        layers, features = trunk_forward(in_dtype, X)
        features -= centre_in
        table = trunk_jacobian(in_dtype, layers, basis_in)
        table -= pilot
        output = at_centre + features @ values
        residual, _, value = objective.loss(y, output)
        root = np.sqrt(weight).astype(X.dtype)
        table *= root[:, np.newaxis, np.newaxis, np.newaxis]
        flat = table.reshape(len(X), -1)
        features *= root[:, np.newaxis]
        residual = residual.astype(X.dtype) * root[:, np.newaxis]
        if joint:
            grams, with_residual = flat.T @ flat, flat.T @ residual
        else:
            of_outputs = table.reshape(len(X), n_basis, -1)
            with_residual = np.einsum("iqm,iq->qm", of_outputs, residual)
            if of_each:
                by_output = of_outputs.transpose(1, 0, 2)
                grams = by_output.swapaxes(1, 2) @ by_output
            else:
                stacked = table.reshape(len(X) * n_basis, -1)
                grams = stacked.T @ stacked
        return (
            grams,
            flat.T @ features,
            with_residual,
            root @ flat,
            np.sum(weight),
            weight @ value,
            np.sum(weight @ output**2),
        )

    n_numbers = trunk_width(trunk, n_basis) + n_basis * width + n_outputs
    sums = rows.reduce(statistic, n_numbers)
    return sums, pilot.astype(float), objective.fit_intercept


def _contract_each(sums, last, n_weights, of_each):
    """What ``shared_equations`` needs, from sums for each output."""
    sums, pilot, centred = sums
    grams, crossed, gradient, total, weight, squares, output_square = sums
    n_outputs, (n_filters, n_entries) = len(last), last.shape[1:]
    size = n_filters * n_weights
    total = total.reshape(n_outputs, size)
    mean = pilot.reshape(n_outputs, size) + total / weight
    of_outputs = None
    if of_each:
        of_outputs = grams - centred * total[:, :, np.newaxis] * (
            total[:, np.newaxis] / weight
        )
        A = of_outputs.sum(axis=0)
    else:
        A = grams - centred * total.T @ (total / weight)
    crossed = crossed.reshape(n_outputs, size, n_filters * n_entries)
    gradient = gradient.sum(axis=0)
    return A, of_outputs, crossed, gradient, mean, squares, output_square


def _contract_joint(sums, last, n_weights, of_each):
    """The same from those of each entry, which are those of any V."""
    sums, pilot, centred = sums
    gram, with_features, with_residual, total, weight, squares, output_square = sums
    n_outputs, n_filters, n_entries = last.shape
    size = n_filters * n_weights
    gram = gram - centred * np.outer(total, total / weight)
    axes = n_entries, n_filters, n_weights
    gram, by_entry = gram.reshape(axes + axes), last.transpose(0, 2, 1)
    if n_entries == 1:
        flat = by_entry[:, 0]
        pairs = (flat.T @ flat)[:, np.newaxis, :, np.newaxis]
        A = (gram[0, :, :, 0] * pairs).reshape(size, size)
    else:
        # A weighted sum over pairs of entries, block by block of the filters.
        pairs = np.einsum("opr,oqs->prqs", by_entry, by_entry)
        A = np.einsum("prqs,prmqsn->rmsn", pairs, gram, optimize=True)
        A = A.reshape(size, size)
    of_outputs = None
    if of_each:
        of_outputs = np.array(
            [
                np.einsum("pr,prmqsn,qs->rmsn", v, gram, v, optimize=True)
                for v in by_entry
            ]
        ).reshape(n_outputs, size, size)
    with_features = with_features.reshape(*axes, -1)
    crossed = np.einsum("opr,prmf->ormf", by_entry, with_features, optimize=True)
    with_residual = with_residual.reshape(*axes, n_outputs)
    gradient = np.einsum("opr,prmo->rm", by_entry, with_residual).ravel()
    mean = pilot + (total / weight).reshape(axes)
    mean = np.einsum("opr,prm->orm", by_entry, mean).reshape(n_outputs, size)
    crossed = crossed.reshape(n_outputs, size, -1)
    return A, of_outputs, crossed, gradient, mean, squares, output_square


def polish_together(trunk, rows, objective, **options):
    """Minimise the objective over the weights of the trunk; V is always the best one.

    As ``descend``, of which the ``options`` are.

    Raises
    ------
    ValueError
        Where the sums would not fit in memory.
    """
    check_shared_size(trunk, rows.pilot()[1].shape[1])
    engine = Engine(
        readout=functools.partial(_readout, rows, objective),
        equations=functools.partial(shared_equations, rows=rows, objective=objective),
        moved=_moved,
    )
    return descend(engine, trunk, rows.precision, **options)


def _readout(rows, objective, trunk, values=None, intercept=None):
    if values is not None and not objective.fit_intercept:
        intercept = np.zeros(len(values))
    return best_readout(trunk, rows, objective, values, intercept)


def _moved(equations, step):
    """The trunk after a step, of unit norms, and the readout that goes with it."""
    found = equations.readout
    trunk, factor = stepped(found.trunk, step)
    change = found.solve((step @ equations.crossed).T).T
    values = found.values - change
    mean = equations.mean_jacobian @ step
    intercept = found.intercept + change @ found.mean - mean
    values = values * np.repeat(factor, values.shape[1] // len(factor))
    return trunk, values, intercept


def check_shared_size(trunk, n_outputs):
    """Refuse sums that would not fit in memory."""
    n_filters, n_entries = trunk.kernels[-1].shape
    n_weights = trunk_weights(trunk)
    unknowns = n_filters * (n_weights + n_entries)
    if is_joint(n_outputs, n_entries, n_weights):
        unknowns = n_filters * n_entries * (n_weights + 1) + n_outputs
    products = n_outputs * n_filters**2 * n_weights * n_entries
    what = f"{n_filters} filters of kernels {trunk.sizes} that outputs share"
    check_size(max(unknowns, int(np.sqrt(products))), what)
