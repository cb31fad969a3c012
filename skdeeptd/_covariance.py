"""Covariance of the weights and of the predictions of a fitted network.

==========  ======================  ==========================================
symbol      array                   axes
==========  ======================  ==========================================
theta, V    weights                 (R M,), (T,): hidden weights, shared by the
                                    outputs; the head of an output, its intercept
                                    last
A, S, G     as in ``gauss_newton``  those of one output
H_o         ``schurs[o]``           (R M, R M): A - S'G^-1 S of output o
C           ``inverse``             (R M, R M): (sum_o H_o)^-1, with the norms held
                                    that can move to the layer above
sigma_o^2   ``noise``               (): rss / (n - m), of y around the network
==========  ======================  ==========================================

The hidden weights have the covariance C (sum_o sigma_o^2 H_o) C. For given hidden
weights the head has the covariance sigma_o^2 G^-1, and it moves with them by -G^-1 S.
One output gives sigma^2 times the inverse of the Gauss-Newton matrix, as in nonlinear
least squares. With Huber's loss E[psi^2] / E[psi']^2 of the residuals, psi being the
clipped one, takes the place of sigma^2 (Huber 1981, section 7.6); a likelihood has 1.
"""

import numpy as np

from skdeeptd._fit import raw_outputs
from skdeeptd._loss import Huber
from skdeeptd._network.parameters import (
    normalize,
    penalty,
    stored_jacobian,
    stored_weights,
    tangent,
)
from skdeeptd._solvers.linalg import pseudo_inverse, unit_diagonal
from skdeeptd._solvers.normal_equations import normal_equations


@np.errstate(over="ignore", invalid="ignore")
def covariances(fit, has_linear_end, most_bytes=2**32):
    """Return the covariance of the stored weights, and the noise variance, per output.

    Both are in the units of y. A covariance is NaN if there are no more samples than
    weights, and None if it would take more than a third of ``most_bytes``.

    Parameters
    ----------
    fit : Fit
    has_linear_end : bool
        Whether the last layer is linear; see ``stored_weights``.

    Returns
    -------
    list of tuple
    """
    found = []
    for outputs, spec, solution in fit.parts:
        if 3 * 8 * solution.network.n_weights**2 > most_bytes:
            found += [(None, np.nan)] * len(outputs)
        else:
            how = outputs, spec, solution, has_linear_end
            found += _of_group(fit.problem, *how)
    return found


def _of_group(problem, outputs, spec, solution, has_linear_end):
    network = normalize(solution.network)
    projection = tangent(network)
    heads = [network.head(i) for i in range(len(outputs))]
    each = [
        _head_equations(problem, o, head, spec, solution)
        for o, head in zip(outputs, heads, strict=True)
    ]
    grams = _scaled_inverse(np.array([equations.grams[0] for equations in each]))
    cross = np.array([equations.cross[0] for equations in each])
    solved = grams @ cross
    hessians = np.array([equations.hessian for equations in each])
    schurs = hessians - cross.swapaxes(1, 2) @ solved
    inverse = _scaled_inverse(projection @ schurs.sum(axis=0) @ projection)
    inverse = projection @ inverse @ projection
    parts = list(zip(outputs, each, schurs, grams, solved, strict=True))
    noises = [_noise(problem, o, spec, e, inverse, *sums) for o, e, *sums in parts]
    weighted = (np.array(noises)[:, np.newaxis, np.newaxis] * schurs).sum(axis=0)
    of_theta = inverse @ weighted @ inverse
    result = []
    for (o, e, _, G, B), noise, head in zip(parts, noises, heads, strict=True):
        crossing = -B @ of_theta
        own = noise * G - crossing @ B.T
        joint = np.block([[of_theta, crossing.T], [crossing, own]])
        weights = stored_weights(head, has_linear_end)
        to_stored = np.zeros((len(weights) + 1, len(joint)))
        to_stored[:-1, : weights.shape[1]] = weights
        if spec.fit_intercept:
            features, jacobian = e.shift
            to_stored[-1] = np.concatenate([-jacobian[0], -features, [1.0]])
        unit = _unit_of_weights(network, problem.unit[o], has_linear_end)
        to_stored *= unit[:, np.newaxis]
        variance = noise * problem.heaviest * problem.unit[o] ** 2
        result.append((to_stored @ joint @ to_stored.T, float(variance)))
    return result


def _head_equations(problem, output, network, spec, solution):
    """Return the equations of one output, those of the solution if it has one."""
    known, n_hidden = solution.equations, network.n_filters * network.n_hidden_weights
    is_alone = len(solution.network.heads) == 1
    if is_alone and known is not None and known.cross.shape[2] == n_hidden:
        return known
    rows = problem.of_outputs([output])
    how = spec.loss, spec.alpha, spec.fit_intercept
    equations = normal_equations(network, rows, *how)
    if not np.isfinite(equations.loss):
        equations = normal_equations(network, rows.with_dtype(float), *how)
    if not np.isfinite(equations.loss):
        raise FloatingPointError("the curvature of the loss overflows")
    return equations


def _scaled_inverse(matrix):
    """Return the pseudo-inverse of matrices scaled to units on their diagonals."""
    if matrix.size == 0:
        return matrix
    scaled, scale = unit_diagonal(matrix)
    scaled = pseudo_inverse(np.clip(scaled, -1, 1))
    return scaled / scale[..., :, np.newaxis] / scale[..., np.newaxis, :]


def _noise(problem, output, spec, equations, inverse, schur, G, B):
    """Return sigma^2 of a row of the heaviest weight; NaN if no rows are left."""
    network = equations.network
    n_weights = np.sum(inverse * schur) + np.sum(G * equations.grams[0])
    if spec.alpha > 0:
        n_weights -= _penalised_part(network, spec.alpha, inverse, G, B)
    left = problem.heaviest * problem.total - n_weights
    is_left = min(left, problem.n_rows - n_weights) > 1e-6  # samples
    if not spec.loss.is_quadratic and not isinstance(spec.loss, Huber):
        return 1 / problem.heaviest if is_left else np.nan
    squares = float(np.sum(equations.squares))
    if isinstance(spec.loss, Huber):
        rows, t = problem.of_outputs([output]), spec.loss.threshold
        residual = (rows.y - raw_outputs(network, rows))[:, 0]
        within = rows.weight @ (np.abs(residual) <= t) / np.sum(rows.weight)
        squares = rows.weight @ np.clip(residual, -t, t) ** 2 / within**2
    return squares / left if is_left else np.nan


def _penalised_part(network, alpha, inverse, G, B):
    """Return the weights that the penalty takes: tr(C P), P its Gauss-Newton matrix."""
    curvature, slope, norms = penalty(network)
    R, P, T = network.n_filters, network.sizes[-1], len(G)
    ridge = np.zeros(T)
    ridge[: R * P] = alpha * np.repeat(norms, P)
    taken = np.sum((G + B @ inverse @ B.T).diagonal() * ridge)
    M = network.n_hidden_weights
    for r in range(R):
        here, head = slice(r * M, (r + 1) * M), slice(r * P, (r + 1) * P)
        V = network.heads[0, r]
        taken += alpha * np.sum(inverse[here, here] * curvature[r]) * (V @ V)
        taken -= 2 * alpha * V @ (B @ inverse)[head, here] @ slope[r]
    return taken


def _unit_of_weights(network, unit, has_linear_end):
    """Return the unit of each stored weight, if that of y is ``unit``."""
    n_before = network.n_kernel_weights + network.sizes[-1] * has_linear_end
    per_filter = np.ones(n_before + 1 + len(network.biases))
    per_filter[n_before] = unit
    of_others = np.full(network.n_covariates + 1, unit)
    return np.append(np.tile(per_filter, network.n_filters), of_others)


@np.errstate(over="ignore", invalid="ignore")
def output_std(network, covariance, has_linear_end, X):
    """Return the standard deviation of output 0 of a network, (rows,), in float64."""
    by_weights = stored_jacobian(network, has_linear_end, X.astype(float, copy=False))
    variance = np.sum((by_weights @ covariance) * by_weights, axis=1)
    return np.sqrt(np.maximum(variance, 0))


def held_out_scores(
    y, mean, of_mean, of_noise, weight, most_leverage=0.999, least_rest=0.05
):
    """Return leave-one-out scores and R2 of the rows of a fit, from leverages.

    The residual of a row of leverage h in a fit without the row is about r / (1 - h). A
    row with a leverage near one is predicted by the mean. The search for a network fits
    noise too, so the squared residuals are multiplied by (1 - h)^-2, with h the mean
    leverage and 1 - h at least ``least_rest``. Networks of 8 to 40 weights, fitted to
    noise and to ten real data sets, had squared errors of new rows that were larger by
    this factor (up to h = 0.4).

    Parameters
    ----------
    y, mean : array of shape (rows, outputs)
    of_mean : array of shape (rows, outputs)
        Variance of the mean.
    of_noise : array of shape (outputs,) or (rows, outputs)
        Variance of a y of weight one.
    weight : array of shape (rows,)

    Returns
    -------
    tuple of array
        Scores, (rows, outputs): absolute residuals over their standard deviations; R2,
        (outputs,). NaN if the variances are, R2 also if y does not vary; zero and one
        for an exact fit.
    """
    share = weight / np.sum(weight)
    rest = 1 - weight[:, np.newaxis] * of_mean / np.where(
        of_noise > 0, of_noise, np.inf
    )
    center = share @ y
    baseline = (y - center) / (1 - np.minimum(share, most_leverage)[:, np.newaxis])
    has_leverage_one = rest < 1 - most_leverage
    divisor = np.where(has_leverage_one, 1, rest)
    residual = np.where(has_leverage_one, baseline, (y - mean) / divisor)
    inflation = np.maximum(np.mean(rest, axis=0), least_rest) ** -2.0
    spread = np.sqrt(of_noise + of_mean / divisor)
    scores = (
        np.sqrt(inflation) * np.abs(residual) / np.where(spread > 0, spread, np.inf)
    )
    total = share @ baseline**2
    varies = total > (8 * np.finfo(float).eps * np.abs(y).max(axis=0)) ** 2
    error = inflation * (share @ residual**2)
    return scores, 1 - error / np.where(varies, total, np.nan)


def kernel_stds(kernels, scales, covariance, n_covariates=0):
    """Return the standard deviations of kernels of unit norm, per layer (filters, d_l).

    They are infinite for a filter whose scale or kernel is zero. The part of k that
    varies in k / |k| is orthogonal to k.

    Parameters
    ----------
    kernels : list of array of shape (filters, d_l)
        Kernels times their gains.
    scales : array of shape (filters,)
    covariance : array of shape (weights, weights)
        Covariance of the stored weights of one output.
    n_covariates : int
    """
    n_filters, each = len(scales), np.arange(len(scales))
    n_weights = len(covariance) - 1 - n_covariates
    width = n_weights // n_filters
    by_filter = covariance[:n_weights, :n_weights]
    by_filter = by_filter.reshape(n_filters, width, n_filters, width)
    blocks, stds, end = by_filter[each, :, each, :], [], 0
    for k in kernels:
        begin, end = end, end + k.shape[1]
        norm = np.linalg.norm(k, axis=1, keepdims=True)
        is_learned = (norm > 0) & (scales[:, np.newaxis] != 0)
        norm = np.where(norm > 0, norm, 1)
        unit = k / norm
        across = np.eye(k.shape[1]) - unit[:, :, np.newaxis] * unit[:, np.newaxis, :]
        block = blocks[:, begin:end, begin:end]
        variance = np.sum((across @ block) * across, axis=2)
        std = np.sqrt(np.maximum(variance, 0)) / norm
        stds.append(np.where(is_learned, std, np.inf))
    return stds
