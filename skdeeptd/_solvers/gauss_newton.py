"""Gauss-Newton for the hidden weights, with the heads eliminated.

==========  ======================  =============================================
symbol      array                   axes
==========  ======================  =============================================
theta, V    weights                 hidden weights (R M,), heads (Q, T)
A, S, G,    sums                    as in ``normal_equations``
g, h
D           ``scale``               root of the diagonal of A, with a floor
lambda      ``damping``             of a step, relative to D^2
==========  ======================  =============================================

Each pass over the rows gives the sums for a step

    dtheta = (A - S'G^-1 S + lambda D^2)^-1 (g - S'G^-1 h),   dV = G^-1 (h - S dtheta)

(variable projection, Golub and Pereyra 1973). A step is kept if it lowers the
objective; the damping follows Nielsen 1999, "Damping parameter in Marquardt's method".
"""

from typing import NamedTuple

import numpy as np

from skdeeptd._network.network import Network
from skdeeptd._network.parameters import layer_of_weight, normalize, pack, unpack
from skdeeptd._solvers.heads import (
    factor_blocks,
    is_coupled_and_large,
    newton_cg_heads,
    solve_blocks,
)
from skdeeptd._solvers.linalg import damped_step
from skdeeptd._solvers.normal_equations import (
    Equations,
    check_memory,
    gram_of_entries_pays,
    normal_equations,
)


class Solution(NamedTuple):
    """A network with its loss.

    ``n_iter`` counts passes over the rows; ``converged`` says that they were enough.
    ``share`` is the loss over the loss of the best constant on the same rows, and
    ``damping`` the damping of a next step.
    """

    network: Network
    loss: float
    n_iter: int = 0
    converged: bool = False
    equations: Equations | None = None
    share: float = 1.0
    damping: float = 1e-2


def gauss_newton(
    network,
    rows,
    loss,
    *,
    alpha=0.0,
    fit_intercept=True,
    move="all",
    max_iter,
    tol,
    zero_loss=0.0,
    damping=1e-2,
    equations=None,
    trust_last_step=False,
    largest_damping=1e8,
):
    """Minimise the objective from ``network`` on.

    The iterations have converged if a step lowers the objective, or its quadratic
    model, by less than ``tol`` of itself, or if the loss is at most ``zero_loss``. They
    have also converged if no step, however small, lowers the objective: a relu has
    minima at which the gradient is not zero.

    Parameters
    ----------
    network : Network
    rows : RowBlocks
        With a target (rows, Q).
    loss : object of ``_loss``
    alpha : float
    fit_intercept : bool
    move : {"all", "norms", "heads"}
        Whether all hidden weights move, only the norms of the kernels and the biases,
        or none. The heads move in any case.
    max_iter : int
        Largest number of passes over the rows.
    tol, zero_loss : float
    damping : float
        Damping of the first step.
    equations : Equations or None
        Those at ``network``, from an earlier call on the same rows.
    trust_last_step : bool
        Whether to take a last step without a pass that measures it, if the steps
        before show that the next one would promise less than ``tol``.

    Returns
    -------
    Solution

    Raises
    ------
    FloatingPointError
        If the sums overflow at the start.
    ValueError
        If they would not fit in memory.
    """
    n_free = network.n_filters * network.n_hidden_weights * (move != "heads")
    n_head = network.flat_heads.shape[1] + fit_intercept
    sizes = f"{network.n_filters} filters with kernels of {network.sizes}"
    check_memory(n_free + n_head, sizes)
    smallest = max(1e-10, 1e3 * np.finfo(rows.precision).eps)  # less amplifies rounding

    def evaluate(network, centre=None, with_hidden=move != "heads"):
        if centre is not None and not with_hidden:
            centre = centre[0], centre[1][:, :0]
        how = alpha, fit_intercept, with_hidden, centre
        return normal_equations(network, rows, loss, *how)

    def evaluate_again(current):
        again = evaluate(current.network, current.centre)
        return again if np.isfinite(again.loss) else current._replace(stale=0.0)

    has_best_heads = loss.is_quadratic and (
        len(network.heads) == 1 or gram_of_entries_pays(network)
    )
    refits_heads = move != "heads" and not has_best_heads
    current, n_iter = equations, 0
    if current is None:
        current, n_iter = evaluate(network), 1
    if not np.isfinite(current.loss):
        raise FloatingPointError("the squares of the network's derivatives overflow")
    growth, decrease, promised_before = 2.0, np.inf, np.inf
    while True:
        head_damping = damping * (growth > 2 and not loss.is_quadratic)
        step, change, predicted = _step(current, damping, move, head_damping)
        is_exact = current.loss <= max(zero_loss, current.rounding)
        little = tol * current.loss
        at_end = min(predicted, decrease) <= little
        may_decrease_damping = decrease > little and growth == 2 and damping > smallest
        if at_end and may_decrease_damping:
            at_end = _step(current, smallest, move)[2] <= little
        converged = bool(is_exact or at_end or damping > largest_damping)
        is_stale = current.stale > max(tol, 1e-12) * current.loss
        if converged and is_stale and not is_exact and n_iter < max_iter:
            current = evaluate_again(current)
            n_iter, decrease = n_iter + 1, np.inf
            continue
        if converged or n_iter >= max_iter:
            found = Solution(current.network, current.loss, n_iter, converged, current)
            return found._replace(damping=min(damping, 1e-2))
        moved = _moved(current, step, change)
        if trust_last_step and growth == 2 and n_iter > 1:
            forecast = predicted * min(predicted / promised_before, 1.0)
            if forecast <= little:
                left = max(current.loss - predicted, 0.0)
                return Solution(normalize(moved), left, n_iter, True, current)
        promised_before = predicted
        n_iter += 1
        trial = None
        if is_coupled_and_large(loss, current.head_gradient.size):
            moved = newton_cg_heads(moved, rows, loss, alpha, fit_intercept, current)
        elif refits_heads:  # in a cheap pass, so that J holds for the best heads
            trial = evaluate(moved, current.centre, with_hidden=False)
            moved = trial.network
            if not loss.is_quadratic and np.isfinite(trial.loss):
                step, change, _ = _step(trial, 0.0, "heads")
                moved, trial = _moved(trial, step, change), None
        if trial is None or trial.loss < current.loss:
            trial = evaluate(moved, current.centre)
        if trial.loss < current.loss:
            decrease = current.loss - trial.loss
            gain = min(decrease / predicted, 1.0) if predicted > 0 else 1.0
            damping *= max(0.1, 1 - (2 * gain - 1) ** 3)  # Nielsen, equation 2.6
            damping, growth, current = max(damping, smallest), 2.0, trial
        elif is_stale and n_iter < max_iter:
            current = evaluate_again(current)
            n_iter += 1
        else:
            damping, growth = damping * growth, growth * 2


@np.errstate(over="ignore", invalid="ignore")
def _step(equations, damping, move, head_damping=0.0, least_share=1e-6):
    """Return dtheta, dV and the decrease of the objective that the sums predict.

    The diagonal D^2 is at least ``least_share`` of the largest entry of its layer, so
    that weights of filters near zero do not move far.
    """
    network, h = equations.network, equations.head_gradient
    factor = equations.factor
    if head_damping:
        factor = factor_blocks(equations.grams, head_damping)
    change = np.zeros_like(h)
    if np.any(h):
        change = solve_blocks(factor, h[:, :, np.newaxis])[:, :, 0]
    predicted_of_heads = np.sum(h * change)
    A, S, g = equations.hessian, equations.cross, equations.gradient
    if move == "norms":
        B = norm_directions(network)
        A, S, g = B.T @ A @ B, S @ B, g @ B
    step = np.zeros(len(g))
    predicted = 0.0
    if len(g):
        half = solve_blocks(factor, S, is_half=True).reshape(-1, len(g))
        reduced = g - change.ravel() @ S.reshape(-1, len(g))
        diagonal = A.diagonal()
        if move == "all":
            owner = np.tile(layer_of_weight(network), network.n_filters)
            largest = np.zeros(owner.max() + 1)
            np.maximum.at(largest, owner, diagonal)
            diagonal = np.maximum(diagonal, least_share * largest[owner])
        scale = np.sqrt(np.maximum(diagonal, 0.0))
        scale = np.where(scale > 0, scale, 1.0)
        step, predicted = damped_step(A - half.T @ half, reduced, damping, scale)
        change = change - solve_blocks(factor, (S @ step)[:, :, np.newaxis])[:, :, 0]
    if move == "norms":
        step = B @ step
    total = max(predicted, 0.0) + max(predicted_of_heads, 0.0)
    return step, change, total if np.isfinite(total) else 0.0


def norm_directions(network):
    """Return the directions (R M, columns) that scale a kernel or shift a bias."""
    owner, theta = layer_of_weight(network), pack(network)
    n_owners = owner[-1] + 1
    columns = n_owners * np.arange(network.n_filters)[:, np.newaxis] + owner
    values = np.where(owner < len(network.kernels), theta, 1.0)
    directions = np.zeros((theta.size, n_owners * network.n_filters))
    directions[np.arange(theta.size), columns.ravel()] = values.ravel()
    return directions


def _moved(equations, step, change):
    """Return the network after steps of theta and V."""
    network, (features, jacobian) = equations.network, equations.shift
    flat, intercept = network.flat_heads, network.intercept
    n_entries = flat.shape[1]
    if change.shape[1] > n_entries:
        at_mean = change[:, n_entries] - change[:, :n_entries] @ features
        intercept = intercept + at_mean - (jacobian @ step if len(step) else 0.0)
    if len(step):
        theta = pack(network)
        network = unpack(theta + step.reshape(theta.shape), network)
    network = network.with_flat_heads(flat + change[:, :n_entries])
    return network._replace(intercept=intercept)
