"""One linear layer: ridge regression, in closed form.

==========  ==================  ==================================================
symbol      array               axes
==========  ==================  ==================================================
X           ``X``               (rows, features), in patch order, centred where
                                there is an intercept
w           ``weight``          (rows,)
G = X'WX    ``gram``            (features, features)
K           ``kernel``          (rows, rows): Z Z' with Z = W^1/2 X
beta        ``beta``            (features,): (G + alpha I)^-1 X'Wy, which is also
                                Z' (K + alpha I)^-1 W^1/2 y
==========  ==================  ==================================================

R filters of one linear layer share beta evenly, so that their penalties add up to
alpha / R |beta|^2. Where alpha is zero and beta is not unique it is the shortest one.
"""

import numpy as np
from scipy import linalg
from scipy.linalg import lapack

from skdeeptd._model.network import patch_order
from skdeeptd._solver.linalg import SINGULAR, diagonal_scale
from skdeeptd._solver.normal_equations import FAR, check_size
from skdeeptd._solver.polish import Solution

COLUMN_BYTES = 2**24  # of the features that are centred at a time


@np.errstate(over="ignore", invalid="ignore")
def linear_network(rows, n_rows, blank, objective):
    """The best network of one linear layer, as a ``Solution`` without equations.

    By the features where these are fewer than the rows, else by the rows.
    """
    n_filters, n_features = blank.kernels[0].shape
    alpha = objective.alpha / n_filters
    check_size(min(n_features, n_rows), f"{n_rows} rows of {n_features} features")
    if n_features <= n_rows:
        beta, intercept, loss = _by_features(rows, blank, alpha, objective)
    else:

        def by_rows(rows):
            return _by_rows(rows, blank, alpha, objective)

        beta, intercept, loss = rows.run_together(by_rows)
    if not np.all(np.isfinite(beta)):
        raise FloatingPointError("the squares of X overflow")
    size = np.linalg.norm(beta)
    unit = beta / size if size > 0 else beta
    network = blank._replace(
        kernels=(np.tile(unit, (n_filters, 1)),),
        scales=np.full(n_filters, size / n_filters),
        intercept=intercept,
    )
    return Solution(network, loss, 1, True)


def _by_features(rows, blank, alpha, objective):
    """Normal equations, and one step of refinement on their residual."""
    X_pilot, y_pilot = rows.pilot()
    centred = float(objective.fit_intercept)
    shift, y_shift = patch_order(blank, X_pilot)[0] * centred, y_pilot[0] * centred
    sums = _sums_about(shift, y_shift, rows, blank)
    gram, _, mean, y_mean, total = sums
    if centred and np.any(total * mean**2 > FAR * gram.diagonal()):
        shift = (shift + mean).astype(rows.precision).astype(float)
        y_shift = y_shift + y_mean
        sums = _sums_about(shift, y_shift, rows, blank)
    gram, with_y, mean, y_mean, total = sums
    mean, y_mean = mean * centred, y_mean * centred
    gram -= total * np.outer(mean, mean)
    solve = _solver(gram, alpha)
    beta = solve(with_y - total * y_mean * mean)

    def residuals(X, y, weight):
        X = patch_order(blank, X) - shift.astype(X.dtype)
        residual = (y - y_shift - y_mean) - (X @ beta - mean @ beta)
        weighted = weight * residual
        return weighted @ X, np.sum(weighted), weighted @ residual

    gradient, left, loss = rows.reduce(residuals, 2 * len(shift))
    gradient -= left * mean + alpha * beta
    beta = beta + solve(gradient)
    loss = loss - left**2 / total * centred + alpha * beta @ beta
    return beta, y_shift + y_mean - (shift + mean) @ beta, max(loss, 0.0)


def _sums_about(shift, y_shift, rows, blank):
    """X'WX, X'Wy, the means of X and of y, from the shifts on, and the sum of w."""

    def statistic(X, y, weight):
        X = patch_order(blank, X) - shift.astype(X.dtype)
        y = y - y_shift
        Z = X * np.sqrt(weight).astype(X.dtype)[:, np.newaxis]
        return Z.T @ Z, (weight * y) @ X, weight @ X, weight @ y, np.sum(weight)

    gram, with_y, x_sum, y_sum, total = rows.reduce(statistic, 2 * len(shift))
    return gram, with_y, x_sum / total, y_sum / total, total


def _by_rows(rows, blank, alpha, objective):
    X, y, weight = rows.X, rows.y, rows.weight
    root, share = np.sqrt(weight), weight / np.sum(weight)
    centred = float(objective.fit_intercept)
    y_mean = share @ y * centred
    n_features = blank.kernels[0].shape[1]
    order = np.arange(n_features) if blank.order(0) is None else blank.order(0)
    step = max(1, COLUMN_BYTES // (8 * len(X)))

    def columns():
        """Features of patch order, a few at a time, centred and weighted."""
        for begin in range(0, n_features, step):
            part = order[begin : begin + step]
            Z = X[:, part].astype(float)
            Z[:, part < 0] = 0
            mean = share @ Z * centred
            yield slice(begin, begin + step), mean, (Z - mean) * root[:, np.newaxis]

    kernel = sum(Z @ Z.T for _, _, Z in columns())
    target = root * (y - y_mean)
    dual = _solver(kernel, alpha)(target)
    beta, intercept = np.zeros(n_features), y_mean
    for part, mean, Z in columns():
        beta[part] = dual @ Z
        intercept -= mean @ beta[part]
    residual = target - kernel @ dual
    return beta, intercept, residual @ residual + alpha * (dual @ (kernel @ dual))


def _solver(gram, alpha):
    """Applies the inverse of gram + alpha I, or the pseudo-inverse where singular."""
    scale = diagonal_scale(gram)
    scaled = gram / scale[:, np.newaxis] / scale
    diagonal = np.einsum("ii->i", scaled)
    diagonal += alpha / scale**2
    if not np.all(np.isfinite(scaled)):
        return lambda target: np.full(len(target), np.nan)
    factor, failed = lapack.dpotrf(scaled, lower=True)
    if not failed and factor.diagonal().min() ** 2 > SINGULAR:
        return lambda target: (
            lapack.dpotrs(factor, target / scale, lower=True)[0] / scale
        )
    inverse = _inverse_but_for_null_space(scaled, scale)
    return lambda target: inverse @ target


def _inverse_but_for_null_space(scaled, scale):
    """The pseudo-inverse of a matrix that is ``scaled`` to tell its rank."""
    values, vectors = linalg.eigh(scaled, check_finite=False)
    kept = values > SINGULAR * values[-1]
    vectors = vectors / scale[:, np.newaxis]
    inverse = (vectors[:, kept] / values[kept]) @ vectors[:, kept].T
    if kept.all():
        return inverse
    null = linalg.qr(vectors[:, ~kept], mode="economic", check_finite=False)[0]
    inverse -= null @ (null.T @ inverse)
    return inverse - (inverse @ null) @ null.T
