"""Ridge regression on the features: the network without hidden layer, in closed form.

==========  ==================  ==================================================
symbol      array               axes
==========  ==================  ==================================================
X           ``X``               (rows, features), in patch order, centred with an
                                intercept
w           ``weight``          (rows,)
G = X'WX    ``gram``            (features, features)
K           ``kernel``          (rows, rows): Z Z' with Z = W^1/2 X
beta        ``beta``            (features, outputs): (G + alpha I)^-1 X'Wy, which is
                                also Z' (K + alpha I)^-1 W^1/2 y
==========  ==================  ==================================================

If alpha is zero and beta is not unique, it is the shortest one.
"""

import numpy as np
from scipy import linalg
from scipy.linalg import lapack

from skdeeptd._data.moments import centred_sums
from skdeeptd._network.network import in_patch_order
from skdeeptd._solvers.gauss_newton import Solution
from skdeeptd._solvers.linalg import unit_diagonal
from skdeeptd._solvers.normal_equations import check_memory


@np.errstate(over="ignore", invalid="ignore")
def linear_network(rows, n_rows, blank, alpha, fit_intercept):
    """Return the best network without hidden layer, as a ``Solution``.

    The normal equations are those of the features if these are fewer than the rows,
    else those of the rows.
    """
    n_features = blank.sizes[-1]
    check_memory(min(n_features, n_rows), f"{n_rows} rows of {n_features} features")
    how = blank.orders[0], alpha, fit_intercept
    if n_features <= n_rows:
        beta, intercept, loss = _by_features(rows, *how)
    else:
        beta, intercept, loss = rows.run_together(lambda rows: _by_rows(rows, *how))
    if not np.all(np.isfinite(beta)):
        raise FloatingPointError("the squares of X overflow")
    network = blank._replace(heads=beta.T[:, np.newaxis], intercept=intercept)
    return Solution(network, loss, 1, True)


def _by_features(rows, order, alpha, fit_intercept):
    """Solve the normal equations, with one step of refinement on their residual."""

    def columns(X):
        return in_patch_order(X, order, "X")

    sums = centred_sums(rows, columns, fit_intercept)
    solve, mean = ridge_solver(sums.gram, alpha), sums.mean.astype(rows.precision)
    beta = solve(sums.cross)

    def residuals(X, y, weight):
        X = columns(X) - mean
        residual = (y - sums.y_mean) - X @ beta
        weighted = weight[:, np.newaxis] * residual
        return X.T @ weighted, weight @ residual, np.sum(weighted * residual)

    gradient, left, loss = rows.reduce(residuals, 2 * len(mean))
    off = sums.mean - mean  # rounding of the mean to the precision of the rows
    beta = beta + solve(gradient - np.outer(off, left) - alpha * beta)
    loss = loss - left @ left / sums.total * fit_intercept + alpha * np.sum(beta**2)
    return beta, sums.y_mean - sums.mean @ beta, max(loss, 0.0)


def _by_rows(rows, order, alpha, fit_intercept, column_bytes=2**24):
    X, y, weight = rows.X, rows.y, rows.weight
    root, share = np.sqrt(weight)[:, np.newaxis], weight / np.sum(weight)
    y_mean = share @ y * float(fit_intercept)
    order = np.arange(X.shape[1]) if order is None else order
    step = max(1, column_bytes // (8 * len(X)))

    def columns():
        """Yield features in patch order, a few at a time, centred and weighted."""
        for begin in range(0, len(order), step):
            part = order[begin : begin + step]
            Z = X[:, part].astype(float)
            Z[:, part < 0] = 0
            mean = share @ Z * float(fit_intercept)
            yield slice(begin, begin + step), mean, (Z - mean) * root

    kernel = sum(Z @ Z.T for _, _, Z in columns())
    target = root * (y - y_mean)
    dual = ridge_solver(kernel, alpha)(target)
    beta, intercept = np.zeros((len(order), y.shape[1])), y_mean
    for part, mean, Z in columns():
        beta[part] = Z.T @ dual
        intercept = intercept - mean @ beta[part]
    fitted = kernel @ dual
    residual = target - fitted
    return beta, intercept, np.sum(residual**2) + alpha * np.sum(dual * fitted)


def ridge_solver(gram, alpha, singular=1e-10):
    """Return the inverse of gram + alpha I as a function, or the pseudo-inverse."""
    scaled, scale = unit_diagonal(gram)
    diagonal = np.einsum("ii->i", scaled)
    diagonal += alpha / scale**2
    if not np.all(np.isfinite(scaled)):
        return lambda target: np.full_like(target, np.nan)
    factor, failed = lapack.dpotrf(scaled, lower=True)
    column = scale[:, np.newaxis]
    if not failed and factor.diagonal().min() ** 2 > singular:
        return lambda target: (
            lapack.dpotrs(factor, target / column, lower=True)[0] / column
        )
    values, vectors = linalg.eigh(scaled, check_finite=False)
    kept = values > singular * values[-1]
    vectors = vectors / column
    inverse = (vectors[:, kept] / values[kept]) @ vectors[:, kept].T
    if not kept.all():  # the shortest solution has no part in the null space
        null = linalg.qr(vectors[:, ~kept], mode="economic", check_finite=False)[0]
        inverse -= null @ (null.T @ inverse)
        inverse -= (inverse @ null) @ null.T
    return lambda target: inverse @ target
