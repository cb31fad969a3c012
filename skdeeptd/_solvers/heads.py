"""The linear systems of the heads, and Newton steps for many coupled ones.

==========  ==================  ==================================================
symbol      name                axes
==========  ==================  ==================================================
Q, T        sizes               heads; entries of a head, the intercept included
F, V, C     as in ``normal_equations``
G           ``grams``           (1, T, T) if all heads share it, (Q, T, T), or
                                (1, Q T, Q T)
L           ``factor``          L L' = G, blocks of unit diagonal and their scales
==========  ==================  ==================================================
"""

import numpy as np
from scipy.linalg import lapack
from scipy.sparse.linalg import LinearOperator, cg

from skdeeptd._network.network import head_features, hidden_forward, numbers_per_row
from skdeeptd._network.parameters import squared_norms
from skdeeptd._solvers.linalg import unit_diagonal


def factor_blocks(grams, damping):
    """Return roots of the diagonals, and Cholesky factors of the scaled blocks.

    None if a block is not finite, or not positive definite. Features that hardly vary
    leave rounding errors, which more damping hides.
    """
    scaled, scale = unit_diagonal(grams)
    if not np.isfinite(np.sum(scaled)):
        return None
    damping = max(1e-7, damping)  # less amplifies rounding
    for more in (damping, 1e2 * damping, 1e4 * damping):
        eye = more * np.eye(scaled.shape[1])
        found = [lapack.dpotrf(block + eye, lower=True) for block in scaled]
        if not any(failed for _, failed in found):
            return scale, [factor for factor, _ in found]
    return None


def solve_blocks(factor, target, is_half=False):
    """Return G^-1 times a target (Q, T, k), or L^-1 times the target, with L L' = G."""
    scale, factors = factor
    n_heads, T, k = target.shape
    is_shared = scale.size < n_heads * T
    blocks = target.transpose(1, 0, 2) if is_shared else target
    blocks = blocks.reshape(*scale.shape, -1) / scale[:, :, np.newaxis]
    solve = lapack.dtrtrs if is_half else lapack.dpotrs
    solved = [solve(f, b, lower=True)[0] for f, b in zip(factors, blocks, strict=True)]
    solved = np.array(solved) if is_half else solved / scale[:, :, np.newaxis]
    if is_shared:
        return solved.reshape(T, n_heads, k).transpose(1, 0, 2)
    return solved.reshape(n_heads, T, k)


def is_coupled_and_large(loss, n_entries, most_entries=1000):
    """Return whether G of coupled heads is too large to be formed whole."""
    return loss.couples_outputs and n_entries > most_entries


def newton_cg_heads(
    network,
    rows,
    loss,
    alpha,
    fit_intercept,
    equations,
    most_steps=50,
    tol=1e-2,
    n_halvings=10,
):
    """Return the network after a Newton step of its heads, by conjugate gradients.

    Each conjugate gradient step is a pass without Gram matrix; the factor of the
    ``equations`` near by is the preconditioner. The step is halved until it lowers the
    objective.
    """
    V = network.flat_heads
    n_heads, n_entries = V.shape
    in_dtype, norms = network.astype(rows.precision), squared_norms(network)
    ridge = np.zeros(n_entries + fit_intercept)
    ridge[: network.heads[0].size] = alpha * np.repeat(norms, network.heads.shape[2])
    shape, shift = (n_heads, len(ridge)), equations.shift[0]
    from_row = shift.astype(rows.precision)

    def reduce(statistic):
        def on_block(X, y, weight):
            features = head_features(in_dtype, hidden_forward(in_dtype, X), X)
            ones = np.ones((len(X), int(fit_intercept)), X.dtype)
            features = np.concatenate([features - from_row, ones], axis=1)
            return statistic(features, y, weight)

        width = numbers_per_row(network) + 3 * len(ridge)
        with np.errstate(over="ignore", invalid="ignore"):
            return rows.reduce(on_block, width=width)

    def value_and_slope(V):
        def statistic(features, y, weight):
            value, residual, _ = loss.evaluate(y, features @ V.T)
            return weight @ value, (weight[:, np.newaxis] * residual).T @ features

        value, slope = reduce(statistic)
        return value + np.sum(ridge * V**2), slope - ridge * V

    V = np.column_stack([V, network.intercept + V @ shift])[:, : len(ridge)]
    value, slope = value_and_slope(V)

    def product(direction):
        direction = direction.reshape(shape)

        def statistic(features, y, weight):
            curvature = loss.evaluate(y, features @ V.T)[2]
            moved = loss.times(curvature, features @ direction.T)
            return ((weight[:, np.newaxis] * moved).T @ features,)

        return (reduce(statistic)[0] + ridge * direction).ravel()

    def precondition(target):
        return solve_blocks(equations.factor, target.reshape(*shape, 1)).ravel()

    operator, guide = (
        LinearOperator((V.size, V.size), function, dtype=float)
        for function in (product, precondition)
    )
    step, _ = cg(operator, slope.ravel(), rtol=tol, maxiter=most_steps, M=guide)
    for halving in range(n_halvings):
        moved = V + step.reshape(shape) / 2**halving
        if value_and_slope(moved)[0] < value:
            heads, intercept = moved[:, :n_entries], network.intercept
            if fit_intercept:
                intercept = moved[:, n_entries] - heads @ shift
            return network.with_flat_heads(heads)._replace(intercept=intercept)
    return network
