"""Levenberg-Marquardt on a vector, a part of which is always the best for the rest.

==========  ======================  ==========================================
symbol      array                   axes
==========  ======================  ==========================================
theta       ``theta``               (parameters,), the last one the intercept
A, g        ``hessian``,            of all of theta but the intercept, which is
            ``gradient``            the best one for the others
lambda      ``damping``             relative to the diagonal of B'AB, B being the
                                    ``directions`` that these may take
a           the readout             the part of theta that the output is linear in
==========  ======================  ==========================================

After each pass a is put where A and g say that the objective is least for the other
parameters, and a step of these takes along the change of a that goes with it (variable
projection, Golub and Pereyra 1973): one pass a step, since the same sums give both.
"""

from typing import NamedTuple

import numpy as np

from skdeeptd._model.network import PatchCNN
from skdeeptd._model.parameters import n_parameters, pack, unpack
from skdeeptd._solver.directions import LARGEST_DAMPING, everything, moved_by
from skdeeptd._solver.linalg import damped_step
from skdeeptd._solver.normal_equations import (
    NormalEquations,
    check_size,
    normal_equations,
)

FIRST_DAMPING, CLOSE_DAMPING = 1e-2, 1e-4  # far from a minimum, and close to one
SMALLEST_DAMPING = 1e-10
STALE = 1e-12  # share of a loss by which A and g may be those of another readout
SINGULAR_ROUNDING = 1e3  # units in the last place: less damping would amplify rounding


class Solution(NamedTuple):
    """``n_iter`` counts passes over the rows; ``converged``: they were enough.

    ``equations`` are those at the network, None where nothing was polished; ``share``
    is the loss over that of the best constant on the same rows; ``squares`` stands for
    the sum of squared residuals where the loss is none; ``damping`` is for a next step.
    """

    network: PatchCNN
    loss: float
    n_iter: int
    converged: bool
    equations: NormalEquations | None = None
    share: float = 1.0
    squares: float | None = None
    damping: float = FIRST_DAMPING


def next_damping(damping, gain):
    """After a step that lowered the objective by ``gain`` of what was predicted.

    Nielsen 1999, "Damping parameter in Marquardt's method", equation 2.6 with factors
    from 0.1 to 2.
    """
    return damping * max(0.1, 1 - (2 * gain - 1) ** 3)


def may_promise_more(has_fallen, growth, damping, smallest):
    """Whether to ask less damping; after a rejected step nobody believes it."""
    return has_fallen and growth == 2.0 and damping > smallest


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
    equations=None,
    trust_last_step=False,
):
    """Minimise the objective from ``network`` on.

    It has converged where a step lowered the objective by less than ``tol`` of itself,
    or the linear model of the residuals promises no more than that, where it is at most
    ``zero_loss``, or where no step, however small, lowers it: the kinks of a relu have
    minima at which the gradient is not zero.

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
    equations : NormalEquations or None
        Those at ``network``, where a polish on the same rows ended with them.
    trust_last_step : bool
        Whether to take a step without a pass that looks where it led, where the steps
        before say that the next one would promise less than ``tol``.

    Returns
    -------
    Solution

    Raises
    ------
    FloatingPointError
        Where the normal equations overflow at the start.
    ValueError
        Where they would not fit in memory.
    """
    filters = f"{len(network.scales)} filters with kernels of {network.sizes}"
    check_size(n_parameters(network), filters)
    rounding = SINGULAR_ROUNDING * np.finfo(rows.precision).eps
    smallest = max(SMALLEST_DAMPING, rounding)

    def equations_at(theta, centre=None):
        equations = normal_equations(theta, network, rows, objective, centre)
        basis = directions(equations.theta, network)
        return basis.with_best_readout(equations, smallest)

    current, n_iter = equations, 0
    if current is None:
        current, n_iter = equations_at(pack(network)), 1
    if not np.isfinite(current.loss):
        raise FloatingPointError("the squares of the network's derivatives overflow")
    growth, decrease, promised_before = 2.0, np.inf, np.inf
    while True:
        basis = directions(current.theta, network)
        hessian, gradient = basis.restrict(current.hessian, current.gradient)
        damped = basis.damping(hessian.diagonal(), damping, smallest)
        step, predicted = damped_step(hessian, gradient, damped)
        is_exact = current.loss <= max(zero_loss, current.rounding)
        little = tol * current.loss
        at_end = min(predicted, decrease) <= little
        if at_end and may_promise_more(decrease > little, growth, damping, smallest):
            at_end = damped_step(hessian, gradient, smallest)[1] <= little
        converged = is_exact or at_end or damping > LARGEST_DAMPING
        stale = current.stale > max(tol, STALE) * current.loss
        if converged and stale and not is_exact and n_iter < max_iter:
            # A and g are those of a readout that was far from the best one.
            current = equations_at(current.theta, current.mean_jacobian)
            n_iter, decrease = n_iter + 1, np.inf
            continue
        if converged or n_iter >= max_iter:
            found = unpack(current.theta, network)
            solution = Solution(found, current.loss, n_iter, converged, current)
            return solution._replace(damping=min(damping, FIRST_DAMPING))
        change = basis.expand(step)
        if trust_last_step and growth == 2.0 and n_iter > 1:
            forecast = predicted * min(predicted / promised_before, 1.0)
            if forecast <= tol * current.loss:
                return _after_last_step(current, change, predicted, n_iter, network)
        promised_before = predicted
        moved = np.append(change, 0.0) + current.theta
        centre = current.mean_jacobian
        trial = equations_at(moved, centre)
        n_iter += 1
        if trial.loss < current.loss:
            decrease = current.loss - trial.loss
            gain = min(decrease / predicted, 1.0) if predicted > 0 else 1.0
            damping = max(next_damping(damping, gain), smallest)
            growth = 2.0
            current = trial
        elif stale and n_iter < max_iter:
            current = equations_at(current.theta, centre)
            n_iter += 1
        else:
            damping, growth = damping * growth, growth * 2


def _after_last_step(equations, change, predicted, n_iter, like):
    """The ``Solution`` after a step that the equations describe well."""
    network = unpack(moved_by(equations, change).theta, like)
    loss = max(equations.loss - predicted, 0.0)
    return Solution(network, loss, n_iter, True, equations)
