"""Levenberg-Marquardt on a trunk, whose readout is always the best one for it.

==========  ==================  ==================================================
symbol      name                meaning
==========  ==================  ==================================================
A           ``joint``           of the trunk's weights, for a given readout
H           ``hessian``         A less what the readout takes (Schur complement)
g           ``gradient``        of the same weights
lambda      ``damping``         relative to the diagonal of A
==========  ==================  ==================================================

What the readout is, and what the equations, depends on the loss.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from skdeeptd._model.trunk import unit_trunk
from skdeeptd._solver.directions import LARGEST_DAMPING, LEAST_SHARE
from skdeeptd._solver.linalg import damped_step
from skdeeptd._solver.polish import (
    FIRST_DAMPING,
    SINGULAR_ROUNDING,
    SMALLEST_DAMPING,
    Solution,
    may_promise_more,
    next_damping,
)


class Engine(NamedTuple):
    """What a loss gives: each function takes a pass or two over the rows.

    ``readout(trunk, *near)`` is the best one, with a ``loss``; ``equations(readout)``
    have ``joint``, ``hessian``, ``gradient``, ``loss``, ``rounding`` and the readout;
    ``moved(equations, step)`` gives a trunk of unit norms and what is near its readout.
    """

    readout: Callable
    equations: Callable
    moved: Callable


def descend(
    engine,
    trunk,
    precision,
    *,
    max_iter,
    tol,
    zero_loss=0.0,
    damping=FIRST_DAMPING,
):
    """Minimise the objective over the weights of the trunk.

    Each step counts as one pass, though one that is taken looks at the rows twice.

    Parameters
    ----------
    engine : Engine
    trunk : PatchCNN
    precision : dtype
        Of the sums over the rows.
    max_iter, tol, zero_loss, damping
        As in ``polish``.

    Returns
    -------
    Solution
        Whose network is the trunk, and whose equations are those of the engine.

    Raises
    ------
    FloatingPointError
        Where the sums overflow at the start.
    """
    smallest = max(SMALLEST_DAMPING, SINGULAR_ROUNDING * np.finfo(precision).eps)
    trunk, _ = unit_trunk(trunk)
    readout = engine.readout(trunk)
    if not np.isfinite(readout.loss):
        raise FloatingPointError("the squares of what the last layer takes overflow")
    current, growth, n_iter, decrease = engine.equations(readout), 2.0, 1, np.inf
    if not (np.isfinite(current.loss) and np.all(np.isfinite(current.gradient))):
        raise FloatingPointError("the squares of the network's derivatives overflow")
    while True:
        step, predicted = _step(current, damping)
        is_exact = current.loss <= max(zero_loss, current.rounding)
        little = tol * current.loss
        at_end = min(predicted, decrease) <= little
        if at_end and may_promise_more(decrease > little, growth, damping, smallest):
            at_end = _step(current, smallest)[1] <= little
        converged = is_exact or at_end or damping > LARGEST_DAMPING
        if converged or n_iter >= max_iter:
            found = current.readout.trunk
            return Solution(found, current.loss, n_iter, bool(converged), current)
        trial = engine.readout(*engine.moved(current, step))
        n_iter += 1
        if trial.loss < current.loss:
            decrease = current.loss - trial.loss
            gain = min(decrease / predicted, 1.0) if predicted > 0 else 1.0
            damping, growth = max(next_damping(damping, gain), smallest), 2.0
            current = engine.equations(trial)
        else:
            damping, growth = damping * growth, growth * 2


def _step(equations, damping):
    """A step with H, damped by the diagonal of A; also the decrease that H predicts."""
    diagonal = equations.joint.diagonal()
    scale = np.sqrt(np.maximum(diagonal, LEAST_SHARE * diagonal.max(initial=0)))
    scale = np.where(scale > 0, scale, 1.0)
    step, predicted = damped_step(equations.hessian, equations.gradient, damping, scale)
    return step, max(predicted, 0.0)
